"""Parquet files that Hugging Face `datasets` opens with the right features and reads lazily."""

import json
from typing import Any

import pyarrow
import pyarrow.parquet as pq

_ROWS = 100  # rows of a row group; pictures are read one row group at a time
_DICTIONARY = 1 << 24  # bytes; so each different picture is written once for all its questions

Columns = dict[str, Any]  # `datasets` features as JSON, see `value`, `listed`, `IMAGE`

IMAGE = {"_type": "Image"}
_TYPES = {
    "string": pyarrow.string(),
    "int64": pyarrow.int64(),
    "image": pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
}


def value(dtype: str) -> dict[str, str]:
    """The feature of a plain column."""
    return {"dtype": dtype, "_type": "Value"}


def listed(feature: Any) -> list[Any]:
    """The feature of a list, in the form that every version of `datasets` reads."""
    return [feature]


def picture(content: bytes, name: str) -> dict[str, Any]:
    """The value of an image column: the bytes of an image file, and its name."""
    return {"bytes": content, "path": name}


def parquet(columns: Columns, rows: list[dict[str, Any]]) -> bytes:
    """The bytes of a parquet file of these rows; the same rows give the same bytes."""
    info = {"info": {"features": columns}}
    schema = pyarrow.schema(
        [(name, _arrow(feature)) for name, feature in columns.items()],
        metadata={"huggingface": json.dumps(info)},
    )
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    sink = pyarrow.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROWS,
        dictionary_pagesize_limit=_DICTIONARY,
        compression="snappy",
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _arrow(feature: Any) -> Any:
    """The arrow type of a feature."""
    if isinstance(feature, list):
        return pyarrow.list_(_arrow(feature[0]))
    if "_type" not in feature:
        return pyarrow.struct([(name, _arrow(inner)) for name, inner in feature.items()])
    return _TYPES[feature.get("dtype", feature["_type"].lower())]
