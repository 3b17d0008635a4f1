"""Check the values of a results.json before anything is computed with them or shown."""

import json
import math
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError

Row = dict[str, Any]

_NUMBERS = (
    "gap",
    "chance",
    "difference",
    "p",
    "p_holm",
    "smallest_difference",
    "loss",
    "perplexity",
    "bits_per_byte",
    "stderr",
    "layer",
)
_TEXTS = (
    *("modality", "instruction", "questions", "part", "rung", "model", "split"),
    *("control", "site", "decoder"),
)


def read_checked(path: Path) -> Row:
    """The content of a results.json; its accuracies and intervals are checked."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; a report needs a finished run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({one_line_of(error)})") from None
    rows = results.get("results") if isinstance(results, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: results: must be a list of rows")
    for number, row in enumerate(rows):
        _check_values(path, f"results[{number}].", row)
    _check_values(path, "", results)
    return dict(results)


def check_keys(path: Path, rows: list[Row], keys: tuple[str, ...]) -> None:
    """Raise UserError unless each row has these keys."""
    for number, row in enumerate(rows):
        for key in keys:
            if key not in row:
                raise UserError(f"{path}: results[{number}]: has no key '{key}'")


def _check_values(path: Path, prefix: str, row: Row) -> None:
    """Raise UserError if a value that a section shows or computes with is of another type."""
    for key, value in row.items():
        at = f"{path}: {prefix}{key}"
        if key in _TEXTS and not isinstance(value, str | None):
            raise UserError(f"{at}: must be text, not {value!r}")
        if key.startswith("n_") and not (value is None or is_number(value)):
            raise UserError(f"{at}: must be a number, not {value!r}")
        if key == "seconds":
            each = value.values() if isinstance(value, dict) else [value]
            if not all(map(is_number, each)):
                raise UserError(f"{at}: must be a number, or a number for each stage")
        is_rate = key.endswith("accuracy") or key in _NUMBERS
        if is_rate and not is_number(value) and value is not None:
            raise UserError(f"{at}: must be a number, not {value!r}")
        if key.endswith("ci95") and value is not None:
            pair = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
            if not pair:
                raise UserError(f"{at}: must be two numbers, not {value!r}")


def is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)


def one_line_of(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
