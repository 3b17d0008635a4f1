"""Two evaluations of the same samples, question by question.

Shapes: J questions in a flat list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.config.yaml12 import read_yaml
from gpt2v.errors import UserError
from gpt2v.eval.metrics import column, shared_by
from gpt2v.results import read_records, read_results
from gpt2v.run_layout import CONFIG, has_this_format
from gpt2v.stats.shared import Bools, Shared

Row = dict[str, Any]
Series = dict[tuple[str, str], pa.Table]  # (model, modality) -> its records

# What a question is, and what its right answer is.
_QUESTION = ("sample", "mode", "question", "truth")
_READ = ("model", "modality", "content", "instruction", "row", "col", "exact", "tiles")
# Keys of a configuration that do not decide which samples are drawn.
_NO_SAMPLES = (
    "modalities", "metrics", "examples", "features", "allow", "parts", "tiles.path", "hf",
)  # fmt: skip


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


def read_evaluation(name: str) -> Evaluation:
    """The evaluation in a run directory, or in a demo.

    Raises:
        UserError: it is no finished evaluation, or its records are of another version.
    """
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
    for key in (*_QUESTION, *_READ):
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


def n_images(asked: pa.Table) -> int:
    """Number of grids that questions are about; one that two parts show counts twice."""
    part = _part_numbers(asked)
    sample = column(asked, "sample")
    both = np.stack([sample, np.zeros_like(sample) if part is None else part])
    return int(np.unique(both, axis=1).shape[1])


@dataclass(frozen=True)
class Pair:
    """Two evaluations of the same J questions in one modality.

    Attributes:
        model: of the first one.
        asked: the records of the first one.
        first, other: (J,) whether each answered right.
        shared: what the questions share.
    """

    model: str
    modality: str
    asked: pa.Table
    first: Bools
    other: Bools
    shared: Shared


def pairs_of(first: Evaluation, other: Evaluation) -> Iterator[Pair]:
    """The questions that both were asked, for each modality.

    Raises:
        UserError: the samples are not the same, or no modality is.
    """
    _check_samples(first, other)
    for (model, modality), one, two in _matched(first, other):
        where = f"{other.name}: {modality}: other questions than those of {first.name}"
        one, two = _same_questions(where, one, two)
        mine, theirs = (column(table, "exact").astype(bool) for table in (one, two))
        shared = shared_by(one, _part_numbers(one))
        yield Pair(model, modality, one, mine, theirs, shared)


def _part_numbers(records: pa.Table) -> Any:
    if "part" not in records.column_names:
        return None
    return np.unique(column(records, "part").astype(str), return_inverse=True)[1]
