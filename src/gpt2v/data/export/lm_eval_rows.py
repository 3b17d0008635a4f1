"""Load the rows of one task from the parquet files next to this file.

Every lm-eval export has a copy of this file. lm_eval calls its functions, and may pass further
keywords of its own.
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
    for split, names in files.items():
        total = int(Path(names[0]).stem.rsplit("-", 1)[1])  # SPLIT-00000-of-00012
        if len(names) != total:
            raise FileNotFoundError(
                f"{folder}: {len(names)} of {total} files of the {split} split are here"
            )
    rows = datasets.load_dataset("parquet", data_files=files)
    return rows.filter(lambda name: name == asked, input_columns="instruction")


def text(data: str, asked: str, **_: object) -> Any:
    """The same without pictures, so that none is decoded."""
    rows = image(data, asked)
    columns = next(iter(rows.values())).column_names
    return rows.remove_columns([name for name in ("image", "images") if name in columns])
