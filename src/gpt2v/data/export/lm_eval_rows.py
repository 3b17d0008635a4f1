"""The rows of one task, from the parquet files beside this one, wherever that is.

A copy of this file stands in every lm-eval export; lm_eval calls its functions, also with keywords
of its own.
"""

from pathlib import Path
from typing import Any

import datasets


def image(data: str, asked: str, **_: object) -> Any:
    """The questions of one instruction, with pictures."""
    folder = Path(__file__).resolve().parent / data
    files: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*-of-*.parquet")):
        files.setdefault(file.name.split("-")[0], []).append(str(file))
    rows = datasets.load_dataset("parquet", data_files=files)
    return rows.filter(lambda name: name == asked, input_columns="instruction")


def text(data: str, asked: str, **_: object) -> Any:
    """The same without pictures, which are not decoded then."""
    rows = image(data, asked)
    columns = next(iter(rows.values())).column_names
    return rows.remove_columns([name for name in ("image", "images") if name in columns])
