"""Read and check the files of a run that the report needs, as plain Python and numpy values.

The `kind` in a run's `results.json` tells which other files it has. A demo has sub-runs, which are
read if they exist. If a file is missing or damaged, the message of the `UserError` names it.

Shapes: J questions in a flat list.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gpt2v.errors import UserError
from gpt2v.extensions import check_imports
from gpt2v.report.checked import Row, check_keys, is_number, one_line_of, read_checked
from gpt2v.report.kinds import CELL_OR_ALL, NUMBER, check_row
from gpt2v.report.measures import cell_maps_of, measures_of
from gpt2v.run_layout import ATTENTION, FINISHED, METRICS, RECORDS, has_this_format
from gpt2v.runs import check_there
from gpt2v.storage.files import reason

Table = dict[str, np.ndarray]  # name of a column -> its values (J,)

SUB_RUNS = ("encoder", "lm", "mm", "eval", "probe", "ladder")  # of a demo
TRAININGS = ("encoder", "lm", "mm")
_PARTS = {  # sub-run or kind -> files that its sections are made of
    **dict.fromkeys(TRAININGS, (METRICS,)),
    "probe": (FINISHED, RECORDS),
    "ladder": (FINISHED,),
}
_OF_ALL_PARTS = ("gap", "gap_ci95", "agreement", "renderings")  # in results of a suite
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EVAL_COLUMNS = (
    "model", "modality", "sample", "instruction", "row", "col",
    "truth", "generated", "prediction", "exact", "palette", "choices",
)  # fmt: skip
COMPARE_KEYS = (
    "first", "other", "modality", "by", "value", "first_accuracy", "other_accuracy", "difference",
    "ci95", "p", "p_holm", "smallest_difference", "n_questions",
)  # fmt: skip
LANGUAGE_KEYS = {  # of rows that have the first of them
    "metric": ("task", "metric", "value", "stderr", "n_questions", "n_shot", "filter"),
    "accuracy": ("by", "family", "phenomenon", "accuracy", "ci95", "chance", "n_pairs", "n_items"),
    "loss": (
        *("corpus", "loss", "loss_ci95", "perplexity", "perplexity_ci95", "bits_per_byte"),
        *("bits_per_byte_ci95", "n_documents", "n_tokens", "n_bytes"),
    ),
}
ATTENTION_COLUMNS = (
    "modality", "sample", "rows", "cols", "question", "row", "col", "other_row", "layer", "patches",
    "patches_across", "patch_size", "height", "width", "row_edges", "col_edges", "cells", "words",
)  # fmt: skip
PROBE_COLUMNS = ("sample", "row", "col", "truth", "prediction", "palette_prediction")


@dataclass(frozen=True)
class Run:
    """A finished run, or a demo with its sub-runs; a field without files is empty or None."""

    folder: Path
    kinds: frozenset[str]  # kinds of its results and of its sub-runs' results
    results: Row  # results.json
    records: Table  # records.parquet of the evaluation
    classes: list[str]  # all class names, in the order of the answer choices
    probe: list[Row]  # rows of the probe
    probe_records: Table | None
    ladder: list[Row]  # rows of the ladder
    curves: dict[str, list[Row]]  # kind (`lm`, ...) -> lines of that training's metrics.jsonl
    pictures: dict[int, list[bytes]]  # sample index -> PNG files: one, or one of each cell
    missing: tuple[str, ...] = ()  # files of such a run that are not there, below the folder
    table: pa.Table | None = None  # records.parquet of the evaluation, with all its columns
    attention: pa.Table | None = None  # attention.parquet of the evaluation
    measures: Row = field(default_factory=dict)  # of the probe: `attribution`, `beside`, ...
    cell_maps: Row = field(default_factory=dict)  # of the probe: the patches of each cell, by site
    part: str = ""  # of a suite, if this is one of several, see `by_part`

    @property
    def kind(self) -> str:
        """The `kind` of its results.json."""
        kind: str = self.results["kind"]
        return kind

    @property
    def model(self) -> str:
        """What the records call the model that was shown pictures: `gpt2v`, or `hf`."""
        return "hf" if "hf" in self.records["model"] else "gpt2v"

    @property
    def model_name(self) -> str:
        """Its name on the page."""
        if self.model == "gpt2v":
            return "GPT-2v"
        return str(self.results.get("checkpoint", {}).get("checkpoint", "the model"))

    @property
    def rows(self) -> list[Row]:
        """The rows of its results.json."""
        rows: list[Row] = self.results["results"]
        return rows


def load_run(folder: Path) -> Run:
    """Read the finished run in `folder`.

    Raises:
        UserError: there is no run, another version wrote it, or one of its files is damaged.
    """
    check_there(folder)
    check_imports(folder)
    results = read_checked(folder / FINISHED)
    kind = results.get("kind")
    if not isinstance(kind, str) or not has_this_format(folder):
        raise UserError(
            f"{folder}: was written by another version of gpt2v; this one cannot read its results"
        )
    folders = {kind: folder}
    if kind == "demo":
        folders |= {name: folder / name for name in SUB_RUNS if (folder / name).is_dir()}
        folders.setdefault("eval", folder / "eval")  # a demo must have it
    if kind in ("demo", "eval"):
        check_keys(folder / FINISHED, results["results"], ("modality", "accuracy"))
    if kind == "compare":
        check_keys(folder / FINISHED, results["results"], COMPARE_KEYS)
    if kind == "language":
        rows = results["results"]
        own = (keys for key, keys in LANGUAGE_KEYS.items() if rows and key in rows[0])
        check_keys(folder / FINISHED, rows or [{}], next(own, ("task",)))
    if kind == "text-compare":
        check_keys(folder / FINISHED, results["results"], ("first", "other", "difference", "ci95"))
    records, probe_records = dict.fromkeys(EVAL_COLUMNS, np.empty(0, object)), None
    table = attention = None
    if "eval" in folders:
        path = folders["eval"] / RECORDS
        in_parts = any("part" in row for row in results["results"])
        needed = (*EVAL_COLUMNS, "part") if in_parts else EVAL_COLUMNS
        table = _read(path, needed)
        records = _arrays(path, table, needed)
        if not len(table):
            raise UserError(f"{path}: holds no questions")
        if (path := folders["eval"] / ATTENTION).exists():
            attention = _read(path, ATTENTION_COLUMNS)
    if "probe" in folders and (path := folders["probe"] / RECORDS).exists():
        probe_records = _arrays(path, _read(path, PROBE_COLUMNS), PROBE_COLUMNS)
    return Run(
        folder=folder,
        kinds=frozenset(folders),
        results=results,
        records=records,
        classes=_classes(records),
        probe=_rows(folders, "probe", ("cell", "accuracy")),
        probe_records=probe_records,
        ladder=_rows(folders, "ladder", ("rung", "accuracy")),
        curves={
            name: read_lines(folders[name] / METRICS)
            for name in TRAININGS
            if name in folders and (folders[name] / METRICS).exists()
        },
        pictures=_pictures(folders["eval"] / "examples") if "eval" in folders else {},
        missing=tuple(_missing(folder, kind)),
        table=table,
        attention=attention,
        measures=_of_probe(folders, measures_of),
        cell_maps=_of_probe(folders, cell_maps_of),
    )


def by_part(run: Run) -> list[Run]:
    """The parts of a suite, each as a run of its own; else the run itself.

    Each part has its own grids, which are counted from 0, and its own baselines.
    """
    names = list(dict.fromkeys(row["part"] for row in run.rows if "part" in row))
    if len(names) < 2:
        return [run]
    whole = {key: value for key, value in run.results.items() if key not in _OF_ALL_PARTS}
    if unlike := whole.get("not_as_trained"):  # is known for all parts together
        whole["not_as_trained"] = [f"{line} (in some parts)" for line in unlike]
    parts = []
    for name in names:
        here = run.records["part"] == name
        table, attention = (
            own if own is None else own.filter(pc.field("part") == name)
            for own in (run.table, run.attention)
        )
        parts.append(
            replace(
                run,
                part=name,
                results={**whole, "results": [row for row in run.rows if row.get("part") == name]},
                records={key: column[here] for key, column in run.records.items()},
                table=table,
                attention=attention,
                pictures=run.pictures if name == names[0] else {},  # others are not saved
            )
        )
    return parts


def _missing(folder: Path, kind: str) -> Iterator[str]:
    """The files, or folders of sub-runs, that a run of this kind should have and has not."""
    for name in SUB_RUNS if kind == "demo" else (kind,):
        own = folder / name if kind == "demo" else folder
        if not own.is_dir():
            yield f"{name}/"
            continue
        for file in _PARTS.get(name, ()):
            if not (own / file).exists():
                yield (own / file).relative_to(folder).as_posix()


def _rows(folders: Mapping[str, Path], kind: str, keys: tuple[str, ...]) -> list[Row]:
    """The rows of the results of one kind, checked for these keys; empty without such results."""
    path = folders[kind] / FINISHED if kind in folders else None
    if path is None or not path.exists():
        return []
    rows: list[Row] = read_checked(path)["results"]
    check_keys(path, rows, keys)
    for number, row in enumerate(rows if kind == "probe" else ()):
        check_row(path, f"results[{number}]", row, {"cell": CELL_OR_ALL, "accuracy": NUMBER})
    return rows


def _of_probe(folders: Mapping[str, Path], read: Callable[[Path, Row], Row]) -> Row:
    """What `read` finds in the results of the probe; empty without a probe."""
    path = folders["probe"] / FINISHED if "probe" in folders else None
    return {} if path is None or not path.exists() else read(path, read_checked(path))


def _read(path: Path, needed: tuple[str, ...]) -> pa.Table:
    """A parquet file, which must have some columns."""
    try:
        with path.open("rb") as content:  # pyarrow takes only names in UTF-8
            table = pq.read_table(content)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; a report needs the evaluation's records") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as parquet ({one_line_of(error)})") from None
    if missing := [name for name in needed if name not in table.column_names]:
        raise UserError(f"{path}: has no column '{missing[0]}'")
    return table


def _arrays(path: Path, table: pa.Table, columns: tuple[str, ...]) -> Table:
    """The named columns; lists stay lists, and a missing row or column is -1."""
    return {name: _column(path, name, table.column(name).to_pylist()) for name in columns}


def _column(path: Path, name: str, values: list[Any]) -> np.ndarray:
    try:
        if name in ("sample", "row", "col"):
            return np.array([-1 if value is None else value for value in values], dtype=np.int64)
        if name == "exact":
            return np.array(values, dtype=bool)
    except (TypeError, ValueError):
        raise UserError(f"{path}: column '{name}' must hold numbers") from None
    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):  # in a loop, so that lists do not become a second axis
        column[index] = value
    return column


def _classes(records: Table) -> list[str]:
    """Class names: the choices of the first look-up, then any other name in the look-ups."""
    asked = np.flatnonzero(records["instruction"] == "lookup")
    first = records["choices"][asked[0]] if len(asked) else None
    names = dict.fromkeys(first or [])
    seen = {name for key in ("truth", "prediction") for name in records[key][asked]}
    return [*names, *sorted(seen - names.keys() - {None})]


def read_lines(path: Path) -> list[Row]:
    """The lines of a metrics.jsonl; each has a `step`.

    Raises:
        UserError: the file cannot be read.
    """
    rows: list[Row] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({one_line_of(error)})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(f"{path}: line {number} is not JSON") from None
        if not isinstance(row, dict) or not is_number(row.get("step")):
            raise UserError(f"{path}: line {number} has no key 'step'")
        rows.append(row)
    return rows


def _pictures(folder: Path) -> dict[int, list[bytes]]:
    """The PNG files `<sample>.png`, or `<sample>-<cell>.png`, in `folder`, by sample index."""
    pictures: dict[tuple[int, int], bytes] = {}
    for path in folder.glob("*.png"):
        if name := re.fullmatch(r"(\d{1,9})(?:-(\d{1,4}))?", path.stem, re.ASCII):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({reason(error)})") from None
            if not content.startswith(PNG_SIGNATURE):
                raise UserError(f"{path}: is not a PNG picture")
            pictures[int(name[1]), int(name[2] or 0)] = content
    by_sample: dict[int, list[bytes]] = {}
    for (sample, _), content in sorted(pictures.items()):
        by_sample.setdefault(sample, []).append(content)
    return by_sample
