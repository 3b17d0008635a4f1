"""The words that questions about a grid begin with, so that they are read once.

Questions in the order of their words form a tree: each shares its first pieces with the one before
it. If all grids of a batch share alike, e.g. all cells are asked about, they share as much as
there is; else what all questions of the batch begin with.

Shapes: B samples of a batch, Q questions about a grid, K text pieces in a row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, different_rows


@dataclass(frozen=True)
class QuestionTree:
    """An order of the questions, and what neighbours share.

    Attributes:
        order: (B, Q) number of the question at each place.
        common: (Q - 1,) number of pieces that the question at a place shares with the next one;
            less than either has.
    """

    order: Ints
    common: Ints

    @classmethod
    def apart(cls, n_samples: int, n_questions: int) -> "QuestionTree":
        """Questions in their own order, which share nothing."""
        order = np.tile(np.arange(n_questions), (n_samples, 1))
        return cls(order, np.zeros(max(n_questions - 1, 0), np.int64))

    @classmethod
    def of(cls, questions: Ints, asked: NDArray[np.bool_]) -> "QuestionTree":
        """The tree of questions (B, Q, K), of which some are asked, (B, Q)."""
        apart = cls.apart(*asked.shape)
        if asked.shape[1] < 2 or not asked.any():
            return apart
        words, number = different_rows(questions[asked])
        if asked.all():
            order = np.argsort(number.reshape(asked.shape), axis=1, kind="stable")
            ordered = np.take_along_axis(questions, order[..., None], axis=1)
            common = _common(ordered[:, :-1], ordered[:, 1:])
            if (common == common[0]).all():
                return cls(order, common[0])
        first, last = words[0], words[-1]  # between them are all others
        shortest = int((words != EMPTY).sum(-1).min())
        least = min(int(_common(first, last)), shortest - 1)
        return cls(apart.order, np.full_like(apart.common, least))

    def placed(self, of_questions: Ints) -> Ints:
        """Values of questions, (B, Q, ...), by place."""
        return _taken(of_questions, self.order)

    def unplaced(self, of_places: Ints) -> Ints:
        """Values of places, (B, Q, ...), by question."""
        return _taken(of_places, np.argsort(self.order, axis=1))

    def branches(self, place: int) -> tuple[int, list[int]]:
        """What a question takes over from the one before it, and where others branch off.

        Returns:
            the number of pieces; and larger numbers of pieces, ascending, that later questions
            take over from this one.
        """
        kept = int(self.common[place - 1]) if place else 0
        least = set(np.minimum.accumulate(self.common[place:]).tolist())
        return kept, sorted(depth for depth in least if depth > kept)


def _common(these: Ints, others: Ints) -> Ints:
    """The number of pieces (..., K) that both begin with; each has at least one more."""
    same = np.cumprod(these == others, axis=-1).sum(-1)
    shortest = np.minimum((these != EMPTY).sum(-1), (others != EMPTY).sum(-1))
    return np.asarray(np.minimum(same, shortest - 1))


def _taken(values: Ints, at: Ints) -> Ints:
    return np.take_along_axis(values, at.reshape(*at.shape, *[1] * (values.ndim - 2)), axis=1)
