"""Where things are in pictures: the span that says which cell, patch and picture each image
placeholder of a grid stands for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpt2v.config.pictures import PictureConfig
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError


@dataclass(frozen=True)
class ImageSpan:
    """The run of `<image>` placeholder positions of one grid.

    Attributes:
        cell: (N,) cell in raster order that each placeholder belongs to; -1 for the whole grid.
        patch: (N,) patch of its picture, in raster order, that stands there; -1 for none, or for
            the class token.
        picture: (N,) which of the grid's pictures the patch is of.
        line: (N,) line of text that the placeholder stands on.
    """

    cell: Ints
    patch: Ints
    picture: Ints
    line: Ints

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def n_pictures(self) -> int:
        return int(self.picture.max()) + 1


Spans = Callable[[int, int], ImageSpan]  # by rows and columns


@dataclass(frozen=True)
class PictureGeometry:
    """The pictures that a vision tower takes, in pixels."""

    image_size: int
    patch_size: int
    class_token: bool = False  # whether one more token comes before a picture's patches

    @property
    def n_patches(self) -> int:
        """Patches of a whole picture."""
        return (self.image_size // self.patch_size) ** 2

    def span(
        self, rows: int, cols: int, cell_size: int, picture: PictureConfig | None = None
    ) -> ImageSpan:
        """Every patch whose centre lies in the grid's picture, in raster order, and the cell that
        it is in or nearest to. With one picture for each cell, picture after picture.

        Args:
            cell_size: side of a tile in pixels, where `picture` gives cells no size of their own.

        Raises:
            UserError: the grid does not fit the picture.
        """
        picture = picture or PictureConfig()
        if picture.layout == "multi":
            alone = picture.model_copy(update={"layout": "composite"})
            one, n = self.span(1, 1, cell_size, alone), rows * cols
            number = np.repeat(np.arange(n), len(one))
            return ImageSpan(number, np.tile(one.patch, n), number, number // cols)
        cell = picture.cell or cell_size
        height, width = natural_size(rows, cols, cell, picture)
        needed = max(height, width)
        if not picture.resize and needed > self.image_size:
            raise UserError(
                f"rows, cols: a {rows}x{cols} grid of {cell}-pixel cells (tiles.size) needs "
                f"{needed} pixels, but the vision tower takes {self.image_size}; or set "
                "picture.resize"
            )
        # In units of 1 / (2 image_size) pixels of the picture, so that all is whole numbers.
        unit = 2 * self.image_size
        across = needed if picture.resize else self.image_size
        centre = (2 * np.arange(self.image_size // self.patch_size) + 1) * self.patch_size * across
        pitch = (cell + picture.gap) * unit
        place = (centre - picture.border * unit + picture.gap * unit // 2) // pitch
        shown = [centre < max(side * unit, centre[0] + 1) for side in (height, width)]
        inside = np.ix_(*shown)  # a picture thinner than half a patch has a row of patches still
        row, col = np.clip(place, 0, rows - 1), np.clip(place, 0, cols - 1)
        cells = (row[:, None] * cols + col)[inside].reshape(-1)
        if not picture.resize and len(set(cells.tolist())) < rows * cols:
            raise UserError(
                f"rows, cols: cells of {cell} pixels (tiles.size) are smaller than the vision "
                f"tower's {self.patch_size}-pixel patches, so some cells would have no patch"
            )
        patch = np.arange(len(centre) ** 2).reshape(len(centre), -1)[inside].reshape(-1)
        if self.class_token:
            cells, patch = (np.concatenate([[-1], found]) for found in (cells, patch))
        return ImageSpan(cells, patch, np.zeros_like(cells), np.zeros_like(cells))


def natural_size(rows: int, cols: int, cell: int, picture: PictureConfig) -> tuple[int, int]:
    """Height and width in pixels of a grid's picture as it is drawn."""
    height, width = (2 * picture.border + n * cell + (n - 1) * picture.gap for n in (rows, cols))
    return height, width


def cell_span(n_cells: int, repeat: int = 1) -> ImageSpan:
    """`repeat` placeholders for each cell, cell after cell, with no picture behind them."""
    cell = np.repeat(np.arange(n_cells), repeat)
    return ImageSpan(cell, np.full(len(cell), -1), np.zeros_like(cell), np.zeros_like(cell))


def patch_tiled_cells(rows: int, cols: int, patches: int) -> Ints:
    """Cell of each patch in raster order when a cell is `patches` x `patches`, (R*C*p*p,)."""
    row = np.repeat(np.arange(rows), patches)
    col = np.repeat(np.arange(cols), patches)
    return (row[:, None] * cols + col[None, :]).reshape(-1)
