"""Questions as rows of a table: their words, and what they name."""

from typing import Any

import numpy as np

from gpt2v.data.grids.cells import content_keys
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.instructions.base import DIRECTIONS
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.text import question_pieces
from gpt2v.data.text_pieces import Strings

PLACES = ("row", "col", "other_row", "other_col")
SHAPE = ("rows", "cols", "slot")
_ALWAYS = ("sample", "content", *SHAPE, "instruction", "question")


def question_columns(
    samples: Samples, names: tuple[str, ...], table: Strings
) -> dict[str, list[Any]]:
    """A list for each column, with one entry for each question of all samples, in order.

    The columns are sample, content (see `content_keys`), rows, cols (of the grid), slot (number of
    the question about its grid, from 0), instruction, question (its words), row, col, other_row,
    other_col (from 0, in all wordings), direction and object; None: the question names none.
    """
    pieces = question_pieces(samples, names, table)
    columns: dict[str, list[Any]] = {
        name: [] for name in (*_ALWAYS, *PLACES, "direction", "object")
    }
    content = content_keys(samples.classes, samples.palette).tolist()
    for b, q in np.argwhere(samples.instruction != NOT_ASKED).tolist():
        instruction = ALL[samples.instruction[b, q]]
        values: dict[str, Any] = {
            "sample": int(samples.index[b]),
            "content": content[b],
            "rows": int(samples.rows[b]),
            "cols": int(samples.cols[b]),
            "slot": q,
            "instruction": instruction.name,
            "question": table.text(pieces[b, q]),
            **{name: int(getattr(samples, name)[b, q]) for name in PLACES},
            "direction": DIRECTIONS[samples.direction[b, q]].strip(),
            "object": names[samples.object[b, q]],
        }
        for name, column in columns.items():
            own = name in instruction.named or name in _ALWAYS
            column.append(values[name] if own else None)
    return columns
