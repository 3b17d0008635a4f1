"""The base of all instructions (types of questions): what one asks, its wordings, its answers, and
how well it can be answered without knowing where the objects are.

Shapes: B samples of a batch, R rows of a grid, C columns of a grid, Q questions about a grid,
J questions in a flat list, A choices of a question, K text pieces in a row.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.grids.numbering import numbers_of
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, Strings

Floats = NDArray[np.float64]
Fields = dict[str, Ints]

FIELDS = ("row", "col", "other_row", "other_col", "direction", "object", "numbering")
DIRECTIONS = (" left of", " right of", " above", " below")
STEPS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # row and column step to the cell in that direction


@dataclass(frozen=True)
class Asked:
    """J questions of one instruction. Fields that the instruction does not use are 0."""

    grids: Grids
    grid: Ints  # (J,) index of the grid that each question is about
    base: Ints  # (J,) number of the first row and column in words
    row: Ints  # (J,)
    col: Ints  # (J,)
    other_row: Ints  # (J,)
    other_col: Ints  # (J,)
    direction: Ints  # (J,) index into DIRECTIONS
    object: Ints  # (J,) class
    numbering: Ints  # (J,) of the palette's objects, see `numbering`

    def at(self, row: Ints, col: Ints) -> Ints:
        """Class of the cell (row, col) of each question's grid, (J,)."""
        return self.grids.classes[self.grid, row, col]

    def only(self, row: Ints, col: Ints) -> NDArray[np.bool_]:
        """Whether each cell of each question's grid is (row, col), (J, R, C)."""
        rows, cols = np.indices(self.grids.classes.shape[1:])
        here: NDArray[np.bool_] = (rows == row[:, None, None]) & (cols == col[:, None, None])
        return here

    @property
    def count(self) -> Ints:
        """Number of cells that hold each question's object, (J,)."""
        same = self.grids.palette[self.grid] == self.object[:, None]
        return np.asarray((self.grids.counts[self.grid] * same).max(1))

    @property
    def numbers(self) -> Ints:
        """The number of each object of the palette, (J, max_objects); -1 past its end."""
        return numbers_of(self.numbering, self.grids.palette[self.grid])

    @property
    def n_cells(self) -> Ints:
        """Number of cells of each question's grid, (J,)."""
        return self.grids.n_cells[self.grid]

    @property
    def n_objects(self) -> Ints:
        """Number of objects in the palette of each question's grid, (J,)."""
        return self.grids.n_objects[self.grid]


@dataclass(frozen=True)
class Slots:
    """The slots of one instruction among the questions about B grids."""

    asked_here: NDArray[np.bool_]  # (B, Q) whether the question in this slot is the instruction's
    raster: bool  # whether its questions are in raster order; else in the order of their draws

    @property
    def n(self) -> int:
        """Q, the number of slots of each grid."""
        return int(self.asked_here.shape[1])

    @cached_property
    def turn(self) -> Ints:
        """Number of its questions about the same grid that come before each slot, (B, Q)."""
        return np.asarray(np.maximum(np.cumsum(self.asked_here, axis=1) - 1, 0))

    def arranged(self, first: Ints, *others: Ints) -> tuple[Ints, ...]:
        """The draws for each slot, arrays (B, Q); in raster order they are sorted by `first`."""
        if not self.raster:
            return first, *others
        after = np.where(self.asked_here, first, np.iinfo(np.int64).max)
        order = np.take_along_axis(np.argsort(after, axis=1, kind="stable"), self.turn, axis=1)
        return tuple(np.take_along_axis(drawn, order, axis=1) for drawn in (first, *others))

    def in_turn(self, order: Ints, size: Ints) -> Ints:
        """The entries of each row of `order`, one for each slot in turn, (B, Q).

        Args:
            order: (B, n_entries).
            size: (B,) number of entries of each row that are used; then they repeat.
        """
        taken = np.take_along_axis(order, self.turn % size[:, None], axis=1)
        return self.arranged(taken)[0]


class Vocabulary:
    """The text pieces of answers."""

    def __init__(self, table: Strings, class_names: tuple[str, ...]) -> None:
        self.table, self.class_names = table, class_names
        words = table.ids([f" {name}" for name in class_names])
        self.words = np.append(words, EMPTY)  # by class; class -1 gives EMPTY

    def numbers(self, values: Ints) -> Ints:
        """The piece ` 3` of each number 3, in the shape of `values`."""
        known = self.table.ids([f" {n}" for n in range(int(values.max(initial=0)) + 1)])
        return known[values]

    def choose(self, condition: NDArray[np.bool_], yes: str, no: str) -> Ints:
        """The piece of `yes` where the condition holds, else that of `no`, in its shape."""
        return np.where(condition, self.table.id(yes), self.table.id(no))


class Instruction(ABC):
    """A type of question. The docstring of each class explains it and ends with an example.

    Wordings are templates. Each of their fields (`FIELDS`) follows a space. The first wording is
    the task's own, and the only one without augmentation.
    """

    name: str
    wordings: ClassVar[tuple[str, ...]]  # trained on
    held_out: ClassVar[tuple[str, ...]]  # never trained on
    expected: ClassVar[str] = "the answer"  # what an answer is, for models that are told it
    asks_blindly: ClassVar[bool] = (
        False  # whether what is asked never depends on the cells' objects
    )
    most_objects: ClassVar[int | None] = None  # that a palette may have; None: any number

    @property
    def every_wording(self) -> tuple[str, ...]:
        """The wordings that are trained on, then the held-out ones."""
        return self.wordings + self.held_out

    @cached_property
    def named(self) -> frozenset[str]:
        """The fields that the words of a question name."""
        return frozenset(re.findall(r"\{(\w+)\}", self.wordings[0]))

    @abstractmethod
    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        """Largest number of questions about a grid, in the shape of `rows`.

        It is also the default number. The questions differ from each other, except those of
        `exists` and `compare`, whose answers are balanced instead.
        """

    def completed(self, fields: dict[str, int]) -> dict[str, int]:
        """The fields of a question that was read, with those that its words do not name."""
        return fields

    def smallest(self) -> int:
        """Minimum number of cells a grid needs for this instruction."""
        return 1

    @abstractmethod
    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        """Draw a question's fields for every slot, (B, Q). A slot's draws do not depend on Q."""

    @abstractmethod
    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        """Pieces of each answer without its end of line, (J, K), padded with EMPTY."""

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        """Pieces of all possible answers, (J, A), padded with EMPTY; A is 0 if too many."""
        return np.zeros((len(asked.grid), 0), np.int64)

    def scored(self, asked: Asked, v: Vocabulary) -> Ints:
        """Pieces of the answers that are scored, (J, A); some of them may be impossible."""
        return self.choices(asked, v)

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        """The cells whose objects decide the answer, (J, R, C); by default the whole grid."""
        return asked.grids.inside[asked.grid]

    def listed(self, answer: str) -> list[list[str]] | None:
        """The cells that an answer lists, in rows: right ones as `read` has them in raster order.

        None: answers are no lists of cells.
        """
        return None

    @abstractmethod
    def chance(self, asked: Asked) -> Floats:
        """Accuracy of a uniform guess among the possible answers, (J,)."""

    @abstractmethod
    def blind(self, asked: Asked) -> Floats:
        """Accuracy of the best answer from shape, palette and question, without the grid, (J,)."""

    @abstractmethod
    def bag(self, asked: Asked) -> Floats:
        """Accuracy of the best answer from each object's count, without its locations, (J,)."""


class YesOrNo(Instruction):
    """Shared by the questions whose answer is yes or no."""

    expected = "yes or no"

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        return np.tile(v.table.ids([" yes", " no"]), (len(asked.grid), 1))

    def chance(self, asked: Asked) -> Floats:
        return np.full(len(asked.grid), 0.5)


class AboutAnObject(Instruction):
    """Shared by the questions about each object of the palette in turn."""

    asks_blindly = True

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return n_objects

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        order = dice.order(f"{self.name}/objects", grids.palette >= 0)
        listed_at = slots.in_turn(order, grids.n_objects)
        return {"object": np.take_along_axis(grids.palette, listed_at, axis=1)}


class AboutTheWhole(Instruction):
    """Shared by the one question about a whole grid."""

    asks_blindly = True

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return np.ones_like(rows)

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        return {}


def cells_in_turn(grids: Grids, dice: Dice, slots: Slots, purpose: str) -> Fields:
    """The row and column of a cell for each slot, (B, Q); the cells of a grid differ."""
    batch, _, cols = grids.classes.shape
    order = dice.order(purpose, grids.inside.reshape(batch, -1))
    cell = slots.in_turn(order, grids.n_cells)
    return {"row": cell // cols, "col": cell % cols}


def joined(pieces: Ints, present: NDArray[np.bool_], separator: int) -> Ints:
    """Join items with separators: the pieces of the answers, (J, K).

    Args:
        pieces: (J, n_items, n_pieces).
        present: (J, n_items) whether an item is written; the others become EMPTY.
        separator: the piece before every present item but the first.
    """
    items = np.where(present[..., None], pieces, EMPTY)
    first = np.cumsum(present, axis=1) == 1
    lead = np.where(present & ~first, separator, EMPTY)
    return np.concatenate([lead[..., None], items], axis=-1).reshape(len(pieces), -1)
