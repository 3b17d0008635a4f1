"""The cells of answers that list them, e.g. a whole grid: which of them are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpt2v.data.grids.instructions import ALL, number_of
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import CUT, END_OF_TEXT
from gpt2v.stats.shared import Bools

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ListedCells:
    """The cells of all right answers, one after the other.

    Attributes:
        question: (n_cells,) index of the record.
        number: (n_cells,) of the cell in its answer, in raster order.
        right: (n_cells,) whether the model says it there.
    """

    question: Ints
    number: Ints
    right: Bools


def listed_cells(records: "pa.Table") -> ListedCells | None:
    """The cells of the answers to questions of one instruction; None: it lists no cells.

    A cell is right if the answer has it at the same place of the same line. So a missing cell is
    wrong, and moves those after it on its line; what is said besides the cells of the right answer
    does not count, nor that the answer was cut after them.
    """
    kind = ALL[number_of(records["instruction"][0].as_py())]
    right: list[list[bool]] = []
    for truth, said, exact in zip(
        *(records[name].to_pylist() for name in ("truth", "generated", "exact")), strict=True
    ):
        cells = kind.listed(truth)
        if cells is None:
            return None
        found = kind.listed((said or "").removesuffix(CUT).removesuffix(END_OF_TEXT)) or []
        right.append([exact or _at(found, r, c) == cell for r, c, cell in _placed(cells)])
    lengths = [len(own) for own in right]
    return ListedCells(
        np.repeat(np.arange(len(right)), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
        np.concatenate([np.array(own, bool) for own in right]),
    )


def _placed(lines: Sequence[Sequence[str]]) -> list[tuple[int, int, str]]:
    return [(r, c, cell) for r, line in enumerate(lines) for c, cell in enumerate(line)]


def _at(lines: Sequence[Sequence[str]], row: int, col: int) -> str | None:
    return lines[row][col] if row < len(lines) and col < len(lines[row]) else None
