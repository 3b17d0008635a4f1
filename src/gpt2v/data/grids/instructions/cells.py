"""Instructions about single cells: `lookup`, `neighbour`, `compare`, `locate`.

Shapes: B samples of a batch, R rows of a grid, C columns of a grid, J questions in a flat list.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

from gpt2v.data import rng
from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.grids.instructions.base import (
    STEPS,
    AboutAnObject,
    Asked,
    Fields,
    Floats,
    Instruction,
    Slots,
    Vocabulary,
    YesOrNo,
    cells_in_turn,
    joined,
)
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY
from gpt2v.registry import INSTRUCTIONS

_LISTED = 20  # with more classes than this, only those of the palette are scored


class _NamesAnObject(Instruction):
    """Shared by the questions whose answer is one object."""

    expected = "the name of the object"
    asks_blindly = True

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        return v.words[asked.grids.palette[asked.grid]]

    def scored(self, asked: Asked, v: Vocabulary) -> Ints:
        if len(v.class_names) > _LISTED:
            return self.choices(asked, v)
        return np.tile(v.words[:-1], (len(asked.grid), 1))

    def chance(self, asked: Asked) -> Floats:
        return 1 / asked.n_objects

    def blind(self, asked: Asked) -> Floats:
        return 1 / asked.n_objects  # cells are independent and uniform

    def bag(self, asked: Asked) -> Floats:
        return np.asarray((asked.grids.counts.max(1) / asked.grids.n_cells)[asked.grid])


@INSTRUCTIONS.register("lookup")
class Lookup(_NamesAnObject):
    """The object in a cell. `What object is in row 2, column 2? A: bird`"""

    wordings = (
        "What object is in row {row}, column {col}? A:",
        "Which object stands at row {row}, column {col}? A:",
        "Row {row}, column {col} holds what? A:",
        "Name the object in column {col} of row {row}. A:",
        "Column {col}, row {row}: which object is it? A:",
        "What do you find where row {row} meets column {col}? A:",
    )
    held_out = (
        "Look at row {row}, column {col}. What is there? A:",
        "The cell in column {col} of row {row} shows which object? A:",
    )

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return rows * cols

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        return cells_in_turn(grids, dice, slots, "questions")

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return v.words[asked.at(asked.row, asked.col)][:, None]

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        return asked.only(asked.row, asked.col)


@INSTRUCTIONS.register("neighbour")
class Neighbour(_NamesAnObject):
    """The object beside a cell. `What object is directly left of row 2, column 2? A: bird`"""

    wordings = (
        "What object is directly {direction} row {row}, column {col}? A:",
        "Which object do you find directly {direction} row {row}, column {col}? A:",
        "Go to column {col} of row {row}. What is directly {direction} it? A:",
    )
    held_out = ("Name the object that is directly {direction} row {row}, column {col}. A:",)

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return rows * cols  # every cell holds the answer once

    def completed(self, fields: dict[str, int]) -> dict[str, int]:
        down, right = STEPS[fields["direction"]]
        other = {"other_row": fields["row"] + down, "other_col": fields["col"] + right}
        return fields | other

    def smallest(self) -> int:
        return 2

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        cell = cells_in_turn(grids, dice, slots, "neighbour/cells")
        row, col = cell["row"], cell["col"]
        rows, cols = grids.rows[:, None], grids.cols[:, None]
        # The question names a neighbour of the cell: the cell is left of its right neighbour, and
        # so on. The named cell must exist.
        named = [(row - down, col - right) for down, right in STEPS]
        there = np.stack([(r >= 0) & (r < rows) & (c >= 0) & (c < cols) for r, c in named], axis=-1)
        words = dice.words("neighbour/directions", slots.n * len(STEPS)).reshape(
            *row.shape, len(STEPS)
        )
        direction = np.where(there, words >> np.uint64(1), np.uint64(2**64 - 1)).argmin(-1)
        steps = np.array(STEPS)[direction]
        return {
            "row": row - steps[..., 0],
            "col": col - steps[..., 1],
            "other_row": row,
            "other_col": col,
            "direction": direction,
        }

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return v.words[asked.at(asked.other_row, asked.other_col)][:, None]

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        return asked.only(asked.other_row, asked.other_col)


@INSTRUCTIONS.register("compare")
class Compare(YesOrNo):
    """Whether two cells hold the same object. Both answers are equally frequent if both can occur.
    `Do row 0, column 1 and row 2, column 2 hold the same object? A: no`
    """

    wordings = (
        "Do row {row}, column {col} and row {other_row}, column {other_col} hold the same object? "
        "A:",
        "Is the object in row {row}, column {col} also in row {other_row}, column {other_col}? A:",
        "Are column {col} of row {row} and column {other_col} of row {other_row} alike? A:",
    )
    held_out = (
        "Row {row}, column {col} and row {other_row}, column {other_col}: is it the same object? "
        "A:",
    )

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return np.where(rows * cols == 2, 1, rows * cols)  # there are many more pairs

    def smallest(self) -> int:
        return 2

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        batch, _, cols = grids.classes.shape
        flat = grids.classes.reshape(batch, -1)
        shuffled = dice.order("compare/pairs", flat >= 0)
        classes = np.take_along_axis(flat, shuffled, axis=1)
        # Cells sorted by class, in random order within each class; the rest comes last.
        by_class = np.take_along_axis(
            shuffled,
            np.argsort(np.where(classes < 0, 2**30, classes), axis=1, kind="stable"),
            axis=1,
        )
        classes = np.take_along_axis(flat, by_class, axis=1)
        start, size = _runs(classes)
        total = grids.n_cells[:, None]
        pairs = {
            True: np.where(classes >= 0, size - 1, 0),  # number of partners of each cell, by answer
            False: np.where(classes >= 0, total - size, 0),
        }
        coin = rng.below(dice.words("compare/coin", 1), 2)
        want = (slots.turn + coin) % 2 == 0
        for answer in (True, False):
            want = np.where(pairs[answer].sum(1)[:, None] == 0, not answer, want)
        # The first cell is drawn with its number of partners as weight, then one of its partners.
        edges = {answer: np.cumsum(weight, axis=1)[:, None] for answer, weight in pairs.items()}
        total_weight = np.where(want, edges[True][..., -1], edges[False][..., -1])
        drawn = rng.below(dice.words("compare/one", slots.n), total_weight)
        first = np.where(
            want, *((edges[answer] <= drawn[..., None]).sum(-1) for answer in (True, False))
        )
        partners = (np.take_along_axis(pairs[answer], first, axis=1) for answer in (True, False))
        many = np.where(want, *partners)
        partner = rng.below(dice.words("compare/two", slots.n), many)
        begin, length = (np.take_along_axis(a, first, axis=1) for a in (start, size))
        same = begin + partner + (partner >= first - begin)  # not itself
        other = partner + np.where(partner >= begin, length, 0)  # not its own class
        second = np.where(want, same, other)
        one, two = (
            np.take_along_axis(by_class, sorted_at, axis=1) for sorted_at in (first, second)
        )
        one, two = slots.arranged(one, two)
        return {
            "row": one // cols,
            "col": one % cols,
            "other_row": two // cols,
            "other_col": two % cols,
        }

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        one, two = asked.at(asked.row, asked.col), asked.at(asked.other_row, asked.other_col)
        return v.choose(one == two, " yes", " no")[:, None]

    def read(self, asked: Asked) -> NDArray[np.bool_]:
        one = asked.only(asked.row, asked.col)
        return one | asked.only(asked.other_row, asked.other_col)

    def blind(self, asked: Asked) -> Floats:
        n, p = asked.n_cells, asked.n_objects
        all_same = p ** (1.0 - n)
        before = np.arange(n.max(initial=0))
        new = np.maximum(1 - before / p[:, None], 0)  # chance that a cell differs from all before
        all_differ = np.where(before < n[:, None], new, 1).prod(axis=1)
        yes = all_same + (1 - all_same - all_differ) / 2
        return np.asarray(np.maximum(yes, 1 - yes))

    def bag(self, asked: Asked) -> Floats:
        largest = asked.grids.counts.max(1)[asked.grid]
        certain = (largest == asked.n_cells) | (largest == 1)
        return np.where(certain, 1.0, 0.5)


@INSTRUCTIONS.register("locate")
class Locate(AboutAnObject):
    """All cells that hold an object, in raster order.
    `Which cells hold the object bird? A: row 0, column 0; row 1, column 1`, or `none`
    """

    expected = "each such cell as 'row 0, column 0', with '; ' between two, or 'none'"
    wordings = (
        "Which cells hold the object {object}? A:",
        "Where is the object {object}? A:",
        "List every cell with the object {object}. A:",
    )
    held_out = ("At which places do you find the object {object}? A:",)

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        classes = asked.grids.classes[asked.grid]  # (J, R, C)
        here = (classes == asked.object[:, None, None]).reshape(len(classes), -1)
        row, col = (axis.reshape(-1) for axis in np.indices(classes.shape[1:]))
        row, col = (v.numbers(axis + asked.base[:, None]) for axis in (row, col))
        said = [np.full(row.shape, v.table.id(s)) for s in (" row", ", column")]
        cells = np.stack([said[0], row, said[1], col], axis=-1)
        listed = joined(cells, here, v.table.id(";"))
        none = np.where(here.any(1), EMPTY, v.table.id(" none"))
        return np.concatenate([listed, none[:, None]], axis=1)

    def chance(self, asked: Asked) -> Floats:
        return np.asarray(0.5**asked.n_cells, np.float64)

    def blind(self, asked: Asked) -> Floats:
        # Each cell holds the object with probability 1 / n_objects, independently.
        here = 1 / asked.n_objects
        return np.asarray(np.maximum(here, 1 - here) ** asked.n_cells)

    def bag(self, asked: Asked) -> Floats:
        pairs = zip(asked.n_cells.tolist(), asked.count.tolist(), strict=True)
        return np.array([1 / comb(n, k) for n, k in pairs])


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """Start and length of the run of equal values that each entry is in, (B, R * C) each."""
    batch, n = values.shape
    border = np.ones((batch, n + 1), bool)
    border[:, 1:-1] = values[:, 1:] != values[:, :-1]
    index = np.broadcast_to(np.arange(n + 1), border.shape)
    start = np.maximum.accumulate(np.where(border, index, 0)[:, :-1], axis=1)
    ends = np.where(border, index, n)[:, :0:-1]
    end = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    return start, end - start
