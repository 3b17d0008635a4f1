"""Student's t in place of the normal distribution: for variances that a few groups tell.

`rate_interval`, `Difference.interval` and `of_rates` take a width in standard errors. A single
group, which tells no variance, counts as two; unequal groups can be worth a fraction.
"""

from scipy.special import stdtr, stdtrit


def width(n_groups: float) -> float:
    """Half of a 95% interval, in standard errors."""
    return float(stdtrit(_freedom(n_groups), 0.975))


def p_value(errors: float, n_groups: float) -> float:
    """Two-sided p-value of a difference of so many standard errors."""
    return float(2 * stdtr(_freedom(n_groups), -errors))


def detectable(n_groups: float) -> float:
    """The difference that would be found in four of five repetitions, in standard errors."""
    return width(n_groups) + float(stdtrit(_freedom(n_groups), 0.8))


def _freedom(n_groups: float) -> float:
    return max(n_groups - 1, 1)
