"""What wrong answers about pictures are due to, and decoders beside the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2v.config.sites import Site
from gpt2v.probing.excess import stands_out
from gpt2v.registry import SECTIONS
from gpt2v.report import maps, plots
from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import counted, p_value, percent, points, points_between

_CATEGORIES = {
    "text-fails-too": ("text is answered wrong, too", "text"),
    "not-found": ("no decoder finds it", "bad"),
    "found-misread": ("a decoder finds it: misread", "image"),
    "wrong-cell": ("the object of a cell that is read in excess", "image"),
    "wrong-object": ("another listed object", "probe"),
    "not-listed": ("not on the list", "bad"),
}
_TITLES = {
    ("wrong", "why"): "Wrong answers about pictures",
    ("wrong", "what"): "What is said in place of the object",
    ("misread", "what"): "What is said where a decoder finds the object",
}
_WHERE = {
    "encoder": "every decoder at the projector's input finds it less frequently than the others, "
    "too: it is behind already there",
    "reading": "it is further behind the others than for any decoder: in the projector or the "
    "language model",
    "both": "decoders find it less frequently than the others, but it is even further behind for "
    "the model",
    "not told": "the decoders do not tell where",
}


@SECTIONS.register("attribution")
class Attribution(Section):
    """What wrong answers about pictures are due to, and decoders beside the model."""

    nav, order, kinds = "Wrong answers", 22, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        tables: Row = run.measures.get("attribution", {})
        beside: list[Row] = run.measures.get("beside", [])
        if not tables and not beside:
            return None
        found = tables.get("displacements", [])
        return {
            "diagnoses": [diagnosis_sentence(row) for row in tables.get("diagnoses", [])],
            "bars": _bars(tables.get("shares", [])),
            "map": _map(found) if found else None,
            "beyond": [_distance(row["down"], row["right"]) for row in found if stands_out(row)],
            "confusions": _confusions(tables.get("confusions", [])),
            "beside": _beside(beside),
        }


def diagnosis_sentence(row: Row) -> str:
    """A named fault, with its evidence."""
    name = row["diagnosis"]
    if name == "none":
        n = counted(int(row["n_questions"]), "wrong answer")
        return (
            f"No fault is named: {n} about pictures show none at the level that allows a false "
            "name in 5% of all measurements."
        )
    more = f"{points(row['excess'])} points"
    shown = f"95% interval {points_between(row['ci95'])}, p after Holm {p_value(row['p_holm'])}"
    beyond = f"{more} more frequently than by chance ({shown})"
    if name == "blurs-class":
        where = _WHERE.get(row["where"], row["where"])
        return f"Reads {row['class']} worse than others, by {more} ({shown}); {where}."
    if name == "confuses-classes":
        first, other = row["classes"]
        return f"Takes {first} for {other} in place of other objects {beyond}."
    if name == "reads-neighbour":
        return f"Reads the object {_distance(row['down'], row['right'])} {beyond}."
    line = "rows apart: it says objects of the same column"
    if name == "ignores-columns":
        line = "columns apart: it says objects of the same row"
    return f"Does not tell {line} {beyond}."


def _distance(down: int, right: int) -> str:
    """`(0, -1)` -> `1 column to the left`."""
    parts = []
    if down:
        parts.append(f"{counted(abs(down), 'row')} {'down' if down > 0 else 'up'}")
    if right:
        side = "right" if right > 0 else "left"
        parts.append(f"{counted(abs(right), 'column')} to the {side}")
    return " and ".join(parts)


def _bars(rows: Sequence[Row]) -> list[Chart]:
    charts = []
    for (of, by), title in _TITLES.items():
        own = [row for row in rows if (row["of"], row["by"]) == (of, by)]
        bars = []
        for row in own:
            label, colour = _CATEGORIES.get(row["category"], (row["category"], "lm"))
            bars.append(plots.Bar(label, Rate(row["share"], tuple(row["ci95"])), colour))
        if bars:
            name = f"{title}, {counted(int(own[0]['n_of']), 'question')}"
            charts.append(plots.bars(f"attribution-{of}-{by}", name, bars, {}, "share"))
    return charts


def _map(rows: Sequence[Row]) -> Chart:
    """The excess at each displacement, in percentage points."""
    down, right = (max(abs(row[key]) for row in rows) for key in ("down", "right"))
    value = np.full((2 * down + 1, 2 * right + 1), np.nan)
    for row in rows:
        value[row["down"] + down, row["right"] + right] = row["excess"]
    title = "Wrong answers by where their object is"
    return maps.offset_map("attribution-displacements", title, value, "bad", points)


def _confusions(rows: Sequence[Row]) -> Values | None:
    """The pairs that stand out."""
    heads = ("object", "is taken for", "more than by chance", "95% interval", "p (Holm)", "asked")
    lines = [
        (
            row["truth"],
            row["said"],
            points(row["excess"]),
            points_between(row["ci95"]),
            p_value(row["p_holm"]),
            f"{int(row['n_questions']):,}",
        )
        for row in rows
        if stands_out(row)
    ]
    return (
        Values("Objects that are said for others beyond chance, in points", heads, lines, 2)
        if lines
        else None
    )


def _beside(rows: Sequence[Row]) -> Values | None:
    heads = ("decoder", "site", "finds", "model says", "difference", "95% interval",
             "p (Holm)", "questions")  # fmt: skip
    lines = [
        (
            row["decoder"],
            str(Site(row["site"], row["layer"])),
            percent(row["palette_accuracy"]),
            percent(row["model_accuracy"]),
            points(row["difference"]),
            points_between(row["ci95"]),
            p_value(row["p_holm"]),
            f"{int(row['n_questions']):,}",
        )
        for row in rows
    ]
    return Values("Decoders beside the model", heads, lines, 2) if lines else None
