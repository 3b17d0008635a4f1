"""Intervals and p-values belong together, and know what questions share."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from gpt2v.stats.intervals import Difference, Share, Z, holm, rate_interval, wilson_interval
from gpt2v.stats.shared import Shared
from questions_drawn import questions, shared_of


def simulated(rng, pictures, n_tiles, per, of_picture=0.0, of_tile=0.0, rate=0.9):
    """Outcomes with a latent correlation within pictures and within tiles."""
    shared = Shared(
        np.repeat(np.arange(pictures), per), rng.integers(n_tiles, size=(pictures * per, 1))
    )
    common = np.sqrt(of_picture) * rng.standard_normal(pictures)[shared.picture]
    common += np.sqrt(of_tile) * rng.standard_normal(n_tiles)[shared.tiles[:, 0]]
    own = np.sqrt(1 - of_picture - of_tile) * rng.standard_normal(shared.n)
    return common + own < norm.ppf(rate), shared


# ---- rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 40), (37, 40), (40, 40)])
def test_wilson_is_scipys(k, n):
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k / n, n) == pytest.approx(tuple(theirs), abs=1e-12)


@pytest.mark.parametrize("k", [0, 5, 38, 40])
def test_questions_that_share_nothing_get_wilson(k):
    right = np.arange(40) < k
    interval = rate_interval(right, Shared(np.arange(40)))
    assert interval == pytest.approx(wilson_interval(k / 40, 40), abs=0.002)  # but for n / (n - 1)


@given(questions)
def test_wrong_answers_mirror_right_ones(drawn):
    shared, right, _ = shared_of(drawn)
    low, high = rate_interval(right, shared)
    assert rate_interval(~right, shared) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert 0 <= low <= right.mean() <= high <= 1


@pytest.mark.parametrize("together", [True, False])
def test_nothing_jumps_where_all_are_right(together):
    """The lower end falls with each wrong answer, by little, wherever the wrong ones are."""
    shared = Shared(np.repeat(np.arange(1000), 9), np.tile(np.arange(900), 10)[:, None])
    order = np.arange(9000) if together else np.random.default_rng(0).permutation(9000)
    ends = []
    for wrong in range(6):
        right = np.ones(9000, bool)
        right[order[:wrong]] = False
        ends.append(rate_interval(right, shared)[0])
    assert all(a >= b for a, b in pairwise(ends))
    assert ends[0] - ends[1] < 0.002
    assert ends[0] == pytest.approx(wilson_interval(1, 900)[0])


def test_tiles_that_are_hard_to_see_widen_the_interval():
    """Planted: answers depend on the tile alone. With the tiles, 95% of the intervals hold the
    truth, and without them about half."""
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(300):
        right, shared = simulated(rng, 400, 100, 9, of_tile=0.8)
        for i, own in enumerate((shared, Shared(shared.picture))):
            low, high = rate_interval(right, own)
            held[i] += low <= 0.9 <= high
    assert held[0] >= 0.92 * 300
    assert held[1] <= 0.75 * 300


@pytest.mark.parametrize("correlations", [(0, 0), (0.5, 0), (0.3, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(correlations):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        right, shared = simulated(rng, 100, 500, 9, *correlations)
        low, high = rate_interval(right, shared)
        held += low <= 0.9 <= high
    assert held >= 0.92 * 300


def test_a_suites_grids_are_one_cluster_in_all_parts():
    """Nine parts that show the same grids, all wrong in the same ones, tell no more than one."""
    right = np.arange(200) % 4 > 0
    one = rate_interval(right, Shared(np.arange(200)))
    picture, part = np.tile(np.arange(200), 9), np.repeat(np.arange(9), 200)
    nine = rate_interval(np.tile(right, 9), Shared(picture, part=part))
    assert nine == pytest.approx(one, abs=0.01)


# ---- differences -----------------------------------------------------------------------------


def test_independent_shares_are_squared_and_added():
    """Each end lies as far away as the two Wilson intervals say, as in Newcombe 1998, method 10,
    without correlation."""
    shares = Share(0.3, 0.21 / 80, 80), Share(0.1, 0.09 / 50, 50)
    low, high = Difference(*shares, 0.0).interval()
    (l1, u1), (l2, u2) = wilson_interval(0.3, 80), wilson_interval(0.1, 50)
    assert low == pytest.approx(0.2 - np.hypot(0.3 - l1, u2 - 0.1))
    assert high == pytest.approx(0.2 + np.hypot(u1 - 0.3, 0.1 - l2))


def test_with_many_questions_the_interval_is_that_of_the_means():
    """Its half is 1.96 standard errors of the mean difference."""
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 40_000)) < [[0.7], [0.4]]
    found = Difference.between(one, other, Shared(np.arange(40_000)))
    error = np.std(one.astype(float) - other) / np.sqrt(40_000)
    assert np.ptp(found.interval()) == pytest.approx(2 * Z * error, rel=0.005)


@given(questions)
def test_a_difference_turned_round_is_negative(drawn):
    shared, one, other = shared_of(drawn)
    found = Difference.between(one, other, shared)
    low, high = found.interval()
    turned = Difference.between(other, one, shared)
    assert turned.interval() == pytest.approx((-high, -low), abs=1e-9)
    assert found.value == pytest.approx(one.mean() - other.mean(), abs=1e-12)
    assert -1 <= low <= found.value + 1e-12
    assert high <= 1


def test_paired_answers_need_fewer_questions():
    """Readers that are wrong about the same questions are compared more precisely."""
    shared = Shared(np.arange(1000))
    one = np.arange(1000) >= 300
    same, elsewhere = np.arange(1000) >= 320, np.arange(1000) < 680
    widths = [
        np.ptp(Difference.between(one, other, shared).interval()) for other in (same, elsewhere)
    ]
    assert widths[0] < 0.5 * widths[1]


def test_rare_tiles_are_not_hidden_by_common_errors():
    """Planted: one reader misses about 2 of 200 tiles, always; the other errs anywhere, twice as
    often. That errors are independent on the whole says nothing of those of tiles."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        shared = Shared(np.repeat(np.arange(200), 9), rng.integers(200, size=(1800, 1)))
        missed = (rng.random(200) < 0.01)[shared.tiles[:, 0]]
        low, high = Difference.between(rng.random(1800) > 0.02, ~missed, shared).interval()
        held += low <= -0.01 <= high
    assert held >= 0.93 * 300


@pytest.mark.parametrize(
    ("n_grids", "n_each", "n_hard", "n_other", "n_first"),
    [(50, 9, 5, 6, 3), (200, 100, 6, 70, 25), (32, 100, 4, 78, 21)],
)
def test_hard_grids_that_hold_both_kinds_do_not_cancel_an_end(
    n_grids, n_each, n_hard, n_other, n_first
):
    """Planted: both readers err on the same few grids only, in other proportions."""
    number = np.arange(n_grids * n_each)
    grid, place = np.divmod(number, n_each)
    hard = grid < n_hard
    only_other, only_first = hard & (place < n_other), hard & (place >= n_each - n_first)
    found = Difference.between(~only_other, ~only_first, Shared(grid))
    grids = (only_first.astype(float) - only_other).reshape(n_grids, n_each).mean(1)
    error = grids.std(ddof=1) / np.sqrt(n_grids)
    low, high = found.interval()
    assert low <= found.value - 1.9 * error
    assert high >= found.value + 1.9 * error
    inner = found.interval(1.0)
    assert low <= inner[0] <= inner[1] <= high


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 60), st.integers(1, 12), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32)
)
def test_intervals_of_hard_grids_are_nested(n_grids, n_each, hard, share, seed):
    """A wider level has a wider interval, so the p-value is that of one interval."""
    rng = np.random.default_rng(seed)
    grid = np.repeat(np.arange(n_grids), n_each)
    is_hard = (rng.random(n_grids) < hard)[grid]
    draw = rng.random(len(grid))
    one, other = ~(is_hard & (draw < share)), ~(is_hard & (draw > share) & (draw < 0.95))
    found = Difference.between(one, other, Shared(grid))
    ends = np.array([found.interval(z) for z in (0.5, 1.0, 1.5, Z, 3.0)])
    assert (np.diff(ends[:, 0]) <= 1e-12).all()
    assert (np.diff(ends[:, 1]) >= -1e-12).all()


def test_no_difference_at_all_still_has_an_interval():
    right = np.arange(900) % 10 > 0
    found = Difference.between(right, right, Shared(np.repeat(np.arange(100), 9)))
    low, high = found.interval()
    assert found.p == 1
    assert low == pytest.approx(-high)
    assert 0.005 < high < 0.1


# ---- p-values --------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(questions)
def test_p_is_small_exactly_where_the_interval_leaves_0_out(drawn):
    shared, one, other = shared_of(drawn)
    found = Difference.between(one, other, shared)
    low, high = found.interval()
    if min(abs(low), abs(high)) > 1e-9:
        assert (found.p < 0.05) == (not low <= 0 <= high)
    assert 0 <= found.p <= 1


def test_p_of_many_questions_is_that_of_a_normal_test():
    """Of questions that share nothing, McNemar's."""
    one, other = np.arange(4000) < 2000, np.roll(np.arange(4000) < 2000, 1900)
    other[:150] = True
    discordant, gap = (one != other).sum(), int(one.sum()) - int(other.sum())
    found = Difference.between(one, other, Shared(np.arange(4000)))
    assert found.p == pytest.approx(2 * norm.sf(abs(gap) / np.sqrt(discordant)), rel=0.15)


def test_the_smallest_difference_is_found_four_times_of_five():
    """Of normal estimates whose interval has this width, 80% are significant."""
    found = Difference(*[Share(0.1, 0.09 / 1000, 1000)] * 2, 0.0)
    error = np.ptp(found.interval()) / (2 * Z)
    drawn = np.random.default_rng(0).normal(found.smallest, error, 100_000)
    assert (drawn > Z * error).mean() == pytest.approx(0.8, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition(p):
    adjusted = holm(np.array(p))
    order = np.argsort(p, kind="stable")
    for rank, i in enumerate(order):
        before = [min(1, (len(p) - k) * p[order[k]]) for k in range(rank + 1)]
        assert adjusted[i] == pytest.approx(max(before))
