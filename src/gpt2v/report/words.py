"""Numbers and grids in words, as they stand on the page."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"


def percent(value: float) -> str:
    """`0.9734` -> `97.3%`; with two decimals if one decimal would give 0 or 100."""
    one = f"{100 * value:.1f}"
    if (one == "100.0" and value < 1) or (one == "0.0" and value > 0):
        return f"{100 * value:.2f}%"
    return f"{one}%"


def points(value: float) -> str:
    """A difference of two shares in percentage points: `0.029` -> `2.9`."""
    text = f"{100 * value:.1f}".replace("-", MINUS)
    return "0.0" if text == f"{MINUS}0.0" else text


def interval(ci: Sequence[float] | None) -> str:
    """`(0.95, 0.97)` -> `95.0% to 97.0%`; empty if the interval is unknown."""
    return " to ".join(map(percent, ci)) if ci else ""


def points_between(ci: Sequence[float] | None) -> str:
    """`(-0.01, 0.02)` -> `-1.0 to 2.0`, with a real minus; empty if the interval is unknown."""
    return " to ".join(map(points, ci)) if ci else ""


def p_value(value: float) -> str:
    """`0.0312` -> `0.031`; very small ones as a bound."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def shorten(text: str, limit: int) -> str:
    """The text with at most `limit` characters; a longer one ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counted(number: int, noun: str) -> str:
    """`(9000, "question")` -> `9,000 questions`."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def counted_range(numbers: Collection[int], noun: str) -> str:
    """`([96, 104], "question")` -> `96 to 104 questions`."""
    low, high = min(numbers), max(numbers)
    return counted(high, noun) if low == high else f"{low:,} to {counted(high, noun)}"


def grid_in_words(cells: Sequence[Sequence[str]]) -> str:
    """`[["bird", "cat"], ["dog", "frog"]]` -> `2x2 grid: bird, cat / dog, frog`."""
    rows = " / ".join(", ".join(row) for row in cells)
    return f"{len(cells)}x{len(cells[0])} grid: {rows}"


def difference_sentence(row: Mapping[str, Any]) -> str:
    """One difference over all questions, in a sentence."""
    more = points(abs(row["difference"]))
    of = "pictures" if row["modality"] == "image" else row["modality"]
    beyond = f"p after Holm {p_value(row['p_holm'])}"
    if row["p_holm"] >= 0.05:
        found = points(row["smallest_difference"])
        return (
            f"On {of}, {row['other']} and {row['first']} cannot be told apart ({beyond}); a "
            f"difference of {found} points would be found in four of five repetitions."
        )
    ahead, behind = (
        (row["other"], row["first"]) if row["difference"] > 0 else (row["first"], row["other"])
    )
    return f"On {of}, {ahead} is {more} points ahead of {behind} ({beyond})."


def language_sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a measurement of language without grids has found, in a sentence."""
    first = rows[0]
    if "metric" in first:
        return f"Tasks of lm-evaluation-harness: {', '.join({row['task']: None for row in rows})}."
    if "accuracy" in first:
        rates = [
            f"{percent(row['accuracy'])} {row['family']}" for row in rows if row["by"] == "family"
        ]
        return f"The good one of two sentences is more probable: {', '.join(rates)}."
    if "difference" in first:
        return " ".join(
            f"{row['other']} needs {row['difference']:+.3f} bits per byte (95% interval "
            f"{row['ci95'][0]:+.3f} to {row['ci95'][1]:+.3f}) beside {row['first']}."
            for row in rows
        )
    return f"{first['bits_per_byte']:.3f} bits per byte of {first['corpus']}."
