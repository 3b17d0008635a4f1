"""Rows of an evaluation's results: the metrics of a series' records, and what is known without."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.config.choice import choose
from gpt2v.errors import UserError
from gpt2v.eval.facts import Facts
from gpt2v.eval.series import Series
from gpt2v.registry import METRICS

# Keys of a row of results that no metric may give.
_ROW_KEYS = (
    "model",
    "part",
    "modality",
    "instruction",
    "questions",
    "split",
    "held_out_contents",
    "chance",
    "blind_accuracy",
    "bag_accuracy",
)


def summarise(records: pa.Table, metrics: Sequence[str] = ("accuracy",)) -> dict[str, Any]:
    """The values of the metrics for some records, by key.

    Raises:
        UserError: a metric gives something else, or a key that the row has already.
    """
    row: dict[str, Any] = {}
    for metric in metrics:
        values = choose(METRICS, metric).load()(records)
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            raise UserError(f"metrics: {metric}: must return a mapping of keys to values")
        if taken := values.keys() & {*row, *_ROW_KEYS}:
            raise UserError(f"metrics: {metric}: the row has '{min(taken)}' already")
        row |= {key: _plain(metric, key, value) for key, value in values.items()}
    return row


def _plain(metric: str, key: str, value: Any) -> Any:
    """A value that JSON holds."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(
            f"metrics: {metric}: {key}: must be a number, text, or a list, and finite, "
            f"not {value!r}"
        ) from None
    pair = isinstance(value, list | tuple) and len(value) == 2
    if key.endswith("ci95") and not (pair and all(isinstance(end, int | float) for end in value)):
        raise UserError(f"metrics: {metric}: {key}: must be two numbers, not {value!r}")
    return value


def rows_of(
    one: Series, table: pa.Table, facts: Facts, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """A row of results for each instruction."""
    rows = []
    instructions = table["instruction"].to_numpy()
    different = list(dict.fromkeys(instructions.tolist()))
    for instruction in different:
        _, own = facts.baselines[instruction]
        asked = table  # not copied if it is all of it
        if len(different) > 1:
            asked = table.filter(pa.array(instructions == instruction))
        rows.append(
            {
                **one.names,
                "instruction": instruction,
                "questions": one.part.mode,
                "split": one.part.data.split,
                "held_out_contents": facts.held_out,
                **summarise(asked, metrics),
                "chance": own.chance,
                "blind_accuracy": _known(own.blind),
                "bag_accuracy": _known(own.bag),
            }
        )
    return rows


def _known(rate: float) -> float | None:
    """A rate, or null in place of NaN, which JSON does not have."""
    return None if np.isnan(rate) else rate
