"""Where an accuracy stands among the baselines: what it shows, and what it does not.

A rate is compared by its 95% interval. If that holds blind and bag together, too few questions were
asked to tell.
"""

from collections.abc import Mapping
from enum import Enum

from gpt2v.report.analysis import Rate
from gpt2v.report.words import percent


class Standing(Enum):
    """Where a rate stands; the lowest first."""

    BELOW_CHANCE = "below chance"
    AT_CHANCE = "at chance"
    BELOW_BLIND = "below blind"
    AT_BLIND = "at blind"
    BELOW_BAG = "between blind and bag"
    AT_BAG = "at bag"
    ABOVE_BAG = "above bag"
    UNCLEAR = "unclear"
    UNKNOWN = "unknown"  # there are no baselines


_NOT_READ = (
    Standing.BELOW_CHANCE,
    Standing.AT_CHANCE,
    Standing.BELOW_BLIND,
    Standing.AT_BLIND,
)


def ends(rate: Rate) -> tuple[float, float]:
    """The interval of a rate, or the rate itself if its interval is unknown."""
    return rate.ci or (rate.value, rate.value)


def standing(rate: Rate, baselines: Mapping[str, float]) -> Standing:
    """Where a rate stands among the baselines `chance`, `blind` and `bag`, as far as known."""
    low, high = ends(rate)
    blind, bag = baselines.get("blind"), baselines.get("bag")
    if blind is None or bag is None:
        return Standing.UNKNOWN
    chance = baselines.get("chance", blind)
    if low > bag:
        return Standing.ABOVE_BAG
    if high >= bag:
        return Standing.AT_BAG if low > blind else Standing.UNCLEAR
    if low > blind:
        return Standing.BELOW_BAG
    if high >= blind:
        return Standing.AT_BLIND
    if low > chance:
        return Standing.BELOW_BLIND
    return Standing.AT_CHANCE if high >= chance else Standing.BELOW_CHANCE


def reads(rate: Rate | None, baselines: Mapping[str, float]) -> bool:
    """Whether a rate shows what is in a grid and where; true if the baselines are unknown."""
    return rate is not None and standing(rate, baselines) in (Standing.ABOVE_BAG, Standing.UNKNOWN)


def is_blind(rate: Rate, baselines: Mapping[str, float]) -> bool:
    """Whether nothing shows that the grid is read at all."""
    return standing(rate, baselines) in _NOT_READ


def remark(name: str, rate: Rate, baselines: Mapping[str, float]) -> str:
    """What a rate that is not clearly above all baselines shows; empty if it is.

    Args:
        name: what the model answers from, e.g. `text`.
    """
    where = standing(rate, baselines)
    begin = f"From {name}, the model "
    if where in (Standing.ABOVE_BAG, Standing.UNKNOWN):
        return ""
    blind, bag = percent(baselines["blind"]), percent(baselines["bag"])
    if where is Standing.UNCLEAR:
        low, high = map(percent, ends(rate))
        return (
            f"{begin}answers {low} to {high} of the questions (95% interval), which holds blind "
            f"({blind}) and bag ({bag}): too few questions to tell what it reads."
        )
    if where is Standing.AT_BAG:
        return (
            f"{begin}is not clearly above the bag baseline ({bag}): it may know which objects a "
            "grid holds, but not where they are."
        )
    if where is Standing.BELOW_BAG:
        return (
            f"{begin}is above the blind baseline ({blind}) and below the bag baseline ({bag}): it "
            "reads something of the grid, but not reliably which objects it holds."
        )
    if where is Standing.AT_BLIND:
        return (
            f"{begin}is not clearly above the blind baseline ({blind}): nothing shows that it "
            "reads the grid."
        )
    chance = baselines.get("chance", baselines["blind"])
    beside = {
        Standing.BELOW_CHANCE: f", and below chance ({percent(chance)})",
        Standing.AT_CHANCE: f", at chance ({percent(chance)})",
    }
    if chance == baselines["blind"]:
        beside = {}
    return (
        f"{begin}is below the blind baseline ({blind}){beside.get(where, '')}: it answers worse "
        "than without the grid, so it does not read it."
    )
