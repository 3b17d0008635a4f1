"""Exact tails equal those of enumeration and of scipy; what is shared makes p-values larger."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from gpt2v.probing.excess import Excess, _exact_p, worse_p
from gpt2v.stats.shared import Shared


def alone(n):
    """n questions that share nothing."""
    return Shared(np.arange(n), np.arange(n)[:, None])


@given(st.lists(st.sampled_from([0.2, 1 / 3, 0.5, 1.0]), min_size=1, max_size=7), st.data())
def test_the_exact_p_is_twice_the_smaller_tail(chance, data):
    n_hits = data.draw(st.integers(0, len(chance)))
    below = above = 0.0
    for outcome in product((0, 1), repeat=len(chance)):
        p = np.prod([c if hit else 1 - c for c, hit in zip(chance, outcome, strict=True)])
        below += p * (sum(outcome) <= n_hits)
        above += p * (sum(outcome) >= n_hits)
    assert _exact_p(n_hits, np.array(chance)) == pytest.approx(min(1, 2 * min(below, above)))


def test_many_questions_are_a_binomial():
    chance = np.full(3000, 1 / 3)
    for n_hits in (900, 1000, 1090):
        tails = [
            binomtest(n_hits, 3000, 1 / 3, alternative=side).pvalue for side in ("less", "greater")
        ]
        assert _exact_p(n_hits, chance) == pytest.approx(min(1, 2 * min(tails)), rel=1e-6)


def test_worse_is_fisher_s_test_where_nothing_is_shared():
    these = np.arange(400) < 40
    for n_both, n_rest in ((12, 20), (5, 20), (3, 3)):
        wrong = np.zeros(400, bool)
        wrong[:n_both] = wrong[40 : 40 + n_rest] = True
        table = [[n_both, 40 - n_both], [n_rest, 360 - n_rest]]
        exact = 2 * fisher_exact(table, "greater").pvalue
        p = worse_p(wrong, these, alone(400))
        assert exact * (1 - 1e-9) <= p < max(5 * exact, 0.02)
    assert worse_p(~wrong, these, alone(400)) == 1.0  # better than the others


def test_answers_about_one_tile_tell_less_than_answers_about_many():
    hit, chance = np.arange(60) < 40, np.full(60, 1 / 3)
    own = Excess.of(hit, chance, alone(60))
    one_tile = Shared(np.arange(60), np.where(hit, 0, np.arange(60))[:, None])
    shared = Excess.of(hit, chance, one_tile)
    assert own.p < 1e-6 < shared.p
    assert shared.ci95[0] < own.ci95[0] < own.value == shared.value == pytest.approx(1 / 3)
    assert (own.ci95[0] > 0, own.n, own.n_hits) == (True, 60, 40)
