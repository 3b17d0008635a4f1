"""Do borders of vision patches explain which cells of a picture are read wrong?

A cell is pure as far as its area is in patches that show nothing else. Each cell of a grid has an
accuracy, from answers that list the whole grid, and a pure share.

Shapes: R rows of a grid, C columns of a grid.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gpt2v.data.render.edges import Edges, cell_edges
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import picture_of
from gpt2v.eval.listed import listed_cells
from gpt2v.eval.metrics import shared_by_cells
from gpt2v.eval.series import Series
from gpt2v.stats.intervals import Difference, rate_interval
from gpt2v.stats.shared import Bools, Shared

COLUMNS = ("truth", "generated")  # that the records need besides those that are always read
_SAME = 1e-6  # pure shares that differ by less are equal


def borders_of(series: Sequence[Series], tables: Sequence[pa.Table]) -> dict[str, Any]:
    """What results tell of vision patches.

    Args:
        tables: the records of each of the series.

    Returns:
        `vision`: `image_size` and `patch_size` of the vision tower; and `patch_borders`, a row as
        `patch_borders` gives it for each series of grids of one shape that are shown as pictures,
        and for each instruction whose answers list the whole grid. A series of text has one, too,
        if pictures show the same grids: text has no patches, so it tells what else differs between
        the cells. Empty: no pictures are shown, or the tower's sizes are not known.
    """
    vision: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    seen = seen_parts(series)
    for one, table in zip(series, tables, strict=True):
        geometry = one.model.geometry
        if geometry is None or (one.model.name, one.part.name) not in seen:
            continue
        vision = {"image_size": geometry.image_size, "patch_size": geometry.patch_size}
        edges = _edges_of(one, geometry)
        if edges is None:
            continue
        for instruction in table["instruction"].unique().to_pylist():
            asked = table.filter(pc.equal(table["instruction"], instruction))
            if found := patch_borders(asked, edges, geometry):
                rows.append({**one.names, "instruction": instruction, **found})
    return {key: value for key, value in (("vision", vision), ("patch_borders", rows)) if value}


def seen_parts(series: Sequence[Series]) -> set[tuple[str, str | None]]:
    """Each model whose patches are known, with each part that it sees pictures of."""
    return {
        (one.model.name, one.part.name)
        for one in series
        if one.modality != "text" and one.model.geometry is not None
    }


def _edges_of(one: Series, geometry: PictureGeometry) -> Edges | None:
    """The edges of the cells in its pictures; None: not the same in all of them, or not known."""
    data, fills = one.part.data, one.model.fills
    spec = data.spec
    picture = picture_of(spec)
    if not (isinstance(spec.rows, int) and isinstance(spec.cols, int)):
        return None
    if picture.layout == "multi":
        return None
    if fills and (spec.rows != spec.cols or not fills(data)):
        return None  # processors may cut pictures, and those that are not square change their shape
    return cell_edges(spec.rows, spec.cols, data.bank.size, picture, geometry, bool(fills))


def patch_borders(
    records: pa.Table, edges: Edges, geometry: PictureGeometry
) -> dict[str, Any] | None:
    """Accuracy of each cell beside how patch borders cut it.

    Args:
        records: of questions of one instruction about pictures of R x C grids.
        edges: where their cells lie in the pictures.

    Returns:
        None: its answers do not list the whole grid. Else `rows` and `cols`: the edges, in pixels;
        `accuracy` and `pure`, lists (R, C); `by_pure`: for each different pure share, the largest
        first, the number of such cells, and their accuracy with its 95% interval; `difference`:
        accuracy of the cells with the largest pure share minus that of all others, with its 95%
        interval, null where all cells are equally pure, or all answers right or wrong. Intervals
        are over new grids of new tiles.
    """
    pure = edges.pure(geometry)
    cells = listed_cells(records)
    if cells is None or len(cells.right) != len(records) * pure.size:
        return None
    shared = shared_by_cells(records, cells)
    own = pure.reshape(-1)[cells.number]
    counts = np.bincount(cells.number, cells.right) / len(records)
    groups = []
    for share in _different(pure.reshape(-1)):
        these = np.abs(own - share) < _SAME
        groups.append(
            {
                "pure": share,
                "n_cells": int(these.sum()) // len(records),
                "accuracy": float(cells.right[these].mean()),
                "ci95": list(rate_interval(cells.right[these], shared.of(these))),
            }
        )
    purest = np.abs(own - pure.max()) < _SAME
    return {
        "rows": edges.rows.tolist(),
        "cols": edges.cols.tolist(),
        "accuracy": counts.reshape(pure.shape).tolist(),
        "pure": pure.tolist(),
        "n_images": len(records),
        "by_pure": groups,
        **_difference(cells.right, purest, shared),
    }


def _different(shares: np.ndarray) -> list[float]:
    """The different shares, the largest first."""
    found: list[float] = []
    for share in sorted(shares.tolist(), reverse=True):
        if not found or found[-1] - share > _SAME:
            found.append(share)
    return found


def _difference(right: Bools, these: Bools, shared: Shared) -> dict[str, Any]:
    """Accuracy of some cells minus that of the others."""
    if these.all() or right.all() or not right.any():
        return {"difference": None, "difference_ci95": None}
    found = Difference.of_groups(right, these, shared)
    return {"difference": found.value, "difference_ci95": list(found.interval())}
