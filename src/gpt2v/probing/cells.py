"""Which patches belong to which cell, and the features of a cell that its patches give."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.pictures import PictureConfig
from gpt2v.config.probing import CellsConfig
from gpt2v.data.render.edges import cell_edges
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError

Floats = NDArray[np.float64]
States = NDArray[np.float32]


@dataclass(frozen=True)
class CellMap:
    """The patches of each cell, by a rule.

    Attributes:
        overlap: (n_cells, n_patches) share of each patch's area that lies in each cell.
        centre: (n_cells,) the patch that holds each cell's centre, or the nearest one; -1: it is
            not there.
        config: the rule.
        n_cols: number of columns of the grid, for messages.
        alone: whether each cell has a picture of its own.
    """

    overlap: Floats
    centre: Ints
    config: CellsConfig
    n_cols: int
    alone: bool = False

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        cell_size: int,
        picture: PictureConfig,
        geometry: PictureGeometry,
        config: CellsConfig,
    ) -> "CellMap":
        """The patches of grids of one shape, all of a picture in raster order.

        With one picture for each cell, these are the patches of all of them, one after another.

        Args:
            shape: number of rows and of columns.
            cell_size: side of a tile in pixels.
            geometry: of the pictures, divided into the patches that are meant.

        Raises:
            UserError: a cell has no patch.
        """
        multi = picture.layout == "multi"
        rows, cols = (1, 1) if multi else shape
        edges = cell_edges(rows, cols, cell_size, picture, geometry)
        down, across = (_shares(ends, geometry) for ends in (edges.rows, edges.cols))
        n = down.shape[1]
        overlap = np.einsum("ri,cj->rcij", down, across).reshape(rows * cols, n * n)
        row, col = (_middle(ends, geometry) for ends in (edges.rows, edges.cols))
        centre = (row[:, None] * n + col).reshape(-1)
        if multi:
            n_cells = shape[0] * shape[1]
            overlap = np.kron(np.eye(n_cells), overlap)
            centre = np.arange(n_cells) * n * n + centre[0]
        found = cls(overlap, centre, config, shape[1], multi)
        return found.checked()

    def among(self, patches: Ints) -> "CellMap":
        """The map for states of only some of the patches, by their numbers (n_some, ).

        Raises:
            UserError: a cell has none of them.
        """
        number = np.full(self.overlap.shape[1], -1)
        number[patches] = np.arange(len(patches))
        own = replace(self, overlap=self.overlap[:, patches], centre=number[self.centre])
        return own.checked()

    def checked(self) -> "CellMap":
        """The map itself. Raises UserError if a cell has no patch."""
        for cell in range(len(self.overlap)):
            self.patches(cell)
        return self

    def patches(self, cell: int) -> Ints:
        """The patches of a cell, in raster order.

        Raises:
            UserError: there are none.
        """
        if self.config.rule == "centre" and self.centre[cell] >= 0:
            return self.centre[cell : cell + 1]
        if self.config.rule == "centre":
            raise self._lacks(cell)
        least = self.config.threshold if self.config.rule == "concat" else 0.0
        share = self.overlap[cell]
        found = np.flatnonzero((share > 0) & (share >= least - 1e-9))
        if not len(found):
            raise self._lacks(cell)
        return found

    def _lacks(self, cell: int) -> UserError:
        row, col = divmod(cell, self.n_cols)
        share = self.overlap[cell].max(initial=0)
        where = f"the cell of row {row}, column {col}"
        if self.config.rule == "centre":
            return UserError(f"cells: no patch holds the centre of {where}; use cells.rule: mean")
        return UserError(
            f"cells: no patch lies to {self.config.threshold:.0%} in {where} ({share:.0%} at "
            "most); use a lower cells.threshold, or cells.rule: mean"
        )

    def n_features(self, width: int, cell: int | None = None) -> int:
        """The n_features of a cell, where a state has `width` numbers; None: the largest."""
        if self.config.rule != "concat":
            return width
        cells = range(len(self.overlap)) if cell is None else [cell]
        return width * max(len(self.patches(cell)) for cell in cells)

    def x(self, states: States, cell: int) -> States:
        """The features of a cell, (n_grids, n_patches, width) -> (n_grids, n_features).

        They are its patches' states side by side, or their mean, weighted with their areas in it.
        """
        patches = self.patches(cell)
        if self.config.rule != "mean":
            return np.asarray(states[:, patches].reshape(len(states), -1))
        weight = self.overlap[cell, patches].astype(np.float32)
        mean = np.einsum("gnd,n->gd", states[:, patches], weight / weight.sum())
        return np.asarray(mean, np.float32)

    @cached_property
    def facts(self) -> dict[str, object]:
        """The rule and the map, for results.json."""
        n_patches = self.overlap.shape[1]
        side = round(n_patches**0.5)
        whole = side**2 == n_patches and not self.alone
        return {
            "rule": self.config.rule,
            "threshold": self.config.threshold if self.config.rule == "concat" else None,
            "patches": [self.patches(cell).tolist() for cell in range(len(self.overlap))],
            "patches_across": side if whole else None,
            "overlap": np.round(self.overlap, 4).tolist(),
        }


def _shares(ends: Floats, geometry: PictureGeometry) -> Floats:
    """Share of each patch along one side that lies in each interval (n, 2) of pixels, (n, n_p)."""
    side = geometry.patch_size
    first = np.arange(geometry.image_size // side) * side
    low = np.maximum(ends[:, :1], first)
    high = np.minimum(ends[:, 1:], first + side)
    return np.asarray(np.maximum(high - low, 0) / side)


def _middle(ends: Floats, geometry: PictureGeometry) -> Ints:
    """The patch along one side in which the middle of each interval (n, 2) is, (n,)."""
    last = geometry.image_size // geometry.patch_size - 1
    return np.asarray(np.minimum(ends.mean(1) // geometry.patch_size, last), np.int64)
