"""How borders of vision patches cut the cells, beside how well each cell is read."""

from typing import Any

import numpy as np

from gpt2v.registry import SECTIONS
from gpt2v.report import maps, plots
from gpt2v.report.analysis import Rate
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.words import counted, percent, points, points_between

_COLOURS = {"text": "text", "image": "image", "text+image": "probe"}


@SECTIONS.register("patch-borders")
class PatchBorders(Section):
    """Accuracy of each cell in answers that list the whole grid, and the patches that cut it."""

    nav, order, kinds = "Patch borders", 42, ("eval",)

    def content(self, run: Run) -> dict[str, Any] | None:
        rows: list[Row] = run.results.get("patch_borders", [])
        rows = [row for row in rows if not run.part or row.get("part") == run.part]
        if not rows:
            return None
        vision = run.results["vision"]
        low = min(float(np.min(row["accuracy"])) for row in rows)
        drawn, charts = [], []
        for number, row in enumerate(rows):
            colour = _COLOURS[row["modality"]]
            named, title = f"{self.name}-{number}", _title(row, rows)
            drawn.append(maps.border_map(named, title, row, vision, low, colour))
            if len(row["by_pure"]) > 1:
                bars = [plots.Bar(_label(one), _rate(one), colour) for one in row["by_pure"]]
                charts.append(plots.bars(f"{named}-pure", title, bars, {}))
        return {
            "maps": drawn,
            "charts": charts,
            "low": low,
            "has_text": any(row["modality"] == "text" for row in rows),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "sentences": list(filter(None, (_sentence(row, rows) for row in rows))),
        }


def _title(row: Row, rows: list[Row]) -> str:
    """The modality, with what else tells the rows of one section apart."""
    apart = [key for key in ("part", "instruction") if len({one.get(key) for one in rows}) > 1]
    return ", ".join([*(str(row[key]) for key in apart), row["modality"]])


def _rate(one: Row) -> Rate:
    return Rate(one["accuracy"], tuple(one["ci95"]))


def _label(one: Row) -> str:
    return f"{percent(one['pure'])} in pure patches: {counted(one['n_cells'], 'cell')}"


def _sentence(row: Row, rows: list[Row]) -> str:
    """What the relation is, for one row; empty: of text, which has no patches, if there is none."""
    title = _title(row, rows)
    where = f"{title[:1].upper()}{title[1:]}: "
    if len(row["by_pure"]) == 1:
        if row["modality"] == "text":
            return ""
        (only,) = row["by_pure"]
        how = "no border cuts a cell" if only["pure"] > 1 - 1e-6 else "borders cut all cells alike"
        return f"{where}{how} ({percent(only['pure'])} of each is in pure patches)."
    if row["difference"] is None:
        return f"{where}all cells are read, or none, so nothing can be told."
    low, high = row["difference_ci95"]
    found = f"{points(row['difference'])} points ({points_between((low, high))})"
    if low <= 0 <= high:
        return f"{where}no difference between the purest cells and the rest is shown: {found}."
    how = "better" if low > 0 else "worse"
    return f"{where}the purest cells are read {how} than the rest: {found}."
