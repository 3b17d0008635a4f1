"""Accuracies that are reached without seeing the grid, or without knowing where its objects are."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gpt2v.config.grids import Mode
from gpt2v.data.grids.chained import chained_rates
from gpt2v.data.grids.enumerated import blind_by_counting
from gpt2v.data.grids.instructions import ALL, drawing_order, number_of
from gpt2v.data.grids.samples import Samples


class Baselines(NamedTuple):
    """Accuracies that need no model.

    Attributes:
        chance: a uniform guess among the possible answers.
        blind: the best answer from the question, the prompt and the grid's shape alone; counted
            where the split has few contents (`enumerated`). Of chained questions NaN if not known.
        bag: the best answer from the number of times each object is in the grid, without knowing
            where the objects are. NaN likewise.
    """

    chance: float
    blind: float
    bag: float


def baselines(
    samples: Samples, instruction: str | None = None, mode: Mode = "independent"
) -> Baselines:
    """Expected accuracies over the questions of `samples`.

    They are those of cells that are independent and uniform over the palette, as samples are drawn;
    in a split with many contents the rejected ones change little.

    Args:
        instruction: name of the only instruction to count; None counts all of them.
        mode: whether a question is read after the earlier ones and their answers.
    """
    accuracies = []
    for number, asked, where in samples.asked:
        if instruction not in (None, ALL[number].name):
            continue
        own = ALL[number]
        counted = blind_by_counting(own, asked)
        is_counted = ~np.isnan(counted)
        blind = np.where(is_counted, counted, own.blind(asked))
        rates = np.stack([own.chance(asked), blind, own.bag(asked)])
        if mode == "chained":
            rates = chained_rates(samples, where, rates, is_counted)
        accuracies.append(rates)
    return Baselines(*(float(x) for x in np.concatenate(accuracies, axis=1).mean(1)))


Tally = dict[str, tuple[int, Baselines]]  # instruction -> its number of questions and baselines


def tally(samples: Samples, mode: Mode = "independent") -> Tally:
    """Number of questions and baselines of each instruction in `samples`, in registry order."""
    return {
        ALL[number].name: (len(asked.grid), baselines(samples, ALL[number].name, mode))
        for number, asked, _ in samples.asked
    }


def pooled(tallies: Iterable[Tally]) -> Tally:
    """One tally over the questions of all given tallies, in the registry's order."""
    totals: dict[str, tuple[int, list[float]]] = {}
    for one in tallies:
        for name, (n, rates) in one.items():
            before, sums = totals.get(name, (0, [0.0] * len(rates)))
            totals[name] = before + n, [a + n * x for a, x in zip(sums, rates, strict=True)]
    return {
        name: (n, Baselines(*(total / n for total in sums)))
        for name, (n, sums) in sorted(
            totals.items(), key=lambda item: drawing_order(number_of(item[0]))
        )
    }
