"""Where accuracy is lost, as far as decoders at the projector's input can tell.

Shapes: R rows of a grid, C columns of a grid.
"""

from typing import Any

import numpy as np

from gpt2v.registry import SECTIONS
from gpt2v.report import analysis, maps, plots
from gpt2v.report.analysis import Rate
from gpt2v.report.family import family_words
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.verdict import can_locate, headline, probe_row
from gpt2v.report.words import MINUS, counted_range

_ACCURACY = {True: "palette_accuracy", False: "accuracy"}  # by whether the palette is told


@SECTIONS.register("lost")
class Lost(Section):
    """Accuracy of the probe and of the model, over all cells and by cell."""

    nav, order, kinds = "Where it is lost", 20, ("demo",)

    def content(self, run: Run) -> dict[str, Any] | None:
        head = headline(run)
        if not head.probe or not head.image or not can_locate(head):
            return None
        bars = [
            plots.Bar(label, Rate(row[key], tuple(row[ci95])), colour)
            for row in head.family
            for label, key, ci95, colour in (
                (f"text {MINUS} {row['decoder']}", "below_text", "below_text_ci95", "probe"),
                (f"{row['decoder']} {MINUS} pictures", "difference", "ci95", "image"),
            )
        ]
        image = analysis.lookups(run.records, "gpt2v", "image")
        chart = plots.differences("lost", "Decoders beside the model", bars) if bars else None
        lost: dict[str, Any] = {
            "points": chart,
            "outcomes": None,
            "maps": None,
        }
        if run.probe_records is not None and len(image["sample"]):
            counts = analysis.joint_outcomes(image, run.probe_records)
            lost["outcomes"] = _outcomes(counts) if counts else None
        cells_of_probe = probe_cells(run)
        if cells_of_probe is not None and len(image["sample"]):
            model_cells = analysis.cell_accuracy(image, image["exact"])
            low = analysis.shade_floor(cells_of_probe, model_cells)
            pairs = (("probe", cells_of_probe, "Probe"), ("image", model_cells, "GPT-2v"))
            lost["low"] = low
            lost["maps"] = [
                maps.cell_map(f"lost-{colour}", title, cells, low, colour)
                for colour, cells, title in pairs
            ]
            each = counted_range(analysis.questions_by_cell(image), "question")
            lost["each"] = f"{each} to GPT-2v at each cell"
        words = family_words(head.family) if head.family else ""
        return {"lost": lost, "head": head, "family": f"{words[:1].upper()}{words[1:]}"}


def _outcomes(counts: dict[tuple[bool, bool], int]) -> dict[str, Any]:
    """The chart of `joint_outcomes`, and the number of questions."""
    names = [
        ("both right", (True, True), "lm"),
        ("only the probe right", (True, False), "image"),
        ("only the model right", (False, True), "text"),
        ("both wrong", (False, False), "bad"),
    ]
    parts = [(name, counts[key], colour) for name, key, colour in names]
    chart = plots.stacked("outcomes", "Probe and model together", parts)
    return {"chart": chart, "n": sum(counts.values())}


def probe_cells(run: Run, palette: bool = True) -> np.ndarray | None:
    """The probe's accuracy by cell (R, C), from its records or else its rows.

    None without either.

    Args:
        palette: whether it chooses among the objects of the palette; else among all classes.
    """
    table, main = run.probe_records, probe_row(run)
    if table is not None and len(table["sample"]):
        said = table["palette_prediction" if palette else "prediction"]
        return analysis.cell_accuracy(table, said == table["truth"])
    if main is None:
        return None
    same, key = ("site", "layer", "decoder", "control"), _ACCURACY[palette]
    cells = {
        (row["cell"][0], row["cell"][1]): row[key]
        for row in run.probe
        if isinstance(row["cell"], list)
        and row.get(key) is not None
        and all(row.get(name) == main.get(name) for name in same)
    }
    if not cells:
        return None
    accuracy = np.full((max(r for r, _ in cells) + 1, max(c for _, c in cells) + 1), np.nan)
    for (r, c), value in cells.items():
        accuracy[r, c] = value
    return accuracy
