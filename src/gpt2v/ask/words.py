"""A grid in the user's own words: Markdown rows become classes."""

from collections.abc import Sequence

import numpy as np

from gpt2v.config.grids import LARGEST
from gpt2v.data.grids.paraphrases import DELIMITERS
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.messages import shown


def read_table(text: str, class_names: Sequence[str]) -> Ints:
    """The class of each cell of a table, (rows, columns).

    Args:
        text: one line for each row, `| cat | dog |`; the outer delimiters may be left out.
        class_names: of the objects that the model knows, by class.

    Raises:
        UserError: the rows differ in length, or a cell holds no known object.
    """
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip()]
    if not lines:
        raise UserError("text: holds no grid; write one line for each row, `| cat | dog |`")
    delimiter = next((d for d in DELIMITERS if d in "".join(lines)), DELIMITERS[0])
    rows = [[cell.strip() for cell in line.strip(delimiter).split(delimiter)] for line in lines]
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise UserError(
                f"text: row {number} has {len(row)} cells, but row 0 has {len(rows[0])}"
            )
    if max(len(rows), len(rows[0])) > LARGEST:
        raise UserError(f"text: a grid has at most {LARGEST} rows and {LARGEST} columns")
    return np.array([[class_of(cell, class_names, "text") for cell in row] for row in rows])


def class_of(name: str, class_names: Sequence[str], key: str) -> int:
    """The class with this name.

    Raises:
        UserError: the model knows no such object; names the key, and lists the known ones.
    """
    if name not in class_names:
        raise UserError(f"{key}: no object {shown(name)}; the model knows {', '.join(class_names)}")
    return list(class_names).index(name)
