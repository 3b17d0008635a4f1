"""Records as a table with one row per question, as in `records.parquet`."""

from typing import Any

import pyarrow as pa

from gpt2v.data.render.asked import SHAPE
from gpt2v.model.scoring import Records

# Columns whose type their values may not show: those of a measurement can all be missing.
_TYPES = {
    **dict.fromkeys(("row", "col", "other_row", "other_col"), pa.int64()),
    **dict.fromkeys(("direction", "object", "truth", "generated", "prediction"), pa.string()),
    "content": pa.uint64(),
    **dict.fromkeys(SHAPE, pa.int16()),
    "tiles": pa.list_(pa.int64()),
    "choices": pa.list_(pa.string()),
    "logprobs": pa.list_(pa.float64()),
}


def record_table(records: Records, **constants: str | None) -> pa.Table:
    """The records of one measurement as a table.

    Args:
        constants: further columns of text with the same value in every row; they come first.
    """
    n = len(records["exact"])
    columns: dict[str, Any] = {
        name: pa.array([value] * n, pa.string()) for name, value in constants.items()
    }
    for name, values in records.items():
        columns[name] = pa.array(values, _TYPES[name]) if name in _TYPES else values
    return pa.table(columns)
