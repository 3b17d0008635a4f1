"""Questions as rows of a table: their words, and what they name.

Shapes: J questions in a flat list.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt2v.data.grids.cells import content_keys
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.instructions.base import DIRECTIONS
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.text import question_pieces
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import Strings

PLACES = ("row", "col", "other_row", "other_col")
SHAPE = ("rows", "cols", "slot")


def question_columns(
    samples: Samples, names: tuple[str, ...], table: Strings
) -> dict[str, list[Any]]:
    """A list for each column, with one entry for each question of all samples, in order.

    The columns are sample, content (see `content_keys`), rows, cols (of the grid), slot (number of
    the question about its grid, from 0), instruction, question (its words), row, col, other_row,
    other_col (from 0, in all wordings), direction and object; None: the question names none.
    """
    where = np.nonzero(samples.instruction != NOT_ASKED)
    content = content_keys(samples.classes, samples.palette)
    columns = {
        "sample": samples.index[where[0]].tolist(),
        "content": content[where[0]].tolist(),
        "rows": samples.rows[where[0]].tolist(),
        "cols": samples.cols[where[0]].tolist(),
        "slot": where[1].tolist(),
        "instruction": _chosen([one.name for one in ALL], samples.instruction[where]),
        "question": table.texts(question_pieces(samples, names, table)[where]),
    }
    named: dict[str, list[Any]] = {
        **{name: getattr(samples, name)[where].tolist() for name in PLACES},
        "direction": _chosen([way.strip() for way in DIRECTIONS], samples.direction[where]),
        "object": _chosen(names, samples.object[where]),
    }
    for name, values in named.items():
        names_it = np.array([name in one.named for one in ALL])[samples.instruction[where]].tolist()
        columns[name] = [v if own else None for v, own in zip(values, names_it, strict=True)]
    return columns


def _chosen(names: Sequence[str], which: Ints) -> list[str]:
    """The name with each number (J,)."""
    return [names[number] for number in which.tolist()]
