"""Which patches of a picture belong to each cell, where decoders read.

Shapes: R rows of a grid, C columns of a grid.
"""

from typing import Any

import numpy as np

from gpt2v.registry import SECTIONS
from gpt2v.report import maps
from gpt2v.report.chart import Chart
from gpt2v.report.checked import Row
from gpt2v.report.read import Run
from gpt2v.report.section import Section
from gpt2v.report.verdict import probe_row
from gpt2v.report.words import counted_range, percent

_MOST = 1024  # patches of a map
_RULES = {
    "concat": "all patches that lie in a cell to {threshold} or more are read for it, side by side",
    "mean": "the mean of all patches that a cell touches, weighted with their areas in it, is read",
    "centre": "the patch that holds the centre of a cell is read for it",
}


@SECTIONS.register("cell-patches")
class CellPatches(Section):
    """Which patches are read for each cell, and how much of them lies in it."""

    nav, order, kinds = "Cells and patches", 26, ("probe",)

    def content(self, run: Run) -> dict[str, Any] | None:
        if not run.cell_maps:
            return None
        site = str((probe_row(run) or {}).get("site"))
        site = site if site in run.cell_maps else next(iter(run.cell_maps))
        own: Row = run.cell_maps[site]
        rule: str = own["rule"]
        if rule in _RULES:
            rule = _RULES[rule].format(threshold=percent(own["threshold"] or 0))
        chart = _map(own, _n_cols(run))
        return {
            "site": site,
            "rule": f"{rule[:1].upper()}{rule[1:]}",
            "each": counted_range([len(patches) for patches in own["patches"]], "patch"),
            "n": len(own["overlap"][0]),
            "unread": len(own["overlap"][0]) - len(set().union(*own["patches"])),
            "others": sum(one != own for one in run.cell_maps.values()),
            "chart": chart,
        }


def _n_cols(run: Run) -> int:
    """The number of columns of the grids."""
    return max((row["cell"][1] + 1 for row in run.probe if row["cell"] != "all"), default=1)


def _map(own: Row, n_cols: int) -> Chart | None:
    """The map of a picture; None if it is no picture of the whole grid, or has too many patches."""
    overlap, across = np.array(own["overlap"], float), int(own["patches_across"] or 0)
    n_cells, n_patches = overlap.shape
    if across < 1 or n_patches > _MOST or n_patches % across or n_cells % n_cols:
        return None
    share = overlap.reshape(n_cells, -1, across)
    in_grid = (share > 0).reshape(-1, n_cols, *share.shape[1:])  # (R, C, n_down, n_across)
    rows, cols = (np.asarray(in_grid.any(axis)) for axis in (3, 2))
    if (rows != rows[:, :1]).any() or (cols != cols[:1]).any():
        return None  # cells of a row are at other heights: these are patches of several pictures
    title = "Patches by the cell that they are read for"
    return maps.patch_map("cell-patches", title, share, own["patches"], n_cols)
