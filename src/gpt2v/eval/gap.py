"""The gap: accuracy on text minus accuracy on pictures of the same grids, by the same model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2v.data.dataset import GridDataset
from gpt2v.eval.metrics import padded
from gpt2v.model.scoring import Records
from gpt2v.stats import Difference, Shared


def gap_between(pairs: Sequence[tuple[GridDataset, Records, Records]]) -> dict[str, Any]:
    """Accuracy on text minus accuracy on pictures, over all parts, with its paired interval.

    Grids of parts with the same seed, split and number are one cluster, and so is a tile wherever
    it is seen.

    Args:
        pairs: of each part, its grids and the records of text and of pictures, with the same
            questions.
    """
    text = np.concatenate([own["exact"] for _, own, _ in pairs]).astype(bool)
    image = np.concatenate([own["exact"] for _, _, own in pairs]).astype(bool)
    seeds = list(dict.fromkeys((data.seed, data.split) for data, _, _ in pairs))
    samples = [np.array(records["sample"]) for _, records, _ in pairs]
    most = max(own.max() for own in samples) + 1
    pictures = [
        own + most * seeds.index((data.seed, data.split))
        for own, (data, _, _) in zip(samples, pairs, strict=True)
    ]
    tiles = [padded(pa.array(records["tiles"], pa.list_(pa.int64()))) for _, records, _ in pairs]
    widest = max(own.shape[1] for own in tiles)
    shared = Shared(
        picture=np.concatenate(pictures),
        tiles=np.concatenate(
            [np.pad(t, ((0, 0), (0, widest - t.shape[1])), constant_values=-1) for t in tiles]
        ),
        part=np.repeat(np.arange(len(pairs)), [len(own) for own in samples]),
    )
    gap = Difference.between(text, image, shared)
    return {"gap": gap.value, "gap_ci95": list(gap.interval())}
