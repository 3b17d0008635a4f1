"""Parquet files that Hugging Face `datasets` opens with the right features and reads lazily."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from gpt2v.errors import UserError
from gpt2v.storage.names import resolved

_ROWS = 100  # rows of a row group; pictures are read one row group at a time
_DICTIONARY = 1 << 24  # bytes; so each different picture is written once for all its questions

Columns = dict[str, Any]  # `datasets` features as JSON, see `value`, `listed`, `IMAGE`

IMAGE = {"_type": "Image"}
_TYPES = {
    "string": pyarrow.string(),
    "int64": pyarrow.int64(),
    "image": pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
}


# In the path of a folder, `datasets` takes these for patterns, chained files and variables.
_NOT_LITERAL = re.compile(r"[*?\[]|::|\$[\w{]", re.ASCII)


def check_datasets_path(to: Path) -> None:
    """Check that `datasets.load_dataset` opens a folder with this path, and no other folder.

    Raises:
        UserError: it would take a part of the path for a pattern.
    """
    found = _NOT_LITERAL.search(str(resolved(to)))
    if found:
        raise UserError(
            f"{to}: datasets.load_dataset cannot read a folder with {found[0]!r} in its path; "
            "choose a path without it"
        )


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
