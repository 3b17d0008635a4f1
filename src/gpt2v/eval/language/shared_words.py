"""What minimal pairs share, and intervals over new items of new words.

Shapes: J questions in a flat list.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpt2v.stats.shared import Bools, Floats, Ints, Shared


@dataclass(frozen=True)
class SharedWords(Shared):
    """What J pairs share: their item, as `picture`, and the words of its open slots, as `tiles`.

    Two words of an item can be of one slot, and are then never the same. So sums over the items of
    a word hold something of all other words, and vary too little; each word is left out instead.
    Words are few, so intervals have the width of Student's t.

    Attributes:
        slot: (J, n_words) the slot of each word, padded as `tiles` are; the number of a slot is of
            one phenomenon only.
    """

    slot: Ints | None = None

    def of(self, these: Bools) -> "SharedWords":
        """What some of the pairs (J,) share."""
        own, slot = super().of(these), None if self.slot is None else self.slot[these]
        return SharedWords(own.picture, own.tiles, own.part, slot)

    @cached_property
    def n_drawn(self) -> int:
        """The size of the smallest sample: of items, and of words of each slot.

        Words that are always together, such as those of a couple, count as one.
        """
        tiles, slot = self.tiles, self.slot
        sizes = [self.n_pictures]
        if tiles is not None and slot is not None:
            for one in np.unique(slot[slot >= 0]):
                entries = np.unique(np.where(slot == one, tiles, -1), axis=0)
                words = np.unique(entries[entries >= 0])
                drawn = entries.max(1) >= 0  # not: pairs without the slot
                sizes.append(min(int(np.count_nonzero(drawn)), len(words)))
        return min(sizes)

    def variance(self, value: Floats) -> float:
        """Variance of the mean of values (J,), each with the mean of its own part.

        It is the jackknife's over the words (Efron & Stein 1981,
        https://doi.org/10.1214/aos/1176345462). Each word of an item brings the item's own
        variance with it, which is counted once.
        """
        own = Shared(self.picture, None, self.part).variance(value)
        question, word = self._reads
        if not len(word):
            return own
        part = np.zeros(self.n, np.int64) if self.part is None else _numbers(self.part)
        error = value - self._means(value)
        n_parts, key = int(part.max()) + 1, word * (part.max() + 1) + part[question]
        size = (int(word.max()) + 1) * n_parts
        total = np.bincount(key, error[question], size).reshape(-1, n_parts)
        n_in_part = np.bincount(part)
        left = n_in_part - np.bincount(key, minlength=size).reshape(-1, n_parts)
        if not left.all():
            return np.inf if error.any() else 0.0  # a word is in every item
        change = (total / left) @ (n_in_part / self.n)  # of the mean, with the word
        words = float(np.square(change).sum()) * (self.n_drawn - 1) / self.n_drawn
        return max(words - (len(word) / self.n - 1) * own, own)


def _numbers(values: Ints) -> Ints:
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)
