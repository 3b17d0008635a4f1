"""Quantiles of Student's t, and that few groups need wider intervals."""

import pytest
from scipy import stats

from gpt2v.stats.student import detectable, p_value, width


@pytest.mark.parametrize("n", [2, 5, 30, 1000])
def test_quantiles_are_those_of_the_distribution(n):
    t = stats.t(n - 1)
    assert width(n) == pytest.approx(t.ppf(0.975))
    assert p_value(width(n), n) == pytest.approx(0.05)
    assert detectable(n) == pytest.approx(t.ppf(0.975) + t.ppf(0.8))


def test_fewer_groups_say_less():
    assert width(1) == width(2) > width(8) > width(100) > 1.96
    assert p_value(3, 1) > p_value(3, 8) > p_value(3, 100)
