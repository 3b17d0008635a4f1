"""Instructions about many cells at once: `row`, `column`, `transcribe`, `matrix`.

Shapes: R rows of a grid, C columns of a grid, J questions in a flat list, K text pieces in a row.
"""

import re

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.grids.instructions.base import (
    AboutTheWhole,
    Asked,
    Fields,
    Floats,
    Instruction,
    Slots,
    Vocabulary,
    joined,
)
from gpt2v.data.grids.numbering import MOST, numbering_of
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY
from gpt2v.registry import INSTRUCTIONS

_LINE_END = r"[;\n]"  # in an answer


class _ReadsCells(Instruction):
    """Shared by the questions whose answer is a list of objects."""

    asks_blindly = True

    def listed(self, answer: str) -> list[list[str]]:
        lines = re.split(_LINE_END, answer.casefold())
        return [[cell.strip(" .") for cell in line.split(",")] for line in lines]

    def length(self, asked: Asked) -> Ints:
        """Number of cells that are read, (J,)."""
        raise NotImplementedError

    def chance(self, asked: Asked) -> Floats:
        return asked.n_objects ** (-1.0 * self.length(asked))

    def blind(self, asked: Asked) -> Floats:
        return self.chance(asked)  # cells are independent and uniform

    def bag(self, asked: Asked) -> Floats:
        # Objects are drawn without replacement: an object that occurs m times contributes the
        # factors m, m-1, ..., and the likeliest sequence takes the largest of all factors.
        counts = asked.grids.counts
        most = int(asked.grids.n_cells.max(initial=0))
        factors = np.maximum(counts[:, :, None] - np.arange(most), 0).reshape(len(counts), -1)
        factors = -np.sort(-factors, axis=1)[:, :most]
        left = np.maximum(asked.grids.n_cells[:, None] - np.arange(most), 1)
        so_far = np.cumprod(factors / left, axis=1)
        return np.asarray(so_far[asked.grid, self.length(asked) - 1])


@INSTRUCTIONS.register("row")
class Row(_ReadsCells):
    """The objects of a row, from left to right. `What objects are in row 1? A: cat, bird, bird`"""

    expected = "the names of the objects from left to right, with ', ' between two"
    wordings = (
        "What objects are in row {row}? A:",
        "List the objects of row {row} from left to right. A:",
        "Row {row} holds which objects? A:",
    )
    held_out = ("Read row {row}. A:",)

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return rows

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        order = dice.order("row", grids.inside[:, :, 0])
        return {"row": slots.in_turn(order, grids.rows)}

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        rows = np.arange(asked.grids.classes.shape[1])[:, None]
        here: NDArray[np.bool_] = super().read(asked) & (rows == asked.row[:, None, None])
        return here

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return _listed(asked.grids.classes[asked.grid, asked.row], v)

    def length(self, asked: Asked) -> Ints:
        return asked.grids.cols[asked.grid]


@INSTRUCTIONS.register("column")
class Column(_ReadsCells):
    """The objects of a column, from top to bottom.
    `What objects are in column 0? A: bird, cat, horse`
    """

    expected = "the names of the objects from top to bottom, with ', ' between two"
    wordings = (
        "What objects are in column {col}? A:",
        "List the objects of column {col} from top to bottom. A:",
        "Column {col} holds which objects? A:",
    )
    held_out = ("Read column {col}. A:",)

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return cols

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        order = dice.order("column", grids.inside[:, 0])
        return {"col": slots.in_turn(order, grids.cols)}

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        cols = np.arange(asked.grids.classes.shape[2])
        here: NDArray[np.bool_] = super().read(asked) & (cols == asked.col[:, None, None])
        return here

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return _listed(asked.grids.classes[asked.grid, :, asked.col], v)

    def length(self, asked: Asked) -> Ints:
        return asked.grids.rows[asked.grid]


@INSTRUCTIONS.register("transcribe")
class Transcribe(AboutTheWhole, _ReadsCells):
    """The whole grid on one line, row by row (a line break ends every answer).
    `What does the whole grid hold, row by row? A: bird, frog, frog; cat, bird, bird`
    """

    expected = (
        "the names of the objects row by row, with ', ' between two, and '; ' between two rows"
    )
    wordings = (
        "What does the whole grid hold, row by row? A:",
        "Write down all objects, row by row. A:",
        "Transcribe the grid. A:",
    )
    held_out = ("Read the whole grid from its first row to its last. A:",)

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        classes = asked.grids.classes[asked.grid]
        return _in_lines(v.words[classes], classes >= 0, v.table.id(","), v.table.id(";"))

    def length(self, asked: Asked) -> Ints:
        return asked.n_cells


@INSTRUCTIONS.register("matrix")
class Matrix(AboutTheWhole, _ReadsCells):
    """The whole grid as numbers, with a random number for each object of the palette.
    `With bird = 0, frog = 2, cat = 1, what is the grid as numbers, row by row? A: 0 2 2; 1 0 0`
    """

    expected = "the number of each cell row by row, with ' ' between two, and '; ' between two rows"
    wordings = (
        "With {numbering}, what is the grid as numbers, row by row? A:",
        "Write the grid as a matrix, where {numbering}. A:",
        "Let {numbering}. Which numbers are in the grid, row by row? A:",
    )
    held_out = ("Read the whole grid as numbers with {numbering}. A:",)
    most_objects = MOST

    def listed(self, answer: str) -> list[list[str]]:
        return [re.findall(r"\d+", line) for line in re.split(_LINE_END, answer)]

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        numbers = dice.order("matrix", grids.palette >= 0)
        numbering = numbering_of(numbers, grids.palette)
        return {"numbering": np.broadcast_to(numbering[:, None], slots.asked_here.shape)}

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        classes = asked.grids.classes[asked.grid]  # (J, R, C)
        palette = asked.grids.palette[asked.grid]
        place = (classes[..., None] == palette[:, None, None]).argmax(-1)
        number = asked.numbers[np.arange(len(place))[:, None, None], place]
        return _in_lines(v.numbers(number), classes >= 0, EMPTY, v.table.id(";"))

    def length(self, asked: Asked) -> Ints:
        return asked.n_cells


def _in_lines(words: Ints, inside: NDArray[np.bool_], between: int, after: int) -> Ints:
    """The pieces of ` bird, frog; cat, bird`, (J, K), for one piece of each cell.

    Args:
        words: (J, R, C).
        inside: (J, R, C) whether a cell is in its grid; the others are left out.
        between, after: the pieces between two cells of a row, and between two rows.
    """
    before = np.full(words.shape[1:], between)
    before[:, 0] = after
    before[0, 0] = EMPTY
    pieces = np.stack(np.broadcast_arrays(before, words), axis=-1)
    return np.where(inside[..., None], pieces, EMPTY).reshape(len(words), -1)


def _listed(classes: Ints, v: Vocabulary) -> Ints:
    """The pieces of ` cat, bird, bird` for classes (J, n_cells); class -1 is left out."""
    return joined(v.words[classes][..., None], classes >= 0, v.table.id(","))
