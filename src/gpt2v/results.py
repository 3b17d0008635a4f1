"""Read what a run has measured."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.errors import UserError, first_line
from gpt2v.run_layout import FINISHED, RECORDS
from gpt2v.runs import restored

if TYPE_CHECKING:
    import pyarrow as pa

RunPath = str | os.PathLike[str]


def read_results(run: RunPath) -> dict[str, Any]:
    """The content of a run's results.json.

    `["results"]` is the list of its rows; `docs/evaluation.md` explains the keys.

    Args:
        run: the directory of a finished run.

    Raises:
        UserError: there is no finished run, or the file is damaged.
    """
    path = restored(Path(run)) / FINISHED
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{run}: no finished run: it has no {FINISHED}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a mapping")
    return found


def read_records(run: RunPath) -> "pa.Table":
    """The records of an evaluation or a probe, one row per question; `.to_pandas()` works.

    `docs/evaluation.md` explains the columns of an evaluation one by one.

    Args:
        run: the directory of a finished run.

    Raises:
        UserError: the run has no records, or they cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = restored(Path(run)) / RECORDS
    if not path.is_file():
        inside = sorted(str(file.parent) for file in Path(run).glob(f"*/{RECORDS}"))
        where = f"; its sub-runs have: {', '.join(inside)}" if inside else ""
        raise UserError(f"{run}: has no {RECORDS}{where}")
    try:
        with path.open("rb") as content:  # pyarrow takes only names in UTF-8
            return pq.read_table(content)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as parquet ({first_line(error)})") from None
