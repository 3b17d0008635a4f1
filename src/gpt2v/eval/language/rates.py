"""Rates of text and of minimal pairs: which records belong together, and intervals.

Shapes: J questions in a flat list.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from gpt2v.data.rng import Ints
from gpt2v.stats.delta import of_rates
from gpt2v.stats.shared import Bools, Floats, Shared


def ratio(total: Floats, size: Floats) -> tuple[float, list[float] | None]:
    """The sum of `total` over the sum of `size`, (J,) each, and its 95% interval.

    The interval is over new documents, by the delta method; None: one document tells nothing.
    """
    outcomes = np.stack([total, size], axis=1)
    shared = Shared(np.arange(len(total)))
    value, ci = of_rates(lambda means: float(means[0] / means[1]), outcomes, shared)
    return value, list(ci) if len(total) > 1 else None


def shared_by(records: pa.Table) -> Shared:
    """What J pairs share: the item that two are made of, and drawn words.

    Of several phenomena, each has a mean of its own.
    """
    phenomenon = _numbered(records["phenomenon"])
    lists = records["words"].to_pylist()
    number = {word: i for i, word in enumerate(dict.fromkeys(w for own in lists for w in own))}
    words = np.full((len(lists), max(map(len, lists))), -1)
    for row, own in enumerate(lists):
        words[row, : len(own)] = [number[word] for word in own]
    items = records["item"].to_numpy()
    return Shared(phenomenon * (int(items.max()) + 1) + items, words, phenomenon)


def groups_of(records: pa.Table) -> Iterator[tuple[dict[str, str | None], Bools]]:
    """All pairs, each family and each phenomenon: their names, and which pairs they are (J,)."""
    families, phenomena = (records[key].to_numpy() for key in ("family", "phenomenon"))
    yield {"by": "all", "family": None, "phenomenon": None}, np.ones(len(records), bool)
    for family in dict.fromkeys(families):
        yield {"by": "family", "family": family, "phenomenon": None}, families == family
    for name in dict.fromkeys(phenomena):
        here = phenomena == name
        yield {"by": "phenomenon", "family": families[here][0], "phenomenon": name}, here


def _numbered(column: pa.ChunkedArray) -> Ints:
    return np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.int64)
