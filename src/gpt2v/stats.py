"""Confidence intervals for questions about pictures: those about one picture are not independent.

Shapes: P pictures, J questions in a flat list.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000
_Z = 1.959963984540054  # the normal distribution's 97.5% point


def cluster_interval(
    right: NDArray[np.bool_], cluster: NDArray[np.int64], seed: int = 0
) -> tuple[float, float]:
    """95% interval of a rate by the cluster bootstrap (percentiles, 2,000 resamples).

    The bootstrap draws pictures with replacement, each with all its questions. If the rate is
    exactly 0 or 1, or each picture has one question, the result is Wilson's interval with the
    pictures as trials.

    Args:
        right: (J,) whether each question was answered right.
        cluster: (J,) the picture of each question.

    Raises:
        ValueError: there are no questions.
    """
    if len(right) == 0:
        raise ValueError("an interval needs at least one question")
    _, member = np.unique(cluster, return_inverse=True)
    hits = np.bincount(member, weights=right)
    sizes = np.bincount(member)
    rate, n = hits.sum() / sizes.sum(), len(sizes)
    if rate in (0.0, 1.0) or sizes.max() == 1:
        return wilson_interval(rate, n)
    return _bootstrap(hits, sizes, seed)


def paired_interval(
    one: NDArray[np.bool_], other: NDArray[np.bool_], cluster: NDArray[np.int64], seed: int = 0
) -> tuple[float, float]:
    """95% interval of the rate of `one` minus that of `other`, by the cluster bootstrap.

    If all outcomes are equal, there is nothing to resample. The result is then plus and minus the
    upper end of Wilson's interval for a rate of 0, with the pictures as trials.

    Args:
        one, other: (J,) outcomes of the same questions in the same order.
        cluster: (J,) the picture of each question.
    """
    _, member = np.unique(cluster, return_inverse=True)
    sizes = np.bincount(member)
    difference = np.bincount(member, weights=one.astype(float) - other.astype(float))
    if (one == other).all():
        bound = wilson_interval(0.0, len(sizes))[1]
        return -bound, bound
    return _bootstrap(difference, sizes, seed)


def _bootstrap(
    total: NDArray[np.number[Any]], sizes: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Percentile interval of a ratio of sums over pictures.

    Args:
        total: (P,) numerator of each picture.
        sizes: (P,) denominator of each picture.
    """
    n = len(sizes)
    rng = np.random.Generator(np.random.PCG64(seed))
    counts = rng.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)  # (n_resamples, P)
    low, high = np.percentile((counts @ total) / (counts @ sizes), [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a rate over n independent trials."""
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2))
    low, high = float(centre - half), float(centre + half)
    return (0.0 if rate == 0 else low), (1.0 if rate == 1 else high)
