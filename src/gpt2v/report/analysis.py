"""Count in the records: accuracy by cell and by class, confusions, what probe and model share.

A `Table` maps column names to arrays with one entry per question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2v.report.read import Row, Run, Table

SERIES = {  # (model, modality) -> name on the page, colour
    ("gpt2v", "text"): ("GPT-2v, text", "text"),
    ("gpt2v", "image"): ("GPT-2v, picture", "image"),
    ("lm", "text"): ("GPT-2 before it got eyes, text", "lm"),
}


@dataclass(frozen=True)
class Rate:
    """A share of right answers, or a difference of two, with its 95% interval where known."""

    value: float
    ci: tuple[float, float] | None = None


def select(table: Table, **equal: str) -> Table:
    """The questions whose columns equal the given values."""
    keep = np.ones(len(table["sample"]), dtype=bool)
    for name, value in equal.items():
        keep &= table[name] == value
    return {name: column[keep] for name, column in table.items()}


def lookups(table: Table, model: str, modality: str) -> Table:
    """One model's questions of the form "what is in row r, column c" about one modality."""
    chosen = select(table, model=model, modality=modality, instruction="lookup")
    placed = (chosen["row"] >= 0) & (chosen["col"] >= 0)
    return {name: column[placed] for name, column in chosen.items()}


def lookup_tables(run: Run) -> dict[tuple[str, str], Table]:
    """The look-ups of each (model, modality) of SERIES that a run has measured."""
    tables = {key: lookups(run.records, *key) for key in SERIES}
    return {key: table for key, table in tables.items() if len(table["sample"])}


def _by_question(table: Table, column: str) -> dict[tuple[int, int, int], Any]:
    """One column by (sample, row, column of the grid)."""
    keys = zip(table["sample"].tolist(), table["row"].tolist(), table["col"].tolist(), strict=True)
    return dict(zip(keys, table[column].tolist(), strict=True))


def cell_accuracy(table: Table, right: np.ndarray) -> np.ndarray:
    """Share of `right` [n] at every place of the grid: [rows, cols], NaN where none was asked."""
    shape = (int(table["row"].max()) + 1, int(table["col"].max()) + 1)
    asked, hit = np.zeros(shape), np.zeros(shape)
    np.add.at(asked, (table["row"], table["col"]), 1.0)
    np.add.at(hit, (table["row"], table["col"]), right.astype(float))
    found = np.full(shape, np.nan)
    np.divide(hit, asked, out=found, where=asked > 0)
    return found


def shade_floor(*cells: np.ndarray) -> float:
    """The pale end of a shade: the lowest value, rounded down to 5 points."""
    lowest = min(float(np.nanmin(array)) for array in cells)
    return float(min(np.floor(lowest * 20 + 1e-9) / 20, 0.95))


def confusion(table: Table, classes: list[str]) -> np.ndarray:
    """Counts [true class, answered class]."""
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for truth, prediction in zip(table["truth"], table["prediction"], strict=True):
        if truth in place and prediction in place:
            counts[place[truth], place[prediction]] += 1
    return counts


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Every row divided by its sum; rows of zeros stay zero."""
    total = counts.sum(axis=1, keepdims=True)
    shares = np.zeros(counts.shape)
    np.divide(counts, total, out=shares, where=total > 0)
    return shares


def off_diagonal(square: np.ndarray) -> np.ndarray:
    """A copy with zeros on the diagonal: the mistakes of a confusion matrix."""
    return np.where(np.eye(len(square), dtype=bool), 0, square)


def class_accuracy(table: Table, classes: list[str]) -> np.ndarray:
    """Share of exact answers by true class [n_classes], NaN where the class never occurs."""
    found = np.full(len(classes), np.nan)
    for index, name in enumerate(classes):
        hits = table["exact"][table["truth"] == name]
        if len(hits):
            found[index] = hits.mean()
    return found


def joint_outcomes(image: Table, probe: Table) -> dict[tuple[bool, bool], int] | None:
    """How often (probe right, model right) took each value.

    None where no question is shared, or where one has two answers: then the grids are not the same.
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
    """Up to `n` of the `available` samples: half with a wrong answer, half without, if there are.

    Within each half the lowest indices are taken, so nobody picked the pretty ones.
    """
    wrong_in = set(image["sample"][~image["exact"]].tolist())
    asked = set(image["sample"].tolist()) or set(available)
    pool = [sample for sample in sorted(available) if sample in asked]
    wrong = [sample for sample in pool if sample in wrong_in]
    right = [sample for sample in pool if sample not in wrong_in]
    n_wrong = min(len(wrong), max(n // 2, n - len(right)))
    return sorted(wrong[:n_wrong] + right[: n - n_wrong])


def series(
    lines: Sequence[Row], keep: Callable[[str], bool]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logged numbers by key, as (steps, values), for the keys that `keep` accepts."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for key, value in line.items():
            if keep(key) and isinstance(value, int | float):
                found.setdefault(key, []).append((line["step"], value))
    return {key: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for key, pairs in found.items()}


def phases(lines: Sequence[Row]) -> list[tuple[int, str]]:
    """Where the training data changed: (first logged step, name of the data)."""
    found: list[tuple[int, str]] = []
    for line in lines:
        if "data" in line and (not found or found[-1][1] != str(line["data"])):
            found.append((line["step"], str(line["data"])))
    return found
