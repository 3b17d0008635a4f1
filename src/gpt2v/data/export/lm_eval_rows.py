"""Load the rows of one task from the parquet files next to this file.

Every lm-eval export has a copy of this file. lm_eval calls its functions, and may pass further
keywords of its own. The files are opened one by one: `datasets.load_dataset` would read their names
as patterns, in which brackets, stars and colons mean something else.
"""

from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

_PICTURES = ("image", "images")  # columns


def image(data: str, examples: str, asked: str, **_: object) -> Any:
    """The questions of one instruction with pictures, and solved examples for few-shot prompts."""
    return {**_splits(data, asked), **_splits(examples, asked)}


def text(data: str, examples: str, asked: str, **_: object) -> Any:
    """The same without pictures, so that none is read."""
    return {**_splits(data, asked, leave_out=_PICTURES), **_splits(examples, asked)}


def _splits(below: str, asked: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The rows of one instruction in a folder below this file's, by split."""
    tables: dict[str, list[pyarrow.Table]] = {}
    for path in _whole_sets(Path(__file__).resolve().parent / below):
        with path.open("rb") as file:
            names = pyarrow.parquet.read_schema(file).names
            table = pyarrow.parquet.read_table(
                file,
                columns=[name for name in names if name not in leave_out],
                filters=[("instruction", "=", asked)],
            )
        tables.setdefault(path.name.split("-")[0], []).append(table)
    return {name: datasets.Dataset(pyarrow.concat_tables(t)) for name, t in tables.items()}


def _whole_sets(folder: Path) -> list[Path]:
    """The parquet files in a folder, SPLIT-00000-of-00012.parquet; none may be missing."""
    files = sorted(folder.glob("*-of-*.parquet"))
    for split, total in {tuple(file.stem.rsplit("-", 3)[::3]) for file in files}:
        here = sum(file.name.startswith(f"{split}-") for file in files)
        if here != int(total):
            raise FileNotFoundError(
                f"{folder}: {here} of {int(total)} files of the {split} split are here"
            )
    return files
