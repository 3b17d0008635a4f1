"""What a phenomenon is, and the pairs that are drawn from it.

An item is two contexts with a gap, and two words. The first word is right in the first context and
wrong in the second, and the other way round. So an item gives two pairs, each of which has both
words; and who knows only words, but not the context, is right in exactly one of them: 50%.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from gpt2v.data import rng
from gpt2v.errors import UserError
from gpt2v.registry import PHENOMENA

Slots = Mapping[str, Sequence[Any]]
GAP = "_"  # in a context: where the word stands
_OPEN = 8  # a slot that has fewer words, or fewer entries, belongs to the template


@dataclass(frozen=True)
class Item:
    """Two contexts, each with one gap, and the words that are right there."""

    contexts: tuple[str, str]
    words: tuple[str, str]


@dataclass(frozen=True)
class Pair:
    """A good sentence, or short story, and a bad one that has another word in one place.

    Attributes:
        phenomenon, family: what it is about.
        item: number of the item; both of its pairs have it.
        words: what was drawn for the item's open slots: words, and phrases, that others share.
        slots: the slot of each of the words.
        good, bad: the sentences.
    """

    phenomenon: str
    family: str
    item: int
    words: tuple[str, ...]
    slots: tuple[str, ...]
    good: str
    bad: str


class Phenomenon:
    """Something that a speaker of the language knows.

    Attributes:
        family: what it belongs to: `agreement`, `reference`, `story`.
        slots: what an item is made of: the name of each slot, and the entries to choose from. An
            entry is a string, an object with a string as its `str()`, or a tuple of these. Two
            different choices of entries must give different sentences.
        item: a method that makes the item of one entry of each slot, its keyword arguments.
    """

    family: ClassVar[str]
    slots: ClassVar[Slots]
    item: Callable[..., Item]

    @property
    def n_items(self) -> int:
        """Number of different items."""
        return prod(map(len, self.slots.values()))

    @property
    def open_slots(self) -> list[str]:
        """The slots that have so many words that these stand for others, which are not there."""
        return [
            slot
            for slot, entries in self.slots.items()
            if min(len(entries), len({w for entry in entries for w in _words_in(entry)})) >= _OPEN
        ]

    def chosen(self, number: int) -> dict[str, Any]:
        """The entries of item number 0 to n_items - 1."""
        entries = {}
        for slot, every in self.slots.items():
            number, index = divmod(number, len(every))
            entries[slot] = every[index]
        return entries


def draw(name: str, seed: int, n_pairs: int) -> Iterator[Pair]:
    """The first pairs of a phenomenon; each is a function of (seed, name, its number).

    No pair comes twice.

    Args:
        n_pairs: an even number.

    Raises:
        UserError: there are not so many different ones.
    """
    phenomenon: Phenomenon = PHENOMENA[name].load()()
    if n_pairs > 2 * phenomenon.n_items:
        raise UserError(
            f"n_pairs: {name} has only {2 * phenomenon.n_items:,} different pairs, not {n_pairs:,}"
        )
    key = rng.keys(seed, f"minimal pairs: {name}", np.array([0]))
    order = rng.permutations(key, phenomenon.n_items)[0]
    for number in order[: n_pairs // 2].tolist():
        yield from pairs_of(name, phenomenon, number)


def pairs_of(name: str, phenomenon: Phenomenon, number: int) -> Iterator[Pair]:
    """The two pairs of an item.

    Raises:
        UserError: a context of a user's phenomenon has no gap, or several.
    """
    chosen = phenomenon.chosen(number)
    item = phenomenon.item(**chosen)
    # a word that stands in two slots is one
    slots = {word: slot for slot in phenomenon.open_slots for word in _words_in(chosen[slot])}
    for context, good, bad in zip(item.contexts, item.words, item.words[::-1], strict=True):
        before, *rest = context.split(GAP)
        if len(rest) != 1:
            raise UserError(f"pairs: {name}: '{context}' must have one gap, {GAP}")
        (after,) = rest
        sentences = (f"{before}{word}{after}" for word in (good, bad))
        yield Pair(name, phenomenon.family, number, (*slots,), (*slots.values(),), *sentences)


def _words_in(entry: Any) -> Iterator[str]:
    if type(entry) is tuple:
        for part in entry:
            yield from _words_in(part)
    elif str(entry):
        yield str(entry)
