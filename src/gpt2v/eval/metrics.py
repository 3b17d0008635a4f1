"""Metrics: functions of records. Each is registered in `METRICS`.

A metric is called as `metric(records)`. `records` is a `pyarrow.Table` with the columns of
`records.parquet` and one row per question: one model's answers, in one modality, to the questions
of one instruction. The metric returns the values that it adds to the row of results, by key.

Shapes: J questions in a flat list.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.registry import METRICS
from gpt2v.stats import cluster_interval

if TYPE_CHECKING:
    import pyarrow as pa


@METRICS.register("accuracy")
def accuracy(records: "pa.Table") -> dict[str, Any]:
    """Share of exact answers, with its 95% interval clustered by picture."""
    return {
        **_rate("accuracy", "ci95", column(records, "exact").astype(bool), records),
        "n_images": len(np.unique(column(records, "sample"))),
        "n_questions": len(records),
    }


@METRICS.register("choice-accuracy")
def choice_accuracy(records: "pa.Table") -> dict[str, Any]:
    """Share of questions whose likeliest choice is right, with its 95% interval."""
    right = column(records, "prediction") == column(records, "truth")
    return _rate("choice_accuracy", "choice_ci95", right, records)


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


def column(records: "pa.Table", name: str) -> NDArray[Any]:
    """One column as an array, (J,)."""
    values: NDArray[Any] = records[name].to_numpy()
    return values


def _rate(
    key: str, interval_key: str, right: NDArray[np.bool_], records: "pa.Table"
) -> dict[str, Any]:
    """The share of `right` (J,) and its interval, clustered by picture, under two keys."""
    return {
        key: float(right.mean()),
        interval_key: list(cluster_interval(right, column(records, "sample"))),
    }
