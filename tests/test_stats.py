"""Confidence intervals: the cluster bootstrap, and Wilson's where it does not apply."""

import numpy as np
import pytest

from gpt2v.stats import cluster_interval, paired_interval, wilson_interval


def clustered(n, per, seed, spread=0.4):
    """Outcomes whose rate varies from picture to picture, about 0.5."""
    rng = np.random.default_rng(seed)
    rate = np.repeat(0.5 + spread * rng.choice([-1, 1], n), per)
    return rng.random(n * per) < rate, np.repeat(np.arange(n), per)


def test_clustered_outcomes_have_a_wider_interval_than_naive_ones():
    right, picture = clustered(100, 9, 0)
    low, high = cluster_interval(right, picture)
    naive = 2 * 1.96 * np.sqrt(0.25 / 900)
    assert high - low > 2 * naive
    rate = right.reshape(100, 9).mean(1)  # rates of pictures are i.i.d.
    expected = 2 * 1.96 * rate.std() / 10
    assert high - low == pytest.approx(expected, rel=0.15)
    assert low < right.mean() < high


def test_independent_outcomes_have_about_the_naive_interval():
    right, picture = clustered(150, 9, 1, spread=0.0)
    low, high = cluster_interval(right, picture)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 1350), rel=0.25)


def test_the_interval_covers_the_truth_in_about_95_percent_of_cases():
    covered = 0
    for seed in range(60):
        low, high = cluster_interval(*clustered(60, 4, seed))
        covered += low <= 0.5 <= high
    assert covered >= 51


def test_pictures_of_unequal_size_and_any_order():
    right, picture = clustered(50, 6, 3)
    chosen = np.random.default_rng(0).permutation(len(right))[:200]
    low, high = cluster_interval(right[chosen], picture[chosen] * 1000)
    assert low < right[chosen].mean() < high
    assert (low, high) == cluster_interval(right[chosen], picture[chosen] * 1000)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_of_zero_or_one_gets_wilson_by_picture(rate):
    right = np.full(90, bool(rate))
    low, high = cluster_interval(right, np.repeat(np.arange(10), 9))
    assert (low, high) == wilson_interval(rate, 10)
    assert high - low == pytest.approx(0.2775, abs=1e-3)  # Wilson for 10 of 10
    assert rate in (low, high)  # exactly: no rate lies outside its own interval


def test_one_question_per_picture_gets_wilson():
    right = np.arange(40) < 30
    assert cluster_interval(right, np.arange(40)) == wilson_interval(0.75, 40)


def test_wilson_solves_its_own_equation():
    for rate, n in ((0.3, 50), (0.9, 20)):
        for bound in wilson_interval(rate, n):
            z = abs(rate - bound) / np.sqrt(bound * (1 - bound) / n)
            assert z == pytest.approx(1.959964, abs=1e-4)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        cluster_interval(np.zeros(0, bool), np.zeros(0, np.int64))


def test_a_difference_is_paired_and_clustered():
    """Compared with the definition: resampled pictures, each with both outcomes."""
    one, picture = clustered(200, 9, 5)
    rng = np.random.default_rng(1)
    other = one & (rng.random(len(one)) < 0.8)
    gaps = (one.astype(float) - other).reshape(200, 9).mean(1)
    drawn = np.random.default_rng(0).choice(gaps, (4000, 200)).mean(axis=1)
    interval = paired_interval(one, other, picture)
    assert interval == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.003)
    turned = paired_interval(other, one, picture)
    assert turned == pytest.approx((-interval[1], -interval[0]), abs=0.003)


def test_no_difference_at_all_still_has_an_interval():
    right, picture = clustered(100, 9, 2)
    low, high = paired_interval(right, right, picture)
    assert (low, high) == (-high, wilson_interval(0.0, 100)[1])
    assert high > 0.03
