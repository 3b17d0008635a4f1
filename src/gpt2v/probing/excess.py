"""How much more frequent than by chance some answers are, with intervals and p-values.

Two errors are guarded against. Few answers: tails are exact. Answers that share pictures or tiles:
intervals know them (`gpt2v.stats`). The larger p-value of the two counts.

Shapes: J questions in a flat list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any

import numpy as np
from scipy.special import gammaln

from gpt2v.stats.intervals import Difference, Share, rate_interval
from gpt2v.stats.shared import Bools, Floats, Ints, Shared

LEVEL = 0.05  # of p-values after Holm
_FARTHEST = 40.0  # standard errors: p-values below 1e-300 are 0


def stands_out(row: Mapping[str, Any], value: str = "excess", p_holm: str = "p_holm") -> bool:
    """Whether something in a row of results is more frequent than by chance, after Holm."""
    return bool(row[value] > 0 and row[p_holm] < LEVEL)


@dataclass(frozen=True)
class Excess:
    """The share of some answers minus what it would be by chance.

    Attributes:
        n, n_hits: number of questions, and how many of them have such an answer.
        expected: the share by chance.
        ci95: of the excess.
        p: two-sided.
    """

    n: int
    n_hits: int
    expected: float
    ci95: tuple[float, float]
    p: float

    @property
    def share(self) -> float:
        """Of the questions with such an answer."""
        return self.n_hits / self.n

    @property
    def value(self) -> float:
        """Observed minus expected share."""
        return self.share - self.expected

    @classmethod
    def of(cls, hit: Bools, chance: Floats, shared: Shared) -> "Excess":
        """The excess of some answers.

        Args:
            hit: (J,) which questions have such an answer.
            chance: (J,) how probable that is if answers are random.
            shared: what the questions share.
        """
        expected = float(chance.mean())
        low, high = rate_interval(hit, shared)
        p = max(_exact_p(int(hit.sum()), chance), _score_p(Share.of(hit, shared), expected))
        return cls(len(hit), int(hit.sum()), expected, (low - expected, high - expected), p)


def _score_p(share: Share, expected: float) -> float:
    """The p-value of the widest interval that leaves out what is expected."""
    low, high = 0.0, _FARTHEST
    for _ in range(60):
        z = (low + high) / 2
        ends = share.interval(z)
        if ends[0] <= expected <= ends[1]:
            high = z
        else:
            low = z
    return erfc(high / sqrt(2))


def _exact_p(n_hits: int, chance: Floats) -> float:
    """Twice the smaller tail of the number of hits, each with its own chance."""
    pmf = np.ones(1)
    for value, n in zip(*np.unique(chance, return_counts=True), strict=True):
        pmf = np.convolve(pmf, _binomial(int(n), float(value)))
    return min(1.0, 2 * float(min(pmf[: n_hits + 1].sum(), pmf[n_hits:].sum())))


def _binomial(n: int, p: float) -> Floats:
    """Probabilities of 0 to n successes."""
    k = np.arange(n + 1)
    if p >= 1:
        return np.asarray(k == n, np.float64)
    logs = _log_choose(n, k) + k * np.log(p) + (n - k) * np.log1p(-p)
    return np.asarray(np.exp(logs), np.float64)


def _log_choose(n: int, k: Ints | int) -> Floats:
    logs: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logs


def worse_p(wrong: Bools, these: Bools, shared: Shared) -> float:
    """p-value that some questions are answered wrong no more frequently than all others.

    Twice the tail of Fisher's exact test, or, where that is larger, that of the difference of the
    two rates, which knows what the questions share.

    Args:
        wrong: (J,) outcomes.
        these: (J,) which questions; not all, and not none.
    """
    n_these, n_wrong, n_both = (int(x.sum()) for x in (these, wrong, these & wrong))
    k = np.arange(n_both, min(n_these, n_wrong) + 1)
    logs = _log_choose(n_these, k) + _log_choose(len(wrong) - n_these, n_wrong - k)
    exact = 2 * float(np.exp(logs - _log_choose(len(wrong), n_wrong)).sum())
    if exact >= 1 or n_both * len(wrong) <= n_wrong * n_these:
        return 1.0
    return max(exact, Difference.of_groups(wrong, these, shared).p)
