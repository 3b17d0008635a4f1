"""Functions of several rates of the same questions, with intervals by the delta method.

Shapes: J questions in a flat list.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np

from gpt2v.stats.intervals import Z
from gpt2v.stats.shared import Floats, Shared

_STEP = 1e-6


def of_rates(
    function: Callable[[Floats], float], outcomes: Floats, shared: Shared
) -> tuple[float, tuple[float, float]]:
    """A function of rates, and its 95% interval: 1.96 standard errors of its linear part.

    For rates that are not near 0 or 1: an interval of one rate is `rate_interval`.

    Args:
        function: of the means of the columns of `outcomes`, (n_rates,); differentiable there.
        outcomes: (J, n_rates) of each question.
    """
    means = outcomes.mean(0)
    steps = _STEP * np.eye(len(means))
    slopes = np.array([(function(means + s) - function(means - s)) / (2 * _STEP) for s in steps])
    value = function(means)
    half = Z * sqrt(shared.variance(outcomes @ slopes))
    return value, (value - half, value + half)
