"""Variances know what questions share."""

import numpy as np
import pytest
from hypothesis import given

from gpt2v.stats.shared import Shared
from questions_drawn import questions, shared_of


@given(questions)
def test_the_variance_is_the_sum_over_pairs_that_share_a_picture_or_a_tile(drawn):
    shared, right, _ = shared_of(drawn)
    error = right - right.mean()
    same_picture = shared.picture[:, None] == shared.picture
    same_tile = shared.tiles == shared.tiles[:, 0]
    products = error[:, None] * error
    elsewhere = same_tile & ~same_picture
    alone = np.eye(len(error), dtype=bool)
    ways = (same_picture | elsewhere, same_picture, alone | elsewhere)
    total = max(products[same].sum() for same in ways)
    n = min(len(np.unique(shared.picture)), len(np.unique(shared.tiles)))
    if n == 1:
        assert shared.variance(right.astype(float)) in (0, np.inf)
        return
    expected = total / shared.n**2 * n / (n - 1)
    assert shared.variance(right.astype(float)) == pytest.approx(expected, abs=1e-12)


@given(questions)
def test_covariances_are_means_over_pairs_of_questions(drawn):
    shared, one, other = shared_of(drawn)
    value = one.astype(float) - other
    error = value - value.mean()
    same_picture = shared.picture[:, None] == shared.picture
    same_tile = shared.tiles == shared.tiles[:, 0]
    apart = ~np.eye(len(error), dtype=bool)
    products = error[:, None] * error
    own, picture, tile = shared.covariances(value)
    assert own == pytest.approx(np.mean(error**2))
    for found, pairs in ((picture, same_picture & apart), (tile, same_tile & ~same_picture)):
        expected = max(products[pairs].mean(), 0) if pairs.any() else 0
        assert found == pytest.approx(expected, abs=1e-12)


def test_each_part_has_a_mean_of_its_own():
    right = np.repeat([True, False], 50)
    picture = np.arange(100)
    one = Shared(picture)
    two = Shared(picture, part=np.repeat([3, 8], 50))
    assert one.variance(right.astype(float)) == pytest.approx(0.25 / 99)
    assert two.variance(right.astype(float)) == 0


def test_a_question_belongs_to_each_tile_that_it_reads():
    """Two questions with one tile in common vary together; without it they do not."""
    value = np.array([1.0, 1.0, 0.0, 0.0])
    picture = np.arange(4)
    apart = Shared(picture, np.array([[0, 1], [2, 3], [4, 5], [6, 7]]))
    together = Shared(picture, np.array([[0, 1], [1, -1], [4, 5], [6, 7]]))
    assert together.variance(value) == pytest.approx(1.5 * apart.variance(value))


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        Shared(np.zeros(0, np.int64))


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
@pytest.mark.parametrize("factor", [1, 10**9])
def test_how_large_the_numbers_are_does_not_matter(kind, factor):
    """Contents are hashes of 64 bits, pictures and tiles are small."""
    rng = np.random.default_rng(0)
    picture, tile = rng.integers(9, size=60), rng.integers(7, size=(60, 2))
    value = rng.random(60)
    expected = Shared(picture, tile).variance(value)
    scaled = Shared((picture * factor).astype(kind), tile * factor)
    assert scaled.variance(value) == pytest.approx(expected)
    assert scaled.n_pictures == 9
