"""Whether the model uses what a decoder finds: its answers when a cell's class is changed."""

from collections.abc import Mapping
from typing import Any

from gpt2v.config.sites import Site
from gpt2v.registry import SECTIONS
from gpt2v.report.chart import Chart
from gpt2v.report.checked import Row
from gpt2v.report.grouped import grouped_bars
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.sites import in_order, rate_of, site_of
from gpt2v.report.words import percent, points

_CHANGES = {
    "none": "no change",
    "erase": "class erased",
    "random-erase": "random, as erased",
    "move": "moved to another class",
    "random-move": "random, as moved",
}
_RATES = {
    "says what the cell shows": ("accuracy", "ci95", "image"),
    "says what it is moved to": ("followed", "followed_ci95", "bad"),
}


@SECTIONS.register("use")
class Use(Section):
    """Whether answers follow when the class of a cell is erased or moved."""

    nav, order, kinds = "Use", 29, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        rows = [row for row in run.measures.get("causal", []) if row["cell"] == "all"]
        by_site = {
            site: {row["change"]: row for row in rows if site_of(row) == site}
            for site in in_order(rows)
        }
        if not by_site:
            return None
        return {
            "sentences": [use_sentence(site, own) for site, own in by_site.items()],
            "n_images": max(int(row["n_images"]) for row in rows),
            "charts": [_chart(number, *one) for number, one in enumerate(by_site.items())],
        }


def use_sentence(site: Site, rows: Mapping[str, Row]) -> str:
    """Whether the model uses what stands at a site, in a sentence.

    It is said only if the interval of a change minus its random control is on that side of 0.

    Args:
        rows: by change.
    """
    if any("minus_random" not in rows.get(change, {}) for change in ("erase", "move")):
        return f"{site}: a class was not both erased and moved, so no use can be told."
    harm = points(-rows["erase"]["minus_random"])
    erased = rows["erase"]["minus_random_ci95"][1] < 0
    moved = rows["move"]["followed_minus_random_ci95"][0] > 0
    said = percent(rows["move"]["followed"])
    by_chance = percent(rows["move"]["followed"] - rows["move"]["followed_minus_random"])
    follow = f"{said} of the answers are the class that the cell is moved to ({by_chance} with a "
    follow += "random change of the same size)"
    uses = f"{site}: the model uses the class that stands there"
    if erased and moved:
        return (
            f"{uses}. {follow}, and erasing the class costs {harm} points more than random "
            "directions."
        )
    if moved:
        return (
            f"{uses}: {follow}. Erasing it does no more harm than random directions, as far as can "
            "be told: the class may stand elsewhere too."
        )
    if erased:
        return (
            f"{site}: erasing the class costs {harm} points more than random directions, but "
            f"answers do not clearly follow a move: {follow}."
        )
    return f"{site}: nothing shows that the model uses the class that stands there: {follow}."


def _chart(number: int, site: Site, rows: Mapping[str, Row]) -> Chart:
    groups = {
        _CHANGES.get(change, change): {
            name: rate_of(rows[change], key, ci) for name, (key, ci, _) in _RATES.items()
        }
        for change in dict.fromkeys([*_CHANGES, *rows])
        if change in rows
    }
    colours = {name: colour for name, (_, _, colour) in _RATES.items()}
    return grouped_bars(f"use-{number}", str(site), "change", groups, colours)
