"""Read and check what a probe has measured beside its rows: attribution, and decoders beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError
from gpt2v.report.checked import Row, is_number

_NUMBER, _WHOLE, _TEXT, _PAIR = "a number", "a whole number", "text", "two numbers"
_LAYER, _TWO_TEXTS = "a number, or null", "two texts"
_TESTED = {"n_questions": _NUMBER, "excess": _NUMBER, "ci95": _PAIR, "p_holm": _NUMBER}
_ATTRIBUTION = {
    "shares": {
        **dict.fromkeys(("of", "by", "category"), _TEXT),
        **dict.fromkeys(("n", "n_of", "share"), _NUMBER),
        "ci95": _PAIR,
    },
    "displacements": {"down": _WHOLE, "right": _WHOLE, **_TESTED},
    "confusions": {"truth": _TEXT, "said": _TEXT, **_TESTED},
    "diagnoses": {"diagnosis": _TEXT, "n_questions": _NUMBER},
}
_DIAGNOSES = {  # what the rows of each have besides
    "none": {},
    "ignores-rows": _TESTED,
    "ignores-columns": _TESTED,
    "reads-neighbour": {"down": _WHOLE, "right": _WHOLE, **_TESTED},
    "confuses-classes": {"classes": _TWO_TEXTS, **_TESTED},
    "blurs-class": {"class": _TEXT, "where": _TEXT, **_TESTED},
}
_BESIDE = {
    "site": _TEXT,
    "layer": _LAYER,
    "decoder": _TEXT,
    **dict.fromkeys(("palette_accuracy", "model_accuracy", "difference", "below_text"), _NUMBER),
    **dict.fromkeys(("n_images", "n_questions", "p_holm"), _NUMBER),
    **dict.fromkeys(("ci95", "below_text_ci95"), _PAIR),
}
_FARTHEST = 1000  # cells in a row


def measures_of(path: Path, results: Row) -> Row:
    """The `measures` of a results.json; empty if it has none.

    Raises:
        UserError: `attribution` or `beside` has a value that does not fit.
    """
    measures = _mapping(path, "measures", results.get("measures", {}))
    if "attribution" in measures:
        at = "measures.attribution"
        tables = _mapping(path, at, measures["attribution"])
        for name, kinds in _ATTRIBUTION.items():
            _check_rows(path, f"{at}.{name}", tables.get(name), kinds)
        for number, row in enumerate(tables["diagnoses"]):
            where = f"{at}.diagnoses[{number}]"
            if row["diagnosis"] not in _DIAGNOSES:
                raise UserError(
                    f"{path}: {where}.diagnosis: must be one of {', '.join(_DIAGNOSES)}"
                )
            _check_row(path, where, row, _DIAGNOSES[row["diagnosis"]])
    if "beside" in measures:
        _check_rows(path, "measures.beside", measures["beside"], _BESIDE)
    return measures


def _mapping(path: Path, at: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{path}: {at}: must be a mapping")
    return value


def _check_rows(path: Path, at: str, rows: Any, kinds: Mapping[str, str]) -> None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: {at}: must be a list of rows")
    for number, row in enumerate(rows):
        _check_row(path, f"{at}[{number}]", row, kinds)


def _check_row(path: Path, at: str, row: Row, kinds: Mapping[str, str]) -> None:
    for key, kind in kinds.items():
        if key not in row:
            raise UserError(f"{path}: {at}: has no key '{key}'")
        if not _fits(row[key], kind):
            raise UserError(f"{path}: {at}.{key}: must be {kind}, not {row[key]!r}")


def _fits(value: Any, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind in (_PAIR, _TWO_TEXTS):
        each = _NUMBER if kind == _PAIR else _TEXT
        return isinstance(value, list) and len(value) == 2 and all(_fits(v, each) for v in value)
    if kind == _WHOLE:
        return is_number(value) and isinstance(value, int) and abs(value) <= _FARTHEST
    return is_number(value) or (kind == _LAYER and value is None)
