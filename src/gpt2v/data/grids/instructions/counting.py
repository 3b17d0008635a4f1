"""Instructions about the number of times objects occur: `count`, `exists`, `majority`."""

from functools import cache
from math import comb, exp, lgamma, log

import numpy as np

from gpt2v.data import rng
from gpt2v.data.grids.cells import Dice, Grids
from gpt2v.data.grids.instructions.base import (
    AboutAnObject,
    AboutTheWhole,
    Asked,
    Fields,
    Floats,
    Slots,
    Vocabulary,
    YesOrNo,
)
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY
from gpt2v.registry import INSTRUCTIONS

_COUNTED = 16  # in grids with more cells, the possible counts are too many to list as choices


@INSTRUCTIONS.register("count")
class Count(AboutAnObject):
    """How many cells hold an object. `How many cells hold the object bird? A: 5`"""

    expected = "a number"
    wordings = (
        "How many cells hold the object {object}? A:",
        "How often does the object {object} occur? A:",
        "Count the cells with the object {object}. A:",
    )
    held_out = ("What is the number of cells with the object {object}? A:",)

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return v.numbers(asked.count)[:, None]

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        counts = np.arange(min(_COUNTED, int(asked.n_cells.max(initial=0))) + 1)
        few = asked.n_cells[:, None] <= _COUNTED
        return np.where(few & (counts <= asked.n_cells[:, None]), v.numbers(counts), EMPTY)

    def chance(self, asked: Asked) -> Floats:
        return 1 / (asked.n_cells + 1)

    def blind(self, asked: Asked) -> Floats:
        pairs = zip(asked.n_cells.tolist(), asked.n_objects.tolist(), strict=True)
        return np.array([_likeliest_count(n, p) for n, p in pairs])

    def bag(self, asked: Asked) -> Floats:
        return np.ones(len(asked.grid))


@INSTRUCTIONS.register("exists")
class Exists(YesOrNo):
    """Whether an object of the palette is in the grid. Both answers are equally frequent if some
    object is missing. `Is there a cell with the object bird? A: yes`
    """

    wordings = (
        "Is there a cell with the object {object}? A:",
        "Does any cell hold the object {object}? A:",
        "Can the object {object} be found? A:",
    )
    held_out = ("Has the grid a cell with the object {object}? A:",)

    def n_different(self, rows: Ints, cols: Ints, n_objects: Ints) -> Ints:
        return n_objects

    def ask(self, grids: Grids, dice: Dice, slots: Slots) -> Fields:
        listed, here = grids.palette >= 0, grids.counts > 0
        n_here = here.sum(1)
        present = dice.order("exists/present", here)  # the objects in the grid come first
        absent = dice.order("exists/absent", listed & ~here)
        coin = rng.below(dice.words("exists/coin", 1), 2)
        n_absent = (grids.n_objects - n_here)[:, None]
        want = ((slots.turn + coin) % 2 == 0) | (n_absent == 0)  # in turns, if both are possible
        turn = np.where(n_absent == 0, slots.turn, slots.turn // 2)
        one = np.take_along_axis(present, turn % n_here[:, None], axis=1)
        other = np.take_along_axis(absent, turn % np.maximum(n_absent, 1), axis=1)
        (listed_at,) = slots.arranged(np.where(want, one, other))
        return {"object": np.take_along_axis(grids.palette, listed_at, axis=1)}

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        return v.choose(asked.count > 0, " yes", " no")[:, None]

    def blind(self, asked: Asked) -> Floats:
        pairs = zip(asked.n_cells.tolist(), asked.n_objects.tolist(), strict=True)
        return np.array([(1 + _all_present(n, p)) / 2 for n, p in pairs])  # "yes"

    def bag(self, asked: Asked) -> Floats:
        return np.ones(len(asked.grid))


@INSTRUCTIONS.register("majority")
class Majority(AboutTheWhole):
    """The object that most cells hold, or `tie`. `Which object is most frequent? A: bird`"""

    expected = "the name of the object, or 'tie' if there are several"
    wordings = (
        "Which object is most frequent? A:",
        "What object occurs most often? A:",
        "Name the most common object. A:",
    )
    held_out = ("What do most cells hold? A:",)

    def answer(self, asked: Asked, v: Vocabulary) -> Ints:
        counts = asked.grids.counts[asked.grid]
        top = counts.argmax(1)
        tie = (counts == counts.max(1, keepdims=True)).sum(1) > 1
        words = v.words[asked.grids.palette[asked.grid, top]]
        return np.where(tie, v.table.id(" tie"), words)[:, None]

    def choices(self, asked: Asked, v: Vocabulary) -> Ints:
        listed = v.words[asked.grids.palette[asked.grid]]
        tie = np.full((len(listed), 1), v.table.id(" tie"))
        return np.concatenate([listed, tie], axis=1)

    def chance(self, asked: Asked) -> Floats:
        return 1 / (asked.n_objects + 1)

    def blind(self, asked: Asked) -> Floats:
        pairs = zip(asked.n_cells.tolist(), asked.n_objects.tolist(), strict=True)
        clear = np.array([_clear_majority(n, p) for n, p in pairs])
        return np.asarray(np.maximum(clear / asked.n_objects, 1 - clear))

    def bag(self, asked: Asked) -> Floats:
        return np.ones(len(asked.grid))


@cache
def _likeliest_count(n: int, p: int) -> float:
    """Largest probability of the binomial distribution of n cells, each with probability 1 / p."""
    return float(max(comb(n, k) * (p - 1) ** (n - k) for k in range(n + 1)) / p**n)


@cache
def _all_present(n: int, p: int) -> float:
    """Probability that n cells, uniform over p objects, hold all of them."""
    return float(sum((-1) ** k * comb(p, k) * (p - k) ** n for k in range(p + 1)) / p**n)


@cache
def _clear_majority(n: int, p: int) -> float:
    """Probability that one object has more than any other of n cells, uniform over p objects."""
    # Independent Poisson variables, given their sum n, are distributed as the counts of the cells.
    k = np.arange(n + 1)
    log_factorial = np.array([lgamma(i + 1) for i in k.tolist()])
    weight = np.exp(k * log(n / p) - n / p - log_factorial)
    total = exp(n * log(n) - n - log_factorial[n])
    probability = 0.0
    for top in range(1, n + 1):
        fewer = np.where(k < top, weight, 0)  # for each of the other objects
        rest = np.zeros(n + 1)
        rest[0] = 1
        for _ in range(p - 1):
            rest = np.convolve(rest, fewer)[: n + 1]
        probability += p * float(weight[top] * rest[n - top])
    return probability / total
