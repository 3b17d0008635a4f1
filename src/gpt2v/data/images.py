"""Image rendering: the composite picture of a grid, and the map from its patches to cells."""

from dataclasses import dataclass

import numpy as np

from gpt2v.data import rng
from gpt2v.data.grids import Samples
from gpt2v.data.rng import Ints
from gpt2v.data.tiles import Pixels, TileBank
from gpt2v.errors import UserError

_BACKGROUND = 128  # grey of the canvas where a grid does not fill it


@dataclass(frozen=True)
class ImageSpan:
    """The run of `<image>` placeholder positions of one picture.

    Attributes:
        cell: (N,) cell in raster order that each placeholder belongs to.
        patch: (N,) patch of the picture, in raster order, that stands there; -1 for none.
    """

    cell: Ints
    patch: Ints

    def __len__(self) -> int:
        return len(self.cell)


@dataclass(frozen=True)
class PictureGeometry:
    """The pictures that a vision tower takes, in pixels."""

    image_size: int
    patch_size: int

    def span(self, rows: int, cols: int, cell_size: int) -> ImageSpan:
        """Every patch whose centre lies in a cell of the grid, in raster order.

        Raises:
            UserError: the grid does not fit the picture.
        """
        needed = max(rows, cols) * cell_size
        if needed > self.image_size:
            raise UserError(
                f"rows, cols: a {rows}x{cols} grid of {cell_size}-pixel cells (tiles.size) needs "
                f"{needed} pixels, but the vision tower takes {self.image_size}"
            )
        side = self.image_size // self.patch_size
        centre = (np.arange(side) * self.patch_size + self.patch_size / 2) // cell_size
        row, col = (axis.astype(np.int64) for axis in np.meshgrid(centre, centre, indexing="ij"))
        inside = (row < rows) & (col < cols)
        if len(set((row * cols + col)[inside])) < rows * cols:
            raise UserError(
                f"rows, cols: cells of {cell_size} pixels (tiles.size) are smaller than the vision "
                f"tower's {self.patch_size}-pixel patches, so some cells would have no patch"
            )
        return ImageSpan((row * cols + col)[inside], np.flatnonzero(inside))


def cell_span(n_cells: int, repeat: int = 1) -> ImageSpan:
    """`repeat` placeholders for each cell, cell after cell, with no picture behind them."""
    cell = np.repeat(np.arange(n_cells), repeat)
    return ImageSpan(cell, np.full(len(cell), -1))


def patch_tiled_cells(rows: int, cols: int, patches: int) -> Ints:
    """Cell of each patch in raster order when a cell is `patches` x `patches`, (R*C*p*p,)."""
    row = np.repeat(np.arange(rows), patches)
    col = np.repeat(np.arange(cols), patches)
    return (row[:, None] * cols + col[None, :]).reshape(-1)


def compose(samples: Samples, bank: TileBank, image_size: int) -> Pixels:
    """Pictures of whole grids, cells at the top left of the canvas: (B, S, S, 3).

    The bank's augmentation belongs to the sample: its pictures are the same wherever it is shown.
    """
    batch, rows, cols = samples.tiles.shape
    size = bank.size
    keys = rng.bits(rng.keys(0, "tiles", samples.key), rows * cols)
    cells = bank.take(samples.tiles, keys.reshape(batch, rows, cols))  # (B, R, C, s, s, 3)
    grid = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * size, cols * size, 3)
    if grid.shape[1] == grid.shape[2] == image_size:
        return grid
    canvas = np.full((batch, image_size, image_size, 3), _BACKGROUND, np.uint8)
    canvas[:, : rows * size, : cols * size] = grid
    return canvas
