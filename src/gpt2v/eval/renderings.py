"""The spread of accuracy over renderings of the same grids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.eval.metrics import column, shared_by
from gpt2v.eval.series import Series
from gpt2v.stats.intervals import Difference, holm

_SAME = ("sample", "content", "instruction", "row", "col", "tiles")


def spread_of(series: Sequence[Series], tables: Sequence[pa.Table]) -> list[dict[str, Any]]:
    """Rows for results: of each model and modality the accuracies of all parts.

    Args:
        tables: the records of each of the series, with the columns that every evaluation reads.

    Returns:
        `lowest` and `highest` accuracy with their parts, `sd` (of the parts' accuracies, in the
        population of these renderings), and `differences`: of each part minus the first one, with a
        paired 95% interval over new grids of new tiles, p, and p adjusted by Holm's method.
    """
    groups: dict[tuple[str, str], list[tuple[str, pa.Table]]] = {}
    for one, table in zip(series, tables, strict=True):
        groups.setdefault((one.model.name, one.modality), []).append((str(one.part.name), table))
    return [
        {"model": model, "modality": modality, **_spread(parts)}
        for (model, modality), parts in groups.items()
    ]


def _spread(parts: Sequence[tuple[str, pa.Table]]) -> dict[str, Any]:
    """The accuracies of parts that show the same grids."""
    first_name, first = parts[0]
    for name, table in parts[1:]:
        assert all(first[key].equals(table[key]) for key in _SAME), (name, first_name)
    shared = shared_by(first)
    right = {name: column(table, "exact").astype(bool) for name, table in parts}
    rates = {name: float(own.mean()) for name, own in right.items()}
    lowest, highest = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
    found = {
        name: Difference.between(own, right[first_name], shared)
        for name, own in right.items()
        if name != first_name
    }
    adjusted = holm(np.array([one.p for one in found.values()])).tolist()
    return {
        "reference": first_name,
        "accuracy": rates[first_name],
        "lowest": rates[lowest],
        "lowest_part": lowest,
        "highest": rates[highest],
        "highest_part": highest,
        "sd": float(np.std(list(rates.values()))),
        "differences": [
            {
                "part": name,
                "accuracy": rates[name],
                "difference": one.value,
                "ci95": list(one.interval()),
                "p": one.p,
                "p_holm": p_holm,
            }
            for (name, one), p_holm in zip(found.items(), adjusted, strict=True)
        ],
    }
