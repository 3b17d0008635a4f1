"""The gap: accuracy on text minus accuracy on pictures of the same grids, by the same model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.eval.metrics import column, shared_in_parts
from gpt2v.eval.series import Series
from gpt2v.stats.intervals import Difference


def gap_of(series: Sequence[Series], tables: Sequence[pa.Table]) -> dict[str, Any]:
    """Accuracy on text minus accuracy on pictures, over all parts, with its paired interval.

    It is that of the model whose text and pictures were measured.

    Args:
        tables: the records of each of the series.

    Returns:
        `gap` and `gap_ci95`; empty: no part was measured in both modalities.
    """
    found = {
        (one.model.name, one.part.name, one.modality): table
        for one, table in zip(series, tables, strict=True)
    }
    pairs = [
        (table, found[model, part, "image"])
        for (model, part, modality), table in found.items()
        if modality == "text" and (model, part, "image") in found
    ]
    if not pairs:
        return {}
    text = np.concatenate([column(own, "exact") for own, _ in pairs])
    image = np.concatenate([column(own, "exact") for _, own in pairs])
    gap = Difference.between(text, image, shared_in_parts([own for own, _ in pairs]))
    return {"gap": gap.value, "gap_ci95": list(gap.interval())}
