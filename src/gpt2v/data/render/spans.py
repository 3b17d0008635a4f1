"""Spans: the cell, patch and picture that each image placeholder of a grid stands for.

Shapes: M vision tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpt2v.config.pictures import PictureConfig
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError


@dataclass(frozen=True)
class ImageSpan:
    """The `<image>` placeholders of one grid, in order.

    Attributes:
        cell: (M,) cell in raster order that the placeholder belongs to; -1 for the whole grid.
        patch: (M,) patch of the picture, in raster order, that it stands for; -1 for no patch or
            the class token.
        picture: (M,) index of its picture among those of the grid.
        line: (M,) line of text that the placeholder is on.
    """

    cell: Ints
    patch: Ints
    picture: Ints
    line: Ints

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def n_pictures(self) -> int:
        """Number of pictures of the grid."""
        return int(self.picture.max()) + 1


Spans = Callable[[int, int], ImageSpan]  # (rows, cols) -> the span of such a grid


@dataclass(frozen=True)
class PictureGeometry:
    """The pictures that a vision tower takes, in pixels."""

    image_size: int
    patch_size: int
    class_token: bool = False  # whether a class token comes before the patches of a picture

    @property
    def n_patches(self) -> int:
        """Number of patches of a whole picture."""
        return (self.image_size // self.patch_size) ** 2

    def span(
        self, rows: int, cols: int, cell_size: int, picture: PictureConfig | None = None
    ) -> ImageSpan:
        """The patches whose centres are inside the grid's picture, in raster order, each with the
        cell that it is in or nearest to. With one picture for each cell, picture after picture.

        Args:
            cell_size: side of a tile in pixels, which is that of a cell unless `picture.cell` is
                set.

        Raises:
            UserError: the grid does not fit the picture, or some cell would have no patch.
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
                f"{needed} pixels, but the vision tower takes {self.image_size}; make the grid "
                "smaller or set picture.resize"
            )
        # In units of 1 / (2 image_size) pixels of the picture, so that all numbers are whole.
        unit = 2 * self.image_size
        across = needed if picture.resize else self.image_size
        centre = (2 * np.arange(self.image_size // self.patch_size) + 1) * self.patch_size * across
        pitch = (cell + picture.gap) * unit
        index = (centre - picture.border * unit + picture.gap * unit // 2) // pitch
        shown = [centre < max(side * unit, centre[0] + 1) for side in (height, width)]
        inside = np.ix_(*shown)  # a picture thinner than half a patch still has a row of patches
        row, col = np.clip(index, 0, rows - 1), np.clip(index, 0, cols - 1)
        cells = (row[:, None] * cols + col)[inside].reshape(-1)
        if not picture.resize and len(set(cells.tolist())) < rows * cols:
            raise UserError(
                f"rows, cols: cells of {cell} pixels (tiles.size) are smaller than the vision "
                f"tower's {self.patch_size}-pixel patches, so some cells would have no patch"
            )
        patch = np.arange(len(centre) ** 2).reshape(len(centre), -1)[inside].reshape(-1)
        if self.class_token:
            cells, patch = (np.concatenate([[-1], entries]) for entries in (cells, patch))
        return ImageSpan(cells, patch, np.zeros_like(cells), np.zeros_like(cells))


def natural_size(rows: int, cols: int, cell: int, picture: PictureConfig) -> tuple[int, int]:
    """Height and width in pixels of a grid's picture before any resizing."""
    height, width = (2 * picture.border + n * cell + (n - 1) * picture.gap for n in (rows, cols))
    return height, width


def filling_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Height and width of a picture that is scaled until its longer side is `image_size` pixels."""
    longer = max(height, width)
    height, width = (
        max(1, (2 * side * image_size + longer) // (2 * longer)) for side in (height, width)
    )
    return height, width


def cell_span(n_cells: int, repeat: int = 1) -> ImageSpan:
    """`repeat` placeholders for each cell, cell after cell, without pictures."""
    cell = np.repeat(np.arange(n_cells), repeat)
    return ImageSpan(cell, np.full(len(cell), -1), np.zeros_like(cell), np.zeros_like(cell))


def patch_tiled_cells(rows: int, cols: int, patches: int) -> Ints:
    """Cell of each patch in raster order, (rows * cols * patches**2,).

    Args:
        patches: side of a cell in patches.
    """
    row = np.repeat(np.arange(rows), patches)
    col = np.repeat(np.arange(cols), patches)
    return (row[:, None] * cols + col[None, :]).reshape(-1)
