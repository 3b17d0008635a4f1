"""Count and draw the attention of answers' positions, which `eval --attention` keeps.

Attention is the mean over heads. Questions are those that name one cell.

Shapes: R rows of a grid, C columns of a grid.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from gpt2v.report.chart import Chart, Values
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import percent

PLACES = {  # where attention goes -> its colour
    "the cell": "image",
    "its row": "text",
    "its column": "lm",
    "other cells": "probe",
    "words": "rule",
    "class token": "bad",
}


def about_one_cell(table: pa.Table, modality: str) -> pa.Table:
    """The rows of questions that name one cell, in one modality."""
    row, col, other = (pc.field(name) for name in ("row", "col", "other_row"))
    named = row.is_valid() & col.is_valid() & other.is_null()
    return table.filter((pc.field("modality") == modality) & named)


def by_place(table: pa.Table) -> dict[str, np.ndarray]:
    """Mean attention on each of `PLACES`, (n_layers,); in each layer they add up to 1.

    The cells of its row and column are the other ones. What is on no word and on no cell is on
    class tokens.

    Args:
        table: of `about_one_cell`, at least one row.
    """
    layers = int(pc.max(table["layer"]).as_py()) + 1
    sums = {place: np.zeros(layers) for place in PLACES}
    for row in table.to_pylist():
        cells, layer = _cells(row), row["layer"]
        of_row, of_col = cells[row["row"]].sum(), cells[:, row["col"]].sum()
        cell = cells[row["row"], row["col"]]
        shares = {
            "the cell": cell,
            "its row": of_row - cell,
            "its column": of_col - cell,
            "other cells": cells.sum() - of_row - of_col + cell,
            "words": row["words"],
        }
        shares["class token"] = max(1 - sum(shares.values()), 0.0)
        for place, share in shares.items():
            sums[place][layer] += share
    n = len(table) / layers
    return {place: total / n for place, total in sums.items()}


def around(table: pa.Table, layer: int) -> np.ndarray:
    """Mean attention of one layer by distance from the cell, (2 R - 1, 2 C - 1).

    The cell is in the middle. A distance that occurs in some grids only is a mean over these.
    """
    n_rows, n_cols = (int(pc.max(table[name]).as_py()) for name in ("rows", "cols"))
    sums = np.zeros((2 * n_rows - 1, 2 * n_cols - 1))
    counts = np.zeros_like(sums)
    for row in table.filter(pc.field("layer") == layer).to_pylist():
        cells = _cells(row)
        top, left = n_rows - 1 - row["row"], n_cols - 1 - row["col"]
        here = np.s_[top : top + len(cells), left : left + cells.shape[1]]
        sums[here] += cells
        counts[here] += 1
    mean = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=mean, where=counts > 0)
    return mean


def _cells(row: Mapping[str, Any]) -> np.ndarray:
    """Attention on each cell, (R, C)."""
    return np.array(row["cells"], np.float64).reshape(row["rows"], row["cols"])


def place_bars(name: str, title: str, places: Mapping[str, np.ndarray]) -> Chart:
    """A bar for each layer, of the shares of each place."""
    some = {place: shares for place, shares in places.items() if shares.max() >= 5e-4}
    n_layers = len(next(iter(places.values())))
    with style():
        figure = Figure(figsize=(WIDTH, 0.8 + 0.3 * n_layers), layout="constrained")
        axes = figure.add_subplot(xlim=(0, 1), ylim=(n_layers - 0.4, -0.6))
        left = np.zeros(n_layers)
        for place, shares in some.items():
            axes.barh(
                range(n_layers), shares, left=left, height=0.6, label=place,
                color=STAND_IN[PLACES[place]],
            )  # fmt: skip
            left += shares
        axes.set_yticks(range(n_layers), [f"layer {layer}" for layer in range(n_layers)])
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.legend(
            loc="outside upper left", ncols=3, fontsize=8.5, handlelength=1, columnspacing=1.2
        )
        svg = to_svg(figure, name, f"{title}: {', '.join(some)}, of {n_layers} layers")
    table = [
        (f"layer {layer}", *(percent(float(shares[layer])) for shares in some.values()))
        for layer in range(n_layers)
    ]
    return Chart(title, svg, Values(title, ("", *some), table))


def heat_map(name: str, row: Mapping[str, Any], files: Sequence[bytes], full: float) -> Chart:
    """The attention of one question over the picture of its grid; a frame marks the cell.

    Args:
        row: of attention.parquet.
        files: PNG files: of the grid, or of each cell.
        full: attention of the fullest colour.
    """
    picture, on_pixels = _joined(files, row["cols"]), heat_of(row)
    height, width = on_pixels.shape
    extent = (0, width, height, 0)
    title = row["question"].removesuffix(" A:")
    with style():
        figure = Figure(figsize=(2.2, 2.2 * height / width), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent)
        heat = np.zeros((height, width, 4))
        heat[..., 0], heat[..., 1] = 1.0, 0.25
        heat[..., 3] = 0.75 * np.clip(on_pixels / full, 0, 1)
        axes.imshow(heat, extent=extent, interpolation="nearest")
        left, top, right, bottom = frame_of(row)
        axes.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, fill=False, lw=2, color=STAND_IN["text"]
            )
        )  # fmt: skip
        axes.set_axis_off()
        cells = _cells(row)
        on_cell = percent(float(cells[row["row"], row["col"]]))
        svg = to_svg(figure, name, f"{title} attention on the cell {on_cell}", enlarged=1.2)
    heads = ("", *(f"column {col}" for col in range(row["cols"])))
    table = [
        (f"row {number}", *(percent(float(share)) for share in line))
        for number, line in enumerate(cells)
    ]
    caption = f"Grid {row['sample']}, {title} Attention on each cell, layer {row['layer']}"
    return Chart(title, svg, Values(caption, heads, table))


def heat_of(row: Mapping[str, Any]) -> np.ndarray:
    """Attention on the patch of each pixel of the picture, (height, width); 0: it is in no patch.

    With one picture for each cell, these stand side by side as in the grid. Pixels are those of the
    vision tower's picture.

    Args:
        row: of attention.parquet.
    """
    weights = np.array(row["patches"]).reshape(-1, row["patches_across"])
    patch_of = []
    for n, side, n_pictures in zip(
        weights.shape, (row["height"], row["width"]), _pictures(row), strict=True
    ):
        own = n // n_pictures  # patches of one picture
        patch = np.arange(side) // row["patch_size"]
        number = np.arange(n_pictures)[:, None] * own + patch
        patch_of.append(np.where(patch < own, number, n).ravel())
    return np.pad(weights, (0, 1))[np.ix_(*patch_of)]


def frame_of(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of the cell that is asked about, in pixels of `heat_of`."""
    picture_row, r = divmod(row["row"], len(row["row_edges"]))
    picture_col, c = divmod(row["col"], len(row["col_edges"]))
    top, bottom = (edge + picture_row * row["height"] for edge in row["row_edges"][r])
    left, right = (edge + picture_col * row["width"] for edge in row["col_edges"][c])
    return left, top, right, bottom


def _pictures(row: Mapping[str, Any]) -> tuple[int, int]:
    """How many pictures of a grid stand below each other, and side by side."""
    return row["rows"] // len(row["row_edges"]), row["cols"] // len(row["col_edges"])


def _joined(files: Sequence[bytes], n_cols: int) -> np.ndarray:
    """The grey levels of a grid's picture, or of the pictures of its cells side by side."""
    each = [np.asarray(Image.open(io.BytesIO(file)).convert("L")) for file in files]
    n_cols = n_cols if len(each) > 1 else 1
    lines = [np.concatenate(each[i : i + n_cols], axis=1) for i in range(0, len(each), n_cols)]
    return np.concatenate(lines)
