"""`gpt2v eval compare A B ...`: evaluations of the same samples, compared question by question.

Each later evaluation is compared with the first. Differences are paired, and their intervals know
which questions share a picture or a tile (`stats`).

Shapes: J questions in a flat list.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.config.yaml12 import read_yaml
from gpt2v.errors import UserError
from gpt2v.eval.metrics import column, tiles_of
from gpt2v.results import read_records, read_results
from gpt2v.run_layout import CONFIG, has_this_format
from gpt2v.stats import Bools, Difference, Shared, holm

BREAKDOWNS = ("part", "instruction", "cell", "class")
Row = dict[str, Any]
Series = dict[tuple[str, str], pa.Table]  # (model, modality) -> its records

# What a question is, and what its right answer is.
_QUESTION = ("sample", "instruction", "row", "col", "truth")
# Keys of a configuration that do not decide which samples are drawn.
_NO_SAMPLES = ("modalities", "metrics", "examples", "features", "allow", "parts", "tiles.path")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        name: as the user wrote it.
        folder: its run directory; of a demo, that of its evaluation.
        results: the content of results.json.
        series: the records of each model in each modality.
    """

    name: str
    folder: Path
    results: Row
    series: Series


def compare_runs(names: Sequence[str], by: Sequence[str], run: Path) -> Row:
    """Compare evaluations with the first one; returns the content of results.json.

    Args:
        names: run directories of evaluations, or of demos.
        by: breakdowns: `part`, `instruction`, `cell`, `class`.
        run: the run directory of the comparison.

    Raises:
        UserError: one is no finished evaluation, or the samples are not the same.
    """
    started = time.monotonic()
    check_compared(names, by)
    first, *others = map(_read, names)
    rows = [row for other in others for row in _compared(first, other, by)]
    for breakdown in ("all", *by):
        family = [row for row in rows if row["by"] == breakdown]
        adjusted = holm(np.array([row["p"] for row in family]))
        for row, p in zip(family, adjusted.tolist(), strict=True):
            row["p_holm"] = p
    return runs.write_results(
        run,
        "compare",
        started,
        seed=first.results.get("seed"),
        data_hash=first.results.get("data_hash"),
        compared=list(names),
        results=rows,
    )


def check_compared(names: Sequence[str], by: Sequence[str]) -> None:
    """Raise UserError unless there is something to compare, in ways that there are."""
    if len(names) < 2:
        raise UserError("eval compare: needs two or more evaluations")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"eval compare: {name} is given twice")
    for i, breakdown in enumerate(by):
        if breakdown not in BREAKDOWNS:
            raise UserError(f"--by: must be some of {', '.join(BREAKDOWNS)}, not '{breakdown}'")
        if breakdown in by[:i]:
            raise UserError(f"--by: {breakdown} is given twice")


def _read(name: str) -> Evaluation:
    folder = Path(name)
    runs.check_there(folder)
    results = read_results(folder)
    if results.get("kind") == "demo":
        folder = folder / "eval"
        results = read_results(folder)
    if results.get("kind") != "eval":
        raise UserError(
            f"{name}: holds results of kind {results.get('kind')}; an evaluation is needed"
        )
    if not has_this_format(folder):
        raise UserError(f"{name}: was measured by another version of gpt2v; measure it again")
    records = read_records(folder)
    for key in (*_QUESTION, "model", "modality", "exact", "tiles"):
        if key not in records.column_names:
            raise UserError(f"{folder}: records.parquet: has no column '{key}'")
    models, modalities = (column(records, key).tolist() for key in ("model", "modality"))
    keys = list(zip(models, modalities, strict=True))
    series = {
        key: records.filter(pa.array([one == key for one in keys])) for key in dict.fromkeys(keys)
    }
    return Evaluation(name, folder, results, series)


# ---- the same samples ------------------------------------------------------------------------


def _check_samples(first: Evaluation, other: Evaluation) -> None:
    """Raise UserError, which names the first difference, unless both have the same samples."""
    where = f"{other.name}: other samples than those of {first.name}"
    one, two = first.results, other.results
    for key in ("suite", "suite_hash"):
        if one.get(key) != two.get(key):
            _refuse(where, key, one.get(key), two.get(key))
    versions = [results.get("versions", {}).get("gpt2v") for results in (one, two)]
    if versions[0] != versions[1]:
        _refuse(where, "version of gpt2v", *versions)
    if "suite" in one or one.get("data_hash") == two.get("data_hash"):
        return
    here, there = (dict(_leaves(_config(one.folder))) for one in (first, other))
    for key in {**here, **there}:
        if here.get(key) != there.get(key) and not key.startswith(_NO_SAMPLES):
            _refuse(where, key, here.get(key), there.get(key))
    key = "tiles_files" if one.get("tiles_files") != two.get("tiles_files") else "data_hash"
    _refuse(where, key, one.get(key), two.get(key))


def _refuse(where: str, key: str, here: Any, there: Any) -> None:
    raise UserError(f"{where}: {key} is {there}, not {here}; measure both on the same samples")


def _config(folder: Path) -> Any:
    path = folder / CONFIG
    try:
        return read_yaml(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: cannot be read, so its samples are not known") from None


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings, by dotted key."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _leaves(below, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _matched(first: Evaluation, other: Evaluation) -> Iterator[tuple[tuple[str, str], Any, Any]]:
    """Each modality that both have: (model, modality), the records of both.

    Where both have several models, as demos do, those with the same name are compared.

    Raises:
        UserError: there is none.
    """
    shared = [key for key in first.series if key in other.series]
    keys = {key: key for key in shared}
    for model, modality in first.series:
        there = [key for key in other.series if key[1] == modality]
        here = [key for key in first.series if key[1] == modality]
        if len(here) == len(there) == 1:
            keys.setdefault((model, modality), there[0])
    if not keys:
        has = " and ".join(sorted({modality for _, modality in first.series}))
        had = " and ".join(sorted({modality for _, modality in other.series}))
        raise UserError(f"{other.name}: was measured on {had}, and {first.name} on {has}")
    for key, theirs in keys.items():
        yield key, first.series[key], other.series[theirs]


def _same_questions(where: str, one: pa.Table, other: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The questions of the parts that both have.

    Raises:
        UserError: they are not the same; it names the first that differs.
    """
    if "part" in one.column_names:
        parts = set(column(one, "part")) & set(column(other, "part"))
        if not parts:
            raise UserError(f"{where}: no part of the suite was measured in both")
        one, other = (
            table.filter(pa.array([part in parts for part in column(table, "part")]))
            for table in (one, other)
        )
    columns = [name for name in ("part", *_QUESTION) if name in one.column_names]
    pairs = [(column(one, name), column(other, name)) for name in columns]
    if len(one) != len(other):
        raise UserError(f"{where}: {len(other)} questions, not {len(one)}")
    unlike = np.any([mine != theirs for mine, theirs in pairs], axis=0)
    if unlike.any():
        at = int(np.flatnonzero(unlike)[0])
        mine, theirs = (
            ", ".join(f"{n} {pair[i][at]}" for n, pair in zip(columns, pairs, strict=True))
            for i in (0, 1)
        )
        raise UserError(f"{where}: question {at} is [{theirs}], not [{mine}]")
    return one, other


# ---- the differences -------------------------------------------------------------------------


def _compared(first: Evaluation, other: Evaluation, by: Sequence[str]) -> Iterator[Row]:
    _check_samples(first, other)
    for (model, modality), one, two in _matched(first, other):
        where = f"{other.name}: {modality}: other questions than those of {first.name}"
        one, two = _same_questions(where, one, two)
        right = [column(table, "exact").astype(bool) for table in (two, one)]
        shared = Shared(column(one, "sample"), tiles_of(one), _part_numbers(one))
        names = {"first": first.name, "other": other.name, "model": model, "modality": modality}
        everything = np.ones(len(one), bool)
        yield _row({**names, "by": "all", "value": None}, right, shared, everything)
        for breakdown in by:
            groups = _groups(one, breakdown)
            for value in dict.fromkeys(group for group in groups if group is not None):
                chosen = np.array([group == value for group in groups])
                yield _row({**names, "by": breakdown, "value": value}, right, shared, chosen)


def _part_numbers(records: pa.Table) -> Any:
    if "part" not in records.column_names:
        return None
    return np.unique(column(records, "part").astype(str), return_inverse=True)[1]


def _groups(records: pa.Table, breakdown: str) -> list[Any]:
    """Of each question, the group that it is in; None: in none.

    Cells and classes are those of look-ups; a part or an instruction that is the only one says
    nothing new.
    """
    lookups = column(records, "instruction") == "lookup"
    if breakdown == "cell":
        cells = zip(column(records, "row").tolist(), column(records, "col").tolist(), strict=True)
        return [f"{r}, {c}" if own else None for own, (r, c) in zip(lookups, cells, strict=True)]
    if breakdown == "class":
        truths = column(records, "truth")
        return [str(name) if own else None for own, name in zip(lookups, truths, strict=True)]
    if breakdown not in records.column_names:
        return [None] * len(records)
    values = column(records, breakdown).tolist()
    return values if len(set(values)) > 1 else [None] * len(records)


def _row(names: Row, right: Sequence[Bools], shared: Shared, chosen: Bools) -> Row:
    """A row of results about some of the questions, all arrays (J,)."""
    other, first = (own[chosen] for own in right)
    here = shared.of(chosen)
    found = Difference.between(other, first, here)
    tiles = {} if here.tiles is None else {"n_tiles": len(np.unique(here.tiles[here.tiles >= 0]))}
    return {
        **names,
        "first_accuracy": float(first.mean()),
        "other_accuracy": float(other.mean()),
        "difference": found.value,
        "ci95": list(found.interval()),
        "p": found.p,
        "smallest_difference": found.smallest,
        "n_images": len(np.unique(here.picture)),
        **tiles,
        "n_questions": here.n,
    }
