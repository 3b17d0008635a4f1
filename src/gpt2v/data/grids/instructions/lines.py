"""Instructions about many cells at once: `row`, `column`, `transcribe`.

Shapes: R rows of a grid, C columns of a grid, J questions in a flat list.
"""

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
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY
from gpt2v.registry import INSTRUCTIONS


class _ReadsCells(Instruction):
    """Shared by the questions whose answer is a list of objects."""

    asks_blindly = True

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
        classes = asked.grids.classes[asked.grid]  # (J, R, C)
        n, rows, cols = classes.shape
        words = v.words[classes]
        before = np.full((rows, cols), v.table.id(","))
        before[:, 0] = v.table.id(";")
        before[0, 0] = EMPTY
        before = np.where(classes >= 0, before, EMPTY)
        return np.stack([before, words], axis=-1).reshape(n, -1)

    def length(self, asked: Asked) -> Ints:
        return asked.n_cells


def _listed(classes: Ints, v: Vocabulary) -> Ints:
    """The pieces of ` cat, bird, bird` for classes (J, n_cells); class -1 is left out."""
    return joined(v.words[classes][..., None], classes >= 0, v.table.id(","))
