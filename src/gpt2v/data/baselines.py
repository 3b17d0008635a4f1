"""How well questions are answered without seeing the grid, or without seeing where things are."""

from typing import NamedTuple

import numpy as np

from gpt2v.data.instructions import ALL
from gpt2v.data.samples import Samples


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
