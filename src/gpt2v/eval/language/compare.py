"""`gpt2v eval compare A B ...` of language: the same documents or minimal pairs, one by one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.errors import UserError
from gpt2v.eval.language.rates import Ratio, groups_of, shared_by
from gpt2v.results import read_records, read_results
from gpt2v.stats.intervals import Difference, holm
from gpt2v.stats.student import detectable, p_value, width

Row = dict[str, Any]

_KINDS = {"corpus": "text-compare", "pairs": "compare"}  # task -> kind of the results


def is_language(name: str) -> bool:
    """Whether a run is a measurement of language.

    Raises:
        UserError: it is no finished run.
    """
    runs.check_there(Path(name))
    return read_results(name).get("kind") == "language"


@dataclass(frozen=True)
class _Measured:
    """A finished measurement: its name, results.json and records."""

    name: str
    results: Row
    records: pa.Table


def compare_language(names: Sequence[str], in_groups: bool, run: Path) -> Row:
    """Compare measurements of language with the first one; returns the content of results.json.

    Args:
        names: run directories.
        in_groups: whether to compare pairs also by family and phenomenon.
        run: the run directory of the comparison.

    Raises:
        UserError: one is no such measurement, or they are not of the same documents or pairs.
    """
    started = time.monotonic()
    first, *others = map(_read, names)
    task = first.results["results"][0]["task"]
    rows: list[Row] = []
    for other in others:
        _check_same(first, other)
        compared = _texts if task == "corpus" else _pairs
        rows += [
            {"first": first.name, "other": other.name, **row}
            for row in compared(first, other)
            if in_groups or row["by"] == "all"
        ]
    for by in dict.fromkeys(row["by"] for row in rows):
        family = [row for row in rows if row["by"] == by]
        adjusted = holm(np.array([row["p"] for row in family]))
        for row, p in zip(family, adjusted.tolist(), strict=True):
            row["p_holm"] = p
    return runs.write_results(
        run,
        _KINDS[task],
        started,
        seed=first.results.get("seed"),
        data_hash=first.results["data_hash"],
        compared=list(names),
        results=rows,
    )


def _read(name: str) -> _Measured:
    if not is_language(name):
        raise UserError(f"{name}: was measured on grids, and others on language")
    results = read_results(name)
    if results["results"][0]["task"] not in _KINDS:
        raise UserError(
            f"{name}: is of lm-evaluation-harness; only text and pairs of language are compared"
        )
    records = read_records(name)
    if results["results"][0]["task"] == "pairs" and "slots" not in records.column_names:
        raise UserError(f"{name}: was measured by an older version; measure it again")
    return _Measured(name, results, records)


def _check_same(first: _Measured, other: _Measured) -> None:
    """Raise UserError, which names the difference, unless both measured the same."""
    tasks = [one.results["results"][0]["task"] for one in (first, other)]
    for key, here, there in (
        ("task", *tasks),
        ("data_hash", first.results["data_hash"], other.results["data_hash"]),
    ):
        if here != there:
            raise UserError(
                f"{other.name}: {key} is {there}, not {here} as in {first.name}; measure both on "
                "the same text or pairs"
            )


def _pairs(first: _Measured, other: _Measured) -> Iterator[Row]:
    """A row for all pairs, for each family and for each phenomenon."""
    shared = shared_by(first.records)
    mine, theirs = (one.records["exact"].to_numpy() for one in (first, other))
    for names, here in groups_of(first.records):
        own = shared.of(here)
        n_drawn, found = own.n_drawn, Difference.between(theirs[here], mine[here], own)
        yield {
            "modality": "text",
            "by": names["by"],
            "value": names["phenomenon"] or names["family"],
            "first_accuracy": float(mine[here].mean()),
            "other_accuracy": float(theirs[here].mean()),
            "difference": found.value,
            "ci95": list(found.interval(width(n_drawn))),
            "p": p_value(found.errors, n_drawn),
            "smallest_difference": found.error * detectable(n_drawn),
            "n_items": own.n_pictures,
            "n_drawn": n_drawn,
            "n_questions": own.n,
        }


def _texts(first: _Measured, other: _Measured) -> Iterator[Row]:
    """The difference in bits per byte, which does not depend on the tokenizers."""
    sizes = first.records["n_bytes"].to_numpy().astype(np.float64)
    mine, theirs = (one.records["nll"].to_numpy() / log(2) for one in (first, other))
    found = Ratio.of(theirs - mine, sizes)
    error, n = found.error, found.n_equal
    if error is None:
        raise UserError(f"{first.name}: is one document; a difference needs several")
    yield {
        "by": "all",
        "first_bits_per_byte": Ratio.of(mine, sizes).value,
        "other_bits_per_byte": Ratio.of(theirs, sizes).value,
        "difference": found.value,
        "ci95": found.ci95,
        "p": p_value(abs(found.value) / error, n) if error else float(found.value == 0),
        "smallest_difference": error * detectable(n),
        "n_documents": len(sizes),
    }
