"""Reliability: whether a model is as often right as it is sure.

As in Guo et al. 2017 (https://arxiv.org/abs/1706.04599): the confidence of an answer is the
probability of the likeliest choice, given that the answer is one of the choices. Questions are put
into bins of equal width by confidence, and the expected calibration error (ECE) is the distance of
accuracy and mean confidence in a bin, averaged over the questions.

Shapes: J questions in a flat list.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt2v.stats.shared import Bools, Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

N_BINS = 15
COLUMNS = ("truth", "choices", "logprobs")  # of the records, that are read


@dataclass(frozen=True)
class Reliability:
    """Questions by the confidence of their answers.

    Attributes:
        n: (n_bins,) number of questions in each bin. A bin has its upper end, not its lower one.
        confidence: (n_bins,) their mean confidence; NaN without questions.
        accuracy: (n_bins,) share of them whose likeliest choice is right; NaN without questions.
        brier: mean squared error of the probabilities, summed over the choices (Brier 1950); from 0
            (best) to 2. NaN without questions.
        n_left_out: number of questions whose possible answers are too many to list.
    """

    n: Ints
    confidence: Floats
    accuracy: Floats
    brier: float
    n_left_out: int

    @property
    def n_questions(self) -> int:
        """Number of questions that are counted."""
        return int(self.n.sum())

    @property
    def ece(self) -> float:
        """The expected calibration error, from 0 (best) to 1; NaN without questions."""
        if not self.n_questions:
            return float("nan")
        gaps = np.abs(np.nan_to_num(self.accuracy - self.confidence))
        return float((self.n * gaps).sum() / self.n_questions)


def reliability(records: "pa.Table", n_bins: int = N_BINS) -> Reliability:
    """The reliability of the answers to some questions.

    Args:
        records: with the columns of `records.parquet`.
        n_bins: number of bins, of equal width.
    """
    counts = np.asarray(records["choices"].combine_chunks().value_lengths())
    kept = records.select(COLUMNS).filter(counts > 0)
    confidence, right, squares = _answers(kept, counts[counts > 0])
    edges = np.arange(n_bins + 1) / n_bins
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    n = np.bincount(which, minlength=n_bins)
    sums = (np.bincount(which, values, n_bins) for values in (confidence, right))
    with np.errstate(invalid="ignore"):
        mean_confidence, accuracy = (total / n for total in sums)
    brier = float(squares.mean()) if len(squares) else float("nan")
    return Reliability(n, mean_confidence, accuracy, brier, int((counts == 0).sum()))


def _answers(records: "pa.Table", counts: NDArray[np.integer]) -> tuple[Floats, Bools, Floats]:
    """Of each answer (J,): confidence, whether it is right, and its squared error.

    Args:
        counts: (J,) number of choices, at least one.
    """
    if not len(counts):
        return np.empty(0), np.empty(0, bool), np.empty(0)
    logprobs, choices = (
        records[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        for name in ("logprobs", "choices")
    )
    first = np.cumsum(counts) - counts

    def of_each(values: Floats) -> Floats:
        return np.repeat(values, counts)

    weights = np.exp(logprobs - of_each(np.maximum.reduceat(logprobs, first)))
    p = weights / of_each(np.add.reduceat(weights, first))
    is_true = choices == of_each(records["truth"].to_numpy())
    confidence = np.maximum.reduceat(p, first)
    at_best = np.where(p == of_each(confidence), np.arange(len(p)), len(p))
    right = is_true[np.minimum.reduceat(at_best, first)]  # the first of equal ones, as `prediction`
    squares = np.add.reduceat((p - is_true) ** 2, first)
    missing = ~np.logical_or.reduceat(is_true, first)  # the truth is no choice
    return confidence, right, squares + missing
