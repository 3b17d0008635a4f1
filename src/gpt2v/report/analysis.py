"""Count in the records: accuracy by cell and by class, confusions, outcomes of probe and model.

A `Table` maps the name of each column to an array (J,).

Shapes: R rows of a grid, C columns of a grid, J questions in a flat list.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.eval.breakdown import series_in
from gpt2v.report.checked import Row
from gpt2v.report.read import Run, Table
from gpt2v.report.words import counted_range

Series = tuple[np.ndarray, np.ndarray]  # steps, values


@dataclass(frozen=True)
class Rate:
    """A share of right answers, or a difference of two shares; with its 95% interval if known."""

    value: float
    ci: tuple[float, float] | None = None


def select(table: Table, **equal: str) -> Table:
    """The questions whose columns have the given values."""
    selected = np.ones(len(table["sample"]), dtype=bool)
    for name, value in equal.items():
        selected &= table[name] == value
    return {name: column[selected] for name, column in table.items()}


def lookups(table: Table, model: str, modality: str) -> Table:
    """One model's look-ups ("what is in row r, column c") in one modality."""
    chosen = select(table, model=model, modality=modality, instruction="lookup")
    has_cell = (chosen["row"] >= 0) & (chosen["col"] >= 0)
    return {name: column[has_cell] for name, column in chosen.items()}


def series_of(run: Run) -> dict[tuple[str, str], tuple[str, str]]:
    """Of each (model, modality) that a page shows: its name there, and its colour."""
    return {
        (run.model, "text"): (f"{run.model_name}, text", "text"),
        (run.model, "image"): (f"{run.model_name}, picture", "image"),
        ("lm", "text"): ("GPT-2 before it got eyes, text", "lm"),
    }


def lookup_tables(run: Run) -> dict[tuple[str, str], Table]:
    """The look-ups of each (model, modality) of `series_of` that a run has measured."""
    tables = {key: lookups(run.records, *key) for key in series_of(run)}
    return {key: table for key, table in tables.items() if len(table["sample"])}


def own_series(run: Run, *needed: str) -> dict[str, tuple[pa.Table, str]]:
    """The records of the run's model in each modality, with its colour on the page, by name.

    Args:
        needed: columns; empty: the records lack one of them, as those of an older run may.
    """
    if run.table is None or not set(needed) <= set(run.table.column_names):
        return {}
    tables = series_in(run.table)
    both = {(run.model, "text+image"): (f"{run.model_name}, text and picture", "probe")}
    return {
        name: (tables[key], colour)
        for key, (name, colour) in {**series_of(run), **both}.items()
        if key in tables and key[0] == run.model
    }


def _by_question(table: Table, column: str) -> dict[tuple[int, int, int], Any]:
    """The values of one column, by (sample, row, column of the grid)."""
    keys = zip(table["sample"].tolist(), table["row"].tolist(), table["col"].tolist(), strict=True)
    return dict(zip(keys, table[column].tolist(), strict=True))


def cell_accuracy(table: Table, right: np.ndarray) -> np.ndarray:
    """Share of `right` (J,) in each cell of the grid, (R, C); NaN for a cell without questions."""
    shape = (int(table["row"].max()) + 1, int(table["col"].max()) + 1)
    asked, hits = np.zeros(shape), np.zeros(shape)
    np.add.at(asked, (table["row"], table["col"]), 1.0)
    np.add.at(hits, (table["row"], table["col"]), right.astype(float))
    accuracy = np.full(shape, np.nan)
    np.divide(hits, asked, out=accuracy, where=asked > 0)
    return accuracy


def questions_by_cell(table: Table) -> list[int]:
    """How many questions were asked about each cell that was asked about."""
    cells = np.stack((table["row"], table["col"]))
    counts: list[int] = np.unique(cells, axis=1, return_counts=True)[1].tolist()
    return counts


def asked(tables: Iterable[Table]) -> str:
    """How many questions about how many grids each of the tables holds, in words."""
    counts = [(len(table["sample"]), len(np.unique(table["sample"]))) for table in tables]
    questions, grids = zip(*counts, strict=True)
    return f"{counted_range(questions, 'question')} about {counted_range(grids, 'grid')}"


def shade_floor(*cells: np.ndarray) -> float:
    """The value of the palest shade: the lowest value, rounded down to 5 percentage points."""
    lowest = min(float(np.nanmin(array)) for array in cells)
    return float(min(np.floor(lowest * 20 + 1e-9) / 20, 0.95))


@dataclass(frozen=True)
class Confusion:
    """How often each object was answered with each name; every question is counted once.

    An answer is right only if it is exact, as in all accuracies.

    Attributes:
        truths: the objects that were asked about, a row each.
        answers: the names of all objects, a column each, and `UNSPELT` if there is such an answer.
        counts: number of questions, (n_truths, n_answers).
    """

    truths: list[str]
    answers: list[str]
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The counts as shares of their rows, (n_truths, n_answers)."""
        shares: np.ndarray = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares

    @property
    def wrong(self) -> np.ndarray:
        """Whether an answer is a mistake, (n_truths, n_answers)."""
        return np.array([[truth != answer for answer in self.answers] for truth in self.truths])


UNSPELT = "(other)"  # the best choice is right, but what the model writes freely is not


def confusion(table: Table, classes: list[str]) -> Confusion:
    """Count the answers to look-ups about `classes`."""
    truths = [name for name in classes if (table["truth"] == name).any()]
    answers = [*classes, UNSPELT]
    rows = {name: row for row, name in enumerate(truths)}
    cols = {name: col for col, name in enumerate(answers)}
    counts = np.zeros((len(truths), len(answers)), dtype=np.int64)
    outcomes = (table[name] for name in ("truth", "prediction", "exact"))
    for truth, prediction, exact in zip(*outcomes, strict=True):
        answer = truth if exact else UNSPELT if prediction in (truth, None) else prediction
        counts[rows[truth], cols[answer]] += 1
    if not counts[:, -1].any():
        answers, counts = answers[:-1], counts[:, :-1]
    return Confusion(truths, answers, counts)


def class_accuracy(table: Table, classes: list[str]) -> np.ndarray:
    """Share of exact answers by true class, (n_classes,); NaN for a class that never occurs."""
    accuracy = np.full(len(classes), np.nan)
    for index, name in enumerate(classes):
        hits = table["exact"][table["truth"] == name]
        if len(hits):
            accuracy[index] = hits.mean()
    return accuracy


def joint_outcomes(image: Table, probe: Table) -> dict[tuple[bool, bool], int] | None:
    """Number of questions with each outcome (probe right, model right).

    None if probe and model share no question, or if the truth of a shared question differs: then
    their grids are not the same.
    """
    model, truth = _by_question(image, "exact"), _by_question(image, "truth")
    right = probe["palette_prediction"] == probe["truth"]
    probe_right = _by_question({**probe, "exact": right}, "exact")
    shared = probe_right.keys() & model.keys()
    probe_truth = _by_question(probe, "truth")
    if not shared or any(truth[key] != probe_truth[key] for key in shared):
        return None
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    for key in shared:
        counts[probe_right[key], model[key]] += 1
    return counts


def choose_samples(image: Table, available: list[int], n: int = 6) -> list[int]:
    """Up to `n` of the available samples: if possible, half with a wrong answer, half without.

    Each half has the samples with the lowest indices, so the choice is not biased.
    """
    wrong_in = set(image["sample"][~image["exact"]].tolist())
    asked = set(image["sample"].tolist()) or set(available)
    pool = [sample for sample in sorted(available) if sample in asked]
    wrong = [sample for sample in pool if sample in wrong_in]
    right = [sample for sample in pool if sample not in wrong_in]
    n_wrong = min(len(wrong), max(n // 2, n - len(right)))
    return sorted(wrong[:n_wrong] + right[: n - n_wrong])


def series(lines: Sequence[Row], accepts: Callable[[str], bool]) -> dict[str, Series]:
    """Logged numbers as (steps, values), for each key that `accepts` returns true for."""
    logged: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for key, value in line.items():
            if accepts(key) and isinstance(value, int | float):
                logged.setdefault(key, []).append((line["step"], value))
    return {key: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for key, pairs in logged.items()}


def stages(lines: Sequence[Row]) -> list[tuple[int, str]]:
    """The stages of a training: (first logged step, name of the data) of each."""
    starts: list[tuple[int, str]] = []
    for line in lines:
        if "data" in line and (not starts or starts[-1][1] != str(line["data"])):
            starts.append((line["step"], str(line["data"])))
    return starts
