"""Intervals of rates and of differences, and p-values.

Intervals are score intervals with as many trials as there are independent questions.

Shapes: J questions in a flat list.
"""

from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np

from gpt2v.stats.shared import Bools, Floats, Shared

Z = 1.959963984540054  # the normal distribution's 97.5% point
Z_POWER = 0.8416212335729143  # its 80% point
_FARTHEST = 40.0  # standard errors: p-values below 1e-300 are 0


@dataclass(frozen=True)
class Share:
    """A share of the questions.

    Attributes:
        value: the share.
        variance: of it.
        trials: number of independent questions that would tell as much, see `Shared.trials`.
    """

    value: float
    variance: float
    trials: float

    @classmethod
    def of(cls, these: Bools, shared: Shared) -> "Share":
        """The share of some of the questions (J,)."""
        value = float(these.mean())
        n_rare = min(shared.n_with(these), shared.n_with(~these))
        variance = shared.variance(these.astype(np.float64))
        trials = shared.trials(variance, value * (1 - value) / shared.n, n_rare)
        return cls(value, variance, trials)

    def interval(self, z: float = Z) -> tuple[float, float]:
        """Wilson's interval, `z` standard errors wide; by default of 95%."""
        return wilson_interval(self.value, self.trials, z)


def rate_interval(right: Bools, shared: Shared, z: float = Z) -> tuple[float, float]:
    """Interval of a rate: that of a `Share`.

    Its lower end is never above that of as many pictures or tiles without any error, and its upper
    end never below that of none right.

    Args:
        right: (J,) whether each question was answered right.
        z: width in standard errors; the default gives a 95% interval.
    """
    low, high = Share.of(right, shared).interval(z)
    few = shared.n_groups
    return (
        min(low, wilson_interval(1.0, few, z)[0]),
        max(high, wilson_interval(0.0, few, z)[1]),
    )


@dataclass(frozen=True)
class Difference:
    """The rate of one reader minus that of another, who answers the same questions.

    It is the share of the questions that only the first answers right, minus that of those which
    only the other does. Or it is the rate of some questions minus that of others. The two have
    intervals of their own, because one can be rare and clustered
    where the other is neither.

    Attributes:
        first, other: these shares.
        correlation: of their errors.
    """

    first: Share
    other: Share
    correlation: float

    @classmethod
    def between(cls, one: Bools, other: Bools, shared: Shared) -> "Difference":
        """The rate of `one` minus that of `other`.

        Args:
            one, other: (J,) outcomes of the same questions in the same order.
        """
        first, second = (Share.of(way, shared) for way in (one & ~other, other & ~one))
        of_gap = shared.variance(one.astype(np.float64) - other)
        return cls(first, second, _correlation(first, second, of_gap))

    @classmethod
    def of_groups(cls, right: Bools, these: Bools, shared: Shared) -> "Difference":
        """The rate of some questions minus that of all others, which share pictures or tiles.

        Args:
            right: (J,) outcomes.
            these: (J,) the questions that come first; not all, and not none.
        """
        first, second = (Share.of(right[own], shared.of(own)) for own in (these, ~these))
        errors = np.where(these, right - first.value, second.value - right)
        of_gap = shared.variance(errors / np.where(these, these.mean(), (~these).mean()))
        return cls(first, second, _correlation(first, second, of_gap))

    @property
    def value(self) -> float:
        """The difference."""
        return self.first.value - self.other.value

    def interval(self, z: float = Z) -> tuple[float, float]:
        """The two intervals combined, by the method of variance estimates recovery.

        It is that of Zou & Donner 2008 (https://doi.org/10.1002/sim.3095), section 2. Where the
        same few groups hold both kinds of questions, a long side of one interval and a short side
        of the other can cancel each other. So with a positive correlation no side is shorter than
        the difference's own standard errors.

        Args:
            z: width in standard errors; the default gives a 95% interval.
        """
        (low, high), (low_other, high_other) = (
            share.interval(z) for share in (self.first, self.other)
        )

        def combined(a: float, b: float) -> float:
            return sqrt(max(a**2 - 2 * self.correlation * a * b + b**2, 0.0))

        shortest = 0.0
        if self.correlation > 0:
            shortest = z * combined(sqrt(self.first.variance), sqrt(self.other.variance))
        below = max(combined(self.first.value - low, high_other - self.other.value), shortest)
        above = max(combined(high - self.first.value, self.other.value - low_other), shortest)
        return max(self.value - below, -1.0), min(self.value + above, 1.0)

    @property
    def errors(self) -> float:
        """How many standard errors wide the widest interval is that leaves 0 out."""
        low, high = 0.0, _FARTHEST
        for _ in range(60):
            z = (low + high) / 2
            inside = self.interval(z)
            if inside[0] <= 0 <= inside[1]:
                high = z
            else:
                low = z
        return high

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference: that of the widest interval that leaves 0 out."""
        return erfc(self.errors / sqrt(2))

    @property
    def error(self) -> float:
        """The standard error that the 95% interval has on average over its two sides."""
        low, high = self.interval()
        return (high - low) / (2 * Z)

    @property
    def smallest(self) -> float:
        """The difference that would be found in four of five repetitions (a power of 80%)."""
        return self.error * (Z + Z_POWER)


def _correlation(first: Share, second: Share, of_difference: float) -> float:
    """The correlation of the errors of two shares, from the variance of their difference."""
    product = first.variance * second.variance
    if not 0 < product < np.inf:
        return 0.0
    covariance = (first.variance + second.variance - of_difference) / 2
    return min(max(covariance / sqrt(product), -1.0), 1.0)


def wilson_interval(rate: float, n: float, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval of a rate over n independent trials; by default of 95%."""
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return (0.0 if rate == 0 else centre - half), (1.0 if rate == 1 else centre + half)


def holm(p: Floats) -> Floats:
    """p-values of a family (n,), adjusted (Holm 1979, https://www.jstor.org/stable/4615733)."""
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted
