"""How well questions are answered without seeing the grid, or without seeing where things are."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gpt2v.data.grids.instructions import ALL, drawing_order, number_of
from gpt2v.data.grids.samples import Samples


class Baselines(NamedTuple):
    """Accuracies that need no model.

    Attributes:
        chance: a uniform guess among the answers that may be.
        blind: the best answer from the question, the prompt and the shape, without the grid.
        bag: the best answer from how often each object is in the grid, but not where.
    """

    chance: float
    blind: float
    bag: float


def baselines(samples: Samples, instruction: str | None = None) -> Baselines:
    """Expected accuracies over the questions of `samples` (or those of one instruction).

    Exact for independent questions, given the distribution that samples are drawn from: cells are
    independent and uniform over the palette.
    """
    found = [
        np.stack([ALL[number].chance(asked), ALL[number].blind(asked), ALL[number].bag(asked)])
        for number, asked, _ in samples.asked
        if instruction in (None, ALL[number].name)
    ]
    return Baselines(*(float(x) for x in np.concatenate(found, axis=1).mean(1)))


Tally = dict[str, tuple[int, Baselines]]  # by instruction: the number of questions, and theirs


def tally(samples: Samples) -> Tally:
    """The baselines of each instruction that `samples` are asked by, in the registry's order."""
    return {
        ALL[number].name: (len(asked.grid), baselines(samples, ALL[number].name))
        for number, asked, _ in samples.asked
    }


def pooled(tallies: Iterable[Tally]) -> Tally:
    """The same over the questions of all of them."""
    totals: dict[str, tuple[int, list[float]]] = {}
    for one in tallies:
        for name, (n, found) in one.items():
            before, sums = totals.get(name, (0, [0.0] * len(found)))
            totals[name] = before + n, [a + n * x for a, x in zip(sums, found, strict=True)]
    return {
        name: (n, Baselines(*(total / n for total in sums)))
        for name, (n, sums) in sorted(
            totals.items(), key=lambda item: drawing_order(number_of(item[0]))
        )
    }
