"""Read and check what a probe has measured beside its rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError
from gpt2v.report.checked import Row
from gpt2v.report.kinds import (
    CELL,
    CELL_OR_ALL,
    NUMBER,
    NUMBER_OR_NULL,
    NUMBERS,
    PAIR,
    PATCHES,
    TEXT,
    TWO_TEXTS,
    WHOLE,
    YES_OR_NO,
    check_row,
    check_rows,
    mapping,
)

_TESTED = {"n_questions": NUMBER, "excess": NUMBER, "ci95": PAIR, "p_holm": NUMBER}
_ATTRIBUTION = {
    "shares": {
        **dict.fromkeys(("of", "by", "category"), TEXT),
        **dict.fromkeys(("n", "n_of", "share"), NUMBER),
        "ci95": PAIR,
    },
    "displacements": {"down": WHOLE, "right": WHOLE, **_TESTED},
    "confusions": {"truth": TEXT, "said": TEXT, **_TESTED},
    "diagnoses": {"diagnosis": TEXT, "n_questions": NUMBER},
}
_DIAGNOSES = {  # what the rows of each have besides
    "none": {},
    "ignores-rows": _TESTED,
    "ignores-columns": _TESTED,
    "reads-neighbour": {"down": WHOLE, "right": WHOLE, **_TESTED},
    "confuses-classes": {"classes": TWO_TEXTS, **_TESTED},
    "blurs-class": {"class": TEXT, "where": TEXT, **_TESTED},
}
_SITE, _RATE = {"site": TEXT, "layer": NUMBER_OR_NULL}, {"accuracy": NUMBER, "ci95": PAIR}
_IN_PALETTE = {"palette_accuracy": NUMBER, "palette_ci95": PAIR}
_MEASURES: dict[str, Mapping[str, str]] = {
    "beside": {
        **_SITE,
        "decoder": TEXT,
        **dict.fromkeys(("palette_accuracy", "model_accuracy", "difference"), NUMBER),
        **dict.fromkeys(("below_text", "n_images", "n_questions", "p_holm"), NUMBER),
        **dict.fromkeys(("ci95", "below_text_ci95"), PAIR),
    },
    "learning-curve": {"decoder": TEXT, "n_train": NUMBER, **_IN_PALETTE},
    "leakage": {**_SITE, "of": CELL, "read": CELL, **_RATE},
    "selectivity": {
        **_SITE,
        "cell": CELL,
        **_RATE,
        "control_accuracy": NUMBER,
        "control_ci95": PAIR,
        "selectivity": NUMBER,
        "selectivity_ci95": PAIR,
    },
    "transfer": {
        **_SITE,
        "trained": CELL,
        "tested": CELL,
        "accuracy": NUMBER,
        "difference": NUMBER,
        "difference_ci95": PAIR,
    },
    "equal-dimension": {**_SITE, "n_components": NUMBER, **_RATE, **_IN_PALETTE},
    "description-length": {
        **_SITE,
        "cell": CELL,
        **dict.fromkeys(("bits_per_label", "compression", "n_train"), NUMBER),
    },
    "routing": {
        "position": TEXT,
        "layer": NUMBER,
        "target": TEXT,
        "chance": NUMBER,
        "n_images": NUMBER,
        **_IN_PALETTE,
    },
    "causal": {
        **_SITE,
        "cell": CELL_OR_ALL,
        "change": TEXT,
        "n_images": NUMBER,
        **_RATE,
        "followed": NUMBER,
        "followed_ci95": PAIR,
    },
}
_SOME: dict[str, Mapping[str, str]] = {  # of rows that have the first of them
    "learning-curve": {"gain": NUMBER, "gain_ci95": PAIR},
    "routing": {"bag": NUMBER},
    "leakage": {
        **dict.fromkeys(("excess", "p_holm", "beyond_bag", "beyond_bag_p_holm"), NUMBER),
        "excess_ci95": PAIR,
    },
    "causal": {
        "minus_random": NUMBER,
        "minus_random_ci95": PAIR,
        "followed_minus_random": NUMBER,
        "followed_minus_random_ci95": PAIR,
    },
}
_MAP = {"rule": TEXT, "threshold": NUMBER_OR_NULL, "patches_across": NUMBER_OR_NULL}


def measures_of(path: Path, results: Row) -> Row:
    """The `measures` of a results.json; empty if it has none.

    Raises:
        UserError: one that the sections know has a value that does not fit.
    """
    measures = mapping(path, "measures", results.get("measures", {}))
    if "attribution" in measures:
        _check_attribution(path, measures["attribution"])
    for name, kinds in _MEASURES.items():
        at, rows = f"measures.{name}", measures.get(name, [])
        check_rows(path, at, rows, kinds)
        some = _SOME.get(name, {})
        for number, row in enumerate(rows):
            if next(iter(some), None) in row:
                check_row(path, f"{at}[{number}]", row, some)
            if "levelled" in row:
                check_row(path, f"{at}[{number}]", row, {"levelled": YES_OR_NO})
    return measures


def _check_attribution(path: Path, tables: Any) -> None:
    at = "measures.attribution"
    tables = mapping(path, at, tables)
    for name, kinds in _ATTRIBUTION.items():
        check_rows(path, f"{at}.{name}", tables.get(name), kinds)
    for number, row in enumerate(tables["diagnoses"]):
        where = f"{at}.diagnoses[{number}]"
        if row["diagnosis"] not in _DIAGNOSES:
            raise UserError(f"{path}: {where}.diagnosis: must be one of {', '.join(_DIAGNOSES)}")
        check_row(path, where, row, _DIAGNOSES[row["diagnosis"]])


def cell_maps_of(path: Path, results: Row) -> Row:
    """The patches of each cell, by site; empty if a results.json has none.

    Raises:
        UserError: a value does not fit.
    """
    maps = mapping(path, "cells", results.get("cells", {}))
    for site, one in maps.items():
        at = f"cells.{site}"
        check_row(path, at, mapping(path, at, one), _MAP)
        for key, kind in (("overlap", NUMBERS), ("patches", PATCHES)):
            if not isinstance(one.get(key), list) or not one[key]:
                raise UserError(f"{path}: {at}.{key}: must be a list for each cell")
            for number, own in enumerate(one[key]):
                name = f"{key}[{number}]"
                check_row(path, at, {name: own}, {name: kind})
        n_patches = {len(own) for own in one["overlap"]}
        if len(n_patches) > 1 or len(one["patches"]) != len(one["overlap"]):
            raise UserError(f"{path}: {at}.overlap: must have a share of each patch for each cell")
        if max((max(own, default=0) for own in one["patches"]), default=0) >= min(n_patches):
            raise UserError(f"{path}: {at}.patches: there are only {min(n_patches)} patches")
    return maps
