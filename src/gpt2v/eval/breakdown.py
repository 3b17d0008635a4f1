"""Accuracy by what a question is about: size of the grid, objects listed, type, place in the order.

Each key of `KEYS` is a function of records, which are a `pyarrow.Table` with the columns of
`records.parquet`.

Shapes: J questions in a flat list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.grids import LARGEST
from gpt2v.errors import UserError
from gpt2v.eval.metrics import column, shared_by, tiles_of
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Shared

if TYPE_CHECKING:
    import pyarrow as pa

_MANY = LARGEST + 1
NEEDED = ("model", "modality", "sample", "content", "tiles", "exact")  # columns, whatever the key


@dataclass(frozen=True)
class Group:
    """The questions for which a key has one value.

    Attributes:
        value: of the key, as text.
        accuracy: share of exact answers.
        ci: its 95% interval over new grids of new tiles.
        n_questions: how many there are.
    """

    value: str
    accuracy: float
    ci: tuple[float, float]
    n_questions: int


@dataclass(frozen=True)
class Key:
    """What records are grouped by.

    Attributes:
        title: in words.
        columns: those that it reads.
        values: of each question (J,), in an order that is shown.
        named: a value as text.
    """

    title: str
    columns: tuple[str, ...]
    values: Callable[["pa.Table"], NDArray[Any]]
    named: Callable[[Any], str] = str


def _sizes(records: "pa.Table") -> NDArray[Any]:
    sizes: NDArray[Any] = column(records, "rows").astype(np.int64) * _MANY + column(records, "cols")
    return sizes


KEYS = {
    "size": Key(
        "size of the grid",
        ("rows", "cols"),
        _sizes,
        lambda size: f"{size // _MANY}x{size % _MANY}",
    ),
    "palette": Key(
        "number of listed objects",
        ("palette",),
        lambda records: np.asarray(records["palette"].combine_chunks().value_lengths()),
    ),
    "instruction": Key(
        "type of question", ("instruction",), lambda records: column(records, "instruction")
    ),
    "question": Key("earlier questions", ("slot",), lambda records: column(records, "slot")),
}


def accuracy_by(records: "pa.Table", key: str) -> list[Group]:
    """Accuracy for each value of a key, with its interval.

    Args:
        records: of one model in one modality; of a suite, all parts may be in it.
        key: a name in `KEYS`: `size`, `palette`, `instruction`, or `question` (how many were asked
            about the same grid before; they are read before it in mode `chained` only).

    Raises:
        UserError: there is no such key, or the records lack a column.
    """
    if key not in KEYS:
        raise UserError(f"by: {key}: no such key; there are {', '.join(KEYS)}")
    missing = [name for name in (*NEEDED, *KEYS[key].columns) if name not in records.column_names]
    if missing:
        raise UserError(f"by: {key}: the records have no column '{missing[0]}'")
    different, which = np.unique(KEYS[key].values(records), return_inverse=True)
    right, shared = column(records, "exact").astype(bool), _shared(records)
    groups = []
    for number, value in enumerate(different.tolist()):
        here = which == number
        groups.append(
            Group(
                KEYS[key].named(value),
                float(right[here].mean()),
                rate_interval(right[here], shared.of(here)),
                int(here.sum()),
            )
        )
    return groups


def series_in(records: "pa.Table") -> dict[tuple[str, str], "pa.Table"]:
    """The records of each (model, modality), in the order in which they come."""
    models, modalities = column(records, "model"), column(records, "modality")
    pairs = dict.fromkeys(zip(models.tolist(), modalities.tolist(), strict=True))
    return {
        (model, modality): records.filter((models == model) & (modalities == modality))
        for model, modality in pairs
    }


def _shared(records: "pa.Table") -> Shared:
    """What the questions share; in several parts, grids with the same content are one cluster."""
    if "part" not in records.column_names:
        return shared_by(records)
    names, part = np.unique(column(records, "part").astype(str), return_inverse=True)
    if len(names) == 1:
        return shared_by(records)
    return Shared(column(records, "content"), tiles_of(records), part)
