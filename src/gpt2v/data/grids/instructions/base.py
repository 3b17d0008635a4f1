"""What an instruction (a type of question) is: what it asks, its wordings, its answers, and how
well it can be answered without seeing where things are.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, Strings

Floats = NDArray[np.float64]
Fields = dict[str, Ints]

FIELDS = ("row", "col", "other_row", "other_col", "direction", "object")
DIRECTIONS = (" left of", " right of", " above", " below")
STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # row and column of that neighbour


@dataclass(frozen=True)
class Asked:
    """N questions of one instruction. Fields that the instruction does not use are 0."""

    grids: Grids
    grid: Ints  # (N,) which of the B grids each is about
    base: Ints  # (N,) number of the first row and column, in words
    row: Ints  # (N,)
    col: Ints
    other_row: Ints
    other_col: Ints
    direction: Ints  # index into DIRECTIONS
    object: Ints  # class

    def at(self, row: Ints, col: Ints) -> Ints:
        """Class of a cell of each question's grid, (N,)."""
        return self.grids.classes[self.grid, row, col]

    @property
    def count(self) -> Ints:
        """Cells that hold each question's object, (N,)."""
        same = self.grids.palette[self.grid] == self.object[:, None]
        return np.asarray((self.grids.counts[self.grid] * same).max(1))

    @property
    def n_cells(self) -> Ints:
        """(N,)"""
        return self.grids.n_cells[self.grid]

    @property
    def n_objects(self) -> Ints:
        """(N,)"""
        return self.grids.n_objects[self.grid]


@dataclass(frozen=True)
class Places:
    """The places that one instruction has among the questions about B grids."""

    wanted: NDArray[np.bool_]  # (B, Q) where it asks
    raster: bool  # whether its questions go in raster order; else as they are drawn

    @property
    def n(self) -> int:
        """Q, of each grid."""
        return int(self.wanted.shape[1])

    @cached_property
    def turn(self) -> Ints:
        """How many of its questions about the same grid come before each place, (B, Q)."""
        return np.asarray(np.maximum(np.cumsum(self.wanted, axis=1) - 1, 0))

    def arranged(self, first: Ints, *others: Ints) -> tuple[Ints, ...]:
        """What is drawn for each place, (B, Q) each; in raster order by the first."""
        if not self.raster:
            return first, *others
        after = np.where(self.wanted, first, np.iinfo(np.int64).max)
        order = np.take_along_axis(np.argsort(after, axis=1, kind="stable"), self.turn, axis=1)
        return tuple(np.take_along_axis(drawn, order, axis=1) for drawn in (first, *others))

    def in_turn(self, order: Ints, size: Ints) -> Ints:
        """One entry after another of each row of `order` (B, K), whose first `size` (B,) count."""
        taken = np.take_along_axis(order, self.turn % size[:, None], axis=1)
        return self.arranged(taken)[0]


class Vocabulary:
    """Pieces that answers are made of."""

    def __init__(self, table: Strings, class_names: tuple[str, ...]) -> None:
        self.table, self.class_names = table, class_names
        words = table.ids([f" {name}" for name in class_names])
        self.words = np.append(words, EMPTY)  # by class; -1 is nothing

    def numbers(self, values: Ints) -> Ints:
        """` 3`, same shape."""
        known = self.table.ids([f" {n}" for n in range(int(values.max(initial=0)) + 1)])
        return known[values]

    def choose(self, condition: NDArray[np.bool_], yes: str, no: str) -> Ints:
        """One of two strings, same shape."""
        return np.where(condition, self.table.id(yes), self.table.id(no))


class Instruction(ABC):
    """A type of question; the class's docstring explains it and ends with an example.

    Wordings are templates whose fields (`FIELDS`) each follow a space; the first is the task's own,
    and the only one without augmentation.
    """

    name: str
    wordings: ClassVar[tuple[str, ...]]  # trained on
    held_out: ClassVar[tuple[str, ...]]  # never trained on

    @property
    def every_wording(self) -> tuple[str, ...]:
        """Those that are trained on, then the held-out ones."""
        return self.wordings + self.held_out

    @abstractmethod
    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        """How many questions about a grid there may be, and are unless told; same shape as `rows`.

        They differ from each other, but for those of `exists` and `compare`, whose answers are
        balanced instead.
        """

    def smallest(self) -> int:
        """Cells that a grid must have to be asked about."""
        return 1

    @abstractmethod
    def ask(self, grids: Grids, dice: Dice, places: Places) -> Fields:
        """The fields of a question in every place, (B, Q); a place's draws do not depend on Q."""

    @abstractmethod
    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        """Pieces of each answer without its end of line, (N, A), padded with EMPTY."""

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        """Pieces of all answers that may be, (N, C), padded with EMPTY; no C: too many to list."""
        return np.zeros((len(asked.grid), 0), np.int64)

    def scored(self, asked: Asked, v: Vocabulary) -> Ints:
        """The answers whose probabilities are worth knowing; also such as may not be."""
        return self.choices(asked, v)

    @abstractmethod
    def chance(self, asked: Asked) -> Floats:
        """Accuracy of a uniform guess among the answers that may be, (N,)."""

    @abstractmethod
    def blind(self, asked: Asked) -> Floats:
        """Accuracy of the best answer without the grid, from shape, palette and question, (N,)."""

    @abstractmethod
    def bag(self, asked: Asked) -> Floats:
        """Accuracy of the best answer from how often each object is there, but not where, (N,)."""


class YesOrNo(Instruction):
    """Shared by the questions that yes or no answers."""

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        return np.tile(v.table.ids([" yes", " no"]), (len(asked.grid), 1))

    def chance(self, asked: Asked) -> Floats:
        return np.full(len(asked.grid), 0.5)


class AboutAnObject(Instruction):
    """Shared by the questions about each object of the palette in turn."""

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return n_objects

    def ask(self, grids: Grids, dice: Dice, places: Places) -> Fields:
        order = dice.order(f"{self.name}/objects", grids.palette >= 0)
        place = places.in_turn(order, grids.n_objects)
        return {"object": np.take_along_axis(grids.palette, place, axis=1)}


class AboutTheWhole(Instruction):
    """Shared by the one question about a whole grid."""

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return np.ones_like(rows)

    def ask(self, grids: Grids, dice: Dice, places: Places) -> Fields:
        return {}


def cells_in_turn(grids: Grids, dice: Dice, places: Places, purpose: str) -> Fields:
    """Different cells of each grid."""
    batch, _, cols = grids.classes.shape
    order = dice.order(purpose, grids.inside.reshape(batch, -1))
    cell = places.in_turn(order, grids.n_cells)
    return {"row": cell // cols, "col": cell % cols}


def joined(pieces: Ints, present: NDArray[np.bool_], separator: int) -> Ints:
    """Items in a row, separated: items (N, K, w) of which some are `present` (N, K) -> (N, K')."""
    items = np.where(present[..., None], pieces, EMPTY)
    first = np.cumsum(present, axis=1) == 1
    lead = np.where(present & ~first, separator, EMPTY)
    return np.concatenate([lead[..., None], items], axis=-1).reshape(len(pieces), -1)
