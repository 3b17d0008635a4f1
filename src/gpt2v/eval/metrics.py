"""Metrics: functions of records. Each is registered in `METRICS`.

A metric is called as `metric(records)`. `records` is a `pyarrow.Table` with the columns of
`records.parquet` and one row per question: one model's answers, in one modality, to the questions
of one instruction. The metric returns the values that it adds to the row of results, by key.

Shapes: J questions in a flat list, W tiles that a question reads.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.render.asked import PLACES
from gpt2v.data.rng import Ints
from gpt2v.eval import reliability
from gpt2v.eval.listed import ListedCells, listed_cells
from gpt2v.registry import METRICS
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Shared

if TYPE_CHECKING:
    import pyarrow as pa


# Columns that the evaluation itself reads, and those that built-in metrics read besides.
_ALWAYS = ("instruction", "modality", "sample", "content", "row", "col", "tiles", "exact")
_BESIDES: dict[str, tuple[str, ...]] = {
    "accuracy": (),
    "choice-accuracy": ("prediction", "truth"),
    "cell-accuracy": ("truth", "generated"),
    "log-loss": ("truth", "choices", "logprobs"),
    "calibration": reliability.COLUMNS,
}


def columns_read(metrics: Sequence[str]) -> list[str] | None:
    """The columns of the records that are needed for these metrics; None: all, as for a user's."""
    if not all(metric in _BESIDES for metric in metrics):
        return None
    return list(dict.fromkeys([*_ALWAYS, *(name for own in metrics for name in _BESIDES[own])]))


@METRICS.register("accuracy")
def accuracy(records: "pa.Table") -> dict[str, Any]:
    """Share of exact answers, with its 95% interval over new grids of new tiles."""
    tiles = tiles_of(records)
    return {
        **_rate("accuracy", "ci95", column(records, "exact").astype(bool), records),
        "n_images": len(np.unique(column(records, "sample"))),
        "n_contents": len(np.unique(column(records, "content"))),
        **({} if tiles is None else {"n_tiles": len(np.unique(tiles[tiles >= 0]))}),
        "n_questions": len(records),
    }


@METRICS.register("choice-accuracy")
def choice_accuracy(records: "pa.Table") -> dict[str, Any]:
    """Share of questions whose likeliest choice is right, with its 95% interval."""
    right = column(records, "prediction") == column(records, "truth")
    return _rate("choice_accuracy", "choice_ci95", right, records)


@METRICS.register("cell-accuracy")
def cell_accuracy(records: "pa.Table") -> dict[str, Any]:
    """Share of right cells in answers that list them (`row`, `column`, `transcribe`, `matrix`)."""
    cells = listed_cells(records)
    if cells is None:
        return {}
    interval = rate_interval(cells.right, shared_by_cells(records, cells))
    return {
        "cell_accuracy": float(cells.right.mean()),
        "cell_ci95": list(interval),
        "n_cells": len(cells.right),
    }


@METRICS.register("log-loss")
def log_loss(records: "pa.Table") -> dict[str, Any]:
    """Mean negative log-probability of the true choice among the choices, in nats."""
    losses = []
    for truth, choices, logprobs in zip(
        *(records[name].to_pylist() for name in ("truth", "choices", "logprobs")), strict=True
    ):
        if truth in choices:
            values = np.array(logprobs)
            top = values.max()
            total = top + np.log(np.exp(values - top).sum())
            losses.append(total - values[choices.index(truth)])
    return {"log_loss": float(np.mean(losses)) if losses else None}


@METRICS.register("calibration")
def calibration(records: "pa.Table") -> dict[str, Any]:
    """Expected calibration error in 15 bins of equal width (Guo et al. 2017), and Brier score.

    Of the probabilities of the choices; null if no question has choices.
    """
    found = reliability.reliability(records)
    known = found.n_questions > 0
    return {
        "ece": found.ece if known else None,
        "brier": found.brier if known else None,
        "n_scored": found.n_questions,
    }


def column(records: "pa.Table", name: str) -> NDArray[Any]:
    """One column as an array, (J,); -1 for a row or column of the grid that is not named."""
    chunks = records[name]
    if name in PLACES:
        chunks = chunks.fill_null(-1)
    values: NDArray[Any] = chunks.to_numpy()
    return values


def _rate(
    key: str, interval_key: str, right: NDArray[np.bool_], records: "pa.Table"
) -> dict[str, Any]:
    """The share of `right` (J,) and its interval, under two keys."""
    return {key: float(right.mean()), interval_key: list(rate_interval(right, shared_by(records)))}


def shared_by(records: "pa.Table", part: Ints | None = None) -> Shared:
    """What the questions of one modality share: pictures and tiles, or tables that are the same.

    Args:
        part: (J,) part of a suite that each question is in.
    """
    tiles = tiles_of(records)
    return Shared(column(records, "content" if tiles is None else "sample"), tiles, part)


def shared_by_cells(records: "pa.Table", cells: ListedCells) -> Shared:
    """What listed cells share: those of a picture share it, and each has one tile."""
    tiles = tiles_of(records)
    picture = column(records, "content" if tiles is None else "sample")[cells.question]
    own = None if tiles is None else tiles[cells.question, cells.number][:, None]
    return Shared(picture, own)


def shared_in_parts(tables: "Sequence[pa.Table]") -> Shared:
    """What the questions of several parts share, of which some modality shows pictures.

    Grids with the same content are one cluster, in all parts, and so is a tile wherever it is seen.

    Args:
        tables: the records of each part, in one of the modalities.
    """
    tiles = [padded(own["tiles"].combine_chunks()) for own in tables]
    widest = max(own.shape[1] for own in tiles)
    wide = [np.pad(t, ((0, 0), (0, widest - t.shape[1])), constant_values=-1) for t in tiles]
    contents = [column(own, "content") for own in tables]
    part = np.repeat(np.arange(len(tables)), [len(own) for own in tables])
    return Shared(np.concatenate(contents), np.concatenate(wide), part)


def tiles_of(records: "pa.Table") -> Ints | None:
    """The tiles that decide each answer, (J, W), padded with -1; None: grids were read as text."""
    if set(records["modality"].unique().to_pylist()) == {"text"}:
        return None
    return padded(records["tiles"].combine_chunks())


def padded(lists: "pa.ListArray") -> Ints:
    """Lists of numbers from 0 as an array (J, W), padded with -1."""
    counts = np.asarray(lists.value_lengths())
    array = np.full((len(counts), counts.max(initial=0)), -1)
    array[np.arange(array.shape[1]) < counts[:, None]] = lists.flatten()
    return array
