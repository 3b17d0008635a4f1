"""What blind and bag become where questions are chained: earlier answers tell something.

Known are those of grids with one question, which has no earlier one, and of grids that are asked
look-ups only. The bag then loses an object with each answer: who knows all objects and has heard
eight of nine answers knows the last. Where cells are independent and uniform, the answers about
other cells tell nothing, so blind stays.

Shapes: B samples of a batch, Q questions about a grid, J questions in a flat list.
"""

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.grids.instructions import number_of
from gpt2v.data.grids.instructions.base import Floats
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.rng import Ints


def chained_rates(
    samples: Samples, where: tuple[Ints, Ints], rates: Floats, is_counted: NDArray[np.bool_]
) -> Floats:
    """Chance, blind and bag of an instruction's questions, (3, J); NaN: not known.

    Args:
        where: the questions in (B, Q), as `Samples.asked` gives them.
        rates: (3, J) those of independent questions.
        is_counted: (J,) whether blind is that of a split with few contents, whose cells tell of
            each other.
    """
    grid = where[0]
    asked = samples.instruction != NOT_ASKED
    alone = (asked.sum(1) == 1)[grid]
    lookups = (~asked | (samples.instruction == number_of("lookup"))).all(1)[grid]
    chance, blind, bag = rates
    bag = np.where(alone, bag, np.nan)
    if lookups.any():
        bag = np.where(lookups, _bag_after_earlier(samples)[where], bag)
    return np.stack([chance, np.where(alone | (lookups & ~is_counted), blind, np.nan), bag])


def _bag_after_earlier(samples: Samples) -> Floats:
    """Accuracy of the most frequent of the objects that no earlier look-up has found, (B, Q)."""
    batch = np.arange(len(samples.index))[:, None]
    is_lookup = samples.instruction == number_of("lookup")  # others may use rows in another sense
    row, col = (np.where(is_lookup, place, 0) for place in (samples.row, samples.col))
    answers = samples.classes[batch, row, col]
    found = (answers[..., None] == samples.palette[:, None]).astype(np.int64)  # (B, Q, n_objects)
    found[~is_lookup] = 0
    left = samples.counts[:, None] - (np.cumsum(found, axis=1) - found)
    rates: Floats = left.max(-1) / left.sum(-1).clip(min=1)
    return rates
