"""Counter-based random numbers: pure, uniform, and equal to the published SplitMix64."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.data import rng

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The finaliser, with Python's integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


@given(st.integers(0, MASK))
def test_mix_is_splitmix64(state):
    assert int(rng.mix(np.array([state], np.uint64))[0]) == splitmix64(state)


def test_bits_are_the_published_sequence_of_seed_zero():
    # The first outputs of SplitMix64 from state 0, as in the reference implementations.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(w) for w in rng.bits(np.zeros(1, np.uint64), 3)[0]] == expected


@given(st.integers(0, 10**12), st.integers(1, 20))
def test_a_key_depends_on_its_own_index_only(start, n):
    index = start + np.arange(n)
    together = rng.keys(3, "x", index)
    alone = [int(rng.keys(3, "x", index[i : i + 1])[0]) for i in range(n)]
    assert [int(k) for k in together] == alone


def test_keys_differ_by_seed_purpose_and_index():
    index = np.arange(1000)
    words = [rng.keys(s, p, index) for s in (0, 1, 10) for p in ("a", "b", "/a")]
    assert len(np.unique(np.concatenate(words))) == 9 * 1000


def test_below_is_uniform_and_in_range():
    words = rng.bits(rng.keys(0, "below", np.arange(7000)), 1)[:, 0]
    counts = np.bincount(rng.below(words, 7), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 1000).max() < 150  # five standard deviations
    top = np.array([0, MASK], np.uint64)
    assert rng.below(top, 10).tolist() == [0, 9]
    assert rng.unit(top)[0] == 0 and rng.unit(top)[1] < 1  # noqa: PT018


def test_permutations_are_permutations_and_uniform():
    orders = rng.permutations(rng.keys(0, "p", np.arange(6000)), 3)
    assert (np.sort(orders, 1) == np.arange(3)).all()
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 150
