"""What a model answers about each cell of grids that were probed, as plain arrays.

Shapes: R rows of a grid, C columns of a grid, J questions in a flat list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpt2v.stats.shared import Bools, Ints, Shared

NO_CLASS = -1  # what is written names no class
Family = Mapping[str, Ints]  # name of a decoder -> what it names, (n_grids, R, C)
Displacement = tuple[int, int]  # rows down, columns to the right


@dataclass(frozen=True)
class Answered:
    """One question about each cell of some grids, with a model's answers.

    Attributes:
        truth: (n_grids, R, C) classes.
        said: (n_grids, R, C) classes that the model writes when it is shown the picture; `NO_CLASS`
            where it writes anything else, see `classes_said`.
        likeliest: (n_grids, R, C) the likeliest of all classes then.
        text: (n_grids, R, C) what it writes when it reads the same grids as text.
        listed: (n_grids, n_classes) which classes the prompt lists.
        index: (n_grids,) number of each grid in its data set.
        tiles: (n_grids, R, C) ids of the tiles.
        names: of the classes.
    """

    truth: Ints
    said: Ints
    likeliest: Ints
    text: Ints
    listed: Bools
    index: Ints
    tiles: Ints
    names: Sequence[str]

    @property
    def n_images(self) -> int:
        """Number of grids."""
        return len(self.truth)

    @property
    def n_cells(self) -> int:
        """Number of cells of a grid."""
        return int(np.prod(self.truth.shape[1:]))

    @cached_property
    def grid(self) -> Ints:
        """The grid of each question, from 0, (J,)."""
        return np.repeat(np.arange(self.n_images), self.n_cells)

    @cached_property
    def shared(self) -> Shared:
        """What the J questions share."""
        return Shared(self.index[self.grid], self.tiles.reshape(-1, 1))

    @cached_property
    def right(self) -> Bools:
        """Whether each answer about a picture is right, (J,)."""
        right: Bools = (self.said == self.truth).reshape(-1)
        return right

    @cached_property
    def text_right(self) -> Bools:
        """Whether each answer from text is right, (J,)."""
        right: Bools = (self.text == self.truth).reshape(-1)
        return right

    @cached_property
    def other_listed(self) -> Bools:
        """Whether each answer about a picture is a listed object, but not the right one, (J,)."""
        said = self.said.reshape(-1)
        other: Bools = ~self.right & (said != NO_CLASS) & self.listed[self.grid, said]
        return other

    @cached_property
    def n_others(self) -> Ints:
        """How many listed objects would be wrong, (J,)."""
        n_listed: Ints = self.listed.sum(1)[self.grid]
        return n_listed - 1

    def displacements(self) -> Iterator[Displacement]:
        """All displacements within a grid but none, in raster order."""
        rows, cols = self.truth.shape[1:]
        for down in range(1 - rows, rows):
            for right in range(1 - cols, cols):
                if (down, right) != (0, 0):
                    yield down, right

    def at(self, displacement: Displacement) -> Ints:
        """The class so far from the cell of each question, (J,); `NO_CLASS` outside the grid."""
        rows, cols = self.truth.shape[1:]
        row, col = (
            n + by for n, by in zip(np.indices((rows, cols)), displacement, strict=True)
        )  # (R, C) each
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        there = self.truth[:, np.where(inside, row, 0), np.where(inside, col, 0)]
        classes: Ints = np.where(inside, there, NO_CLASS).reshape(-1)
        return classes


def classes_said(generated: Sequence[str], exact: Bools, truth: Ints, names: Sequence[str]) -> Ints:
    """The class of each written answer; `NO_CLASS`: the words are no class, or not exactly right.

    Args:
        generated: what was written, J texts.
        exact: (J,) whether it is the right answer and nothing else.
        truth: (J,) classes.
        names: of the classes.
    """
    number = {name: i for i, name in enumerate(names)}
    said = np.array([number.get(words.strip(), NO_CLASS) for words in generated], np.int64)
    said = np.where(said == truth, NO_CLASS, said)
    return np.where(exact, truth, said)
