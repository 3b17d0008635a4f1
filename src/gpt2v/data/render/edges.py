"""Where the cells of a grid lie in the picture that a vision tower takes, and how patches cut them.

Shapes: R rows of a grid, C columns of a grid.
"""

from dataclasses import dataclass

import numpy as np

from gpt2v.config.pictures import PictureConfig
from gpt2v.data.grids.instructions.base import Floats
from gpt2v.data.render.spans import PictureGeometry, filling_size, natural_size

_NEAR = 1e-6  # of a patch: edges so near to a border lie on it


@dataclass(frozen=True)
class Edges:
    """First and last edge of each row and column, in pixels of the vision tower's picture.

    Attributes:
        rows: (R, 2), from the top.
        cols: (C, 2), from the left.
        size: height and width of what shows the grid, borders included, in the same pixels.
    """

    rows: Floats
    cols: Floats
    size: tuple[int, int]

    def pure(self, geometry: PictureGeometry) -> Floats:
        """Share of the area of each cell that is in patches which lie wholly within it, (R, C).

        It is 1 if all edges of the cell lie on borders of patches.
        """
        down, across = (_whole(ends, geometry) for ends in (self.rows, self.cols))
        return down[:, None] * across


def cell_edges(
    rows: int,
    cols: int,
    cell_size: int,
    picture: PictureConfig,
    geometry: PictureGeometry,
    fills: bool = False,
) -> Edges:
    """The edges of the cells of a grid that is drawn as one picture.

    Args:
        cell_size: side of a tile in pixels, which is that of a cell unless `picture.cell` is set.
        geometry: of the pictures that the vision tower takes.
        fills: whether the picture is always scaled to the tower's size, as other models'
            processors do; else only with `picture.resize`.
    """
    cell = picture.cell or cell_size
    sides = natural_size(rows, cols, cell, picture)
    scaled = filling_size(*sides, geometry.image_size) if fills or picture.resize else sides
    ends = []
    for n, before, after in zip((rows, cols), sides, scaled, strict=True):
        first = picture.border + np.arange(n) * (cell + picture.gap)
        ends.append(np.stack([first, first + cell], axis=1) * after / before)
    down, across = ends
    return Edges(down, across, scaled)


def _whole(ends: Floats, geometry: PictureGeometry) -> Floats:
    """Share of each interval (n, 2) that whole patches within it cover, (n,)."""
    side = geometry.patch_size
    last = np.minimum(ends[:, 1] / side, geometry.image_size // side)
    n_patches = np.floor(last + _NEAR) - np.ceil(ends[:, 0] / side - _NEAR)
    share: Floats = np.maximum(n_patches, 0) * side / (ends[:, 1] - ends[:, 0])
    return np.minimum(share, 1.0)
