"""Rates of text and of minimal pairs: which records belong together, and intervals.

Shapes: J questions in a flat list.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import sqrt

import numpy as np
import pyarrow as pa

from gpt2v.data.rng import Ints
from gpt2v.eval.language.shared_words import SharedWords
from gpt2v.stats.shared import Bools, Floats
from gpt2v.stats.student import width


@dataclass(frozen=True)
class Ratio:
    """The ratio of two sums over documents, such as the loss of a token.

    Attributes:
        value: the ratio.
        error: its standard error over new documents; None: one document tells nothing.
        n_equal: number of documents of one size that tell as much (Kish 1965).
    """

    value: float
    error: float | None
    n_equal: float

    @classmethod
    def of(cls, total: Floats, size: Floats) -> "Ratio":
        """The sum of `total` over the sum of `size`, (n_documents,) each.

        The error is the jackknife's (https://doi.org/10.1214/aos/1176345462): few documents of
        unequal sizes have a linear part that varies too little.
        """
        n, value, left = len(total), float(total.sum() / size.sum()), size.sum() - size
        n_equal = float(size.sum() ** 2 / np.square(size).sum())
        if not left.all():
            return cls(value, None, n_equal)
        without = (total.sum() - total) / left
        return cls(value, sqrt(np.square(without - value).sum() * (n - 1) / n), n_equal)

    @property
    def ci95(self) -> list[float] | None:
        """Its 95% interval, or None."""
        if self.error is None:
            return None
        half = width(self.n_equal) * self.error
        return [self.value - half, self.value + half]


def shared_by(records: pa.Table) -> SharedWords:
    """What J pairs share: the item that two are made of, and drawn words.

    Of several phenomena, each has a mean of its own.
    """
    names, items = records["phenomenon"].to_pylist(), records["item"].to_numpy()
    phenomenon = _numbers(names)
    slots = [
        [f"{name} {slot}" for slot in own]
        for name, own in zip(names, records["slots"].to_pylist(), strict=True)
    ]
    words, of_slot = map(_padded, (records["words"].to_pylist(), slots))
    return SharedWords(phenomenon * (int(items.max()) + 1) + items, words, phenomenon, of_slot)


def groups_of(records: pa.Table) -> Iterator[tuple[dict[str, str | None], Bools]]:
    """All pairs, each family and each phenomenon: their names, and which pairs they are (J,)."""
    families, phenomena = (records[key].to_numpy() for key in ("family", "phenomenon"))
    yield {"by": "all", "family": None, "phenomenon": None}, np.ones(len(records), bool)
    for family in dict.fromkeys(families):
        yield {"by": "family", "family": family, "phenomenon": None}, families == family
    for name in dict.fromkeys(phenomena):
        here = phenomena == name
        yield {"by": "phenomenon", "family": families[here][0], "phenomenon": name}, here


def _padded(lists: list[list[str]]) -> Ints:
    """Words of each pair as numbers (J, n_words), padded with -1."""
    lengths = np.array([len(own) for own in lists])
    padded = np.full((len(lists), int(lengths.max())), -1)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = _numbers([*chain(*lists)])
    return padded


def _numbers(words: list[str]) -> Ints:
    """Equal words as equal numbers, in the order in which they come, (n,)."""
    number = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return np.array([number[word] for word in words], np.int64)
