"""Check that the values of rows are of the kind that the sections take them for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError
from gpt2v.report.checked import Row, is_number
from gpt2v.report.words import shorten

_FARTHEST = 1000  # cells in a row
NUMBER, WHOLE, TEXT, YES_OR_NO = "a number", "a whole number", "text", "true or false"
NUMBER_OR_NULL, NUMBERS, PATCHES = "a number, or null", "numbers", "numbers of patches"
PAIR, TWO_TEXTS, CELL = "two numbers", "two texts", "a row and a column"
CELL_OR_ALL = f"{CELL}, or 'all'"


def mapping(path: Path, at: str, value: Any) -> Row:
    """The value, which must be a mapping."""
    if not isinstance(value, dict):
        raise UserError(f"{path}: {at}: must be a mapping")
    return value


def check_rows(path: Path, at: str, rows: Any, kinds: Mapping[str, str]) -> None:
    """Raise UserError unless these are rows whose keys have values of these kinds."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: {at}: must be a list of rows")
    for number, row in enumerate(rows):
        check_row(path, f"{at}[{number}]", row, kinds)


def check_row(path: Path, at: str, row: Row, kinds: Mapping[str, str]) -> None:
    """Raise UserError unless the keys of a row have values of these kinds."""
    for key, kind in kinds.items():
        if key not in row:
            raise UserError(f"{path}: {at}: has no key '{key}'")
        if not _fits(row[key], kind):
            shown = shorten(repr(row[key]), 80)
            raise UserError(f"{path}: {at}.{key}: must be {kind}, not {shown}")


def _fits(value: Any, kind: str) -> bool:
    return _KINDS[kind](value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return is_number(value) and isinstance(value, int) and abs(value) <= _FARTHEST


def _is_patch(value: Any) -> bool:
    return is_number(value) and isinstance(value, int) and value >= 0


def _are(values: Any, each: Callable[[Any], bool], n: int | None = None) -> bool:
    """Whether this is a list of such values, and has `n` of them."""
    is_list = isinstance(values, list) and (n is None or len(values) == n)
    return is_list and all(map(each, values))


def _is_cell(value: Any) -> bool:
    return _are(value, _is_whole, 2) and min(value) >= 0


_KINDS: dict[str, Callable[[Any], bool]] = {
    NUMBER: is_number,
    WHOLE: _is_whole,
    TEXT: _is_text,
    YES_OR_NO: lambda value: isinstance(value, bool),
    NUMBER_OR_NULL: lambda value: value is None or is_number(value),
    NUMBERS: lambda value: _are(value, is_number),
    PATCHES: lambda value: _are(value, _is_patch),
    PAIR: lambda value: _are(value, is_number, 2),
    TWO_TEXTS: lambda value: _are(value, _is_text, 2),
    CELL: _is_cell,
    CELL_OR_ALL: lambda value: value == "all" or _is_cell(value),
}
