"""Erasure leaves no linear trace, changes as little as it can, and moves change only the class."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.probing.erasure import Eraser, Mover, random_directions, turned

SHAPES = st.tuples(
    st.integers(2, 6), st.integers(1, 30), st.integers(12, 200), st.integers(0, 10_000)
)


def drawn(shape):
    """Rows whose classes show in some directions, which correlate with others.

    The condition number of what mixes them is at most 30: two ways to erase agree to six decimal
    places only where the covariance can be inverted to as many.
    """
    n_classes, n_features, n_rows, seed = shape
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_rows - n_classes)])
    turns = np.linalg.qr(rng.normal(size=(2, n_features, n_features)))[0]
    mixed = turns[0] * rng.uniform(0.1, 3, n_features) @ turns[1]
    x = rng.normal(size=(n_rows, n_features)) + rng.normal(size=(n_classes, n_features))[labels]
    return x @ mixed + 5, labels


def linear_error(x, labels):
    """Mean squared error of the best affine decoder of the labels, in units of no decoder's."""
    target = np.eye(labels.max() + 1)[labels]
    rows = np.column_stack([x - x.mean(0), np.ones(len(x))])
    found = np.linalg.lstsq(rows, target, rcond=1e-8)[0]
    return np.square(rows @ found - target).sum() / np.square(target - target.mean(0)).sum()


@given(SHAPES)
def test_after_erasure_no_linear_decoder_beats_chance(shape):
    x, labels = drawn(shape)
    eraser = Eraser.fit(x, labels, labels.max() + 1)
    assert eraser.rank <= min(labels.max(), x.shape[1])
    erased = eraser(x)
    assert linear_error(x, labels) < 1
    assert linear_error(erased, labels) == pytest.approx(1, abs=1e-6)
    shown = np.eye(labels.max() + 1)[labels]
    np.testing.assert_allclose((erased - erased.mean(0)).T @ (shown - shown.mean(0)), 0, atol=1e-6)
    np.testing.assert_allclose(erased.mean(0), x.mean(0), atol=1e-8)  # it changes no mean
    np.testing.assert_allclose(eraser(erased), erased, atol=1e-6)  # once is enough


def test_a_ridge_decoder_falls_to_the_most_frequent_class():
    x, labels = drawn((4, 20, 400, 0))
    target = np.eye(4)[labels]

    def rate(features):
        rows = np.column_stack([features, np.ones(len(features))])
        return float(
            ((rows @ np.linalg.lstsq(rows, target, rcond=None)[0]).argmax(1) == labels).mean()
        )

    assert rate(x) > 0.9
    assert rate(Eraser.fit(x, labels, 4)(x)) == pytest.approx(np.bincount(labels).max() / 400)


@given(SHAPES)
def test_it_is_the_eraser_of_its_authors(shape):
    concept_erasure = pytest.importorskip(
        "concept_erasure", reason="needs the package concept-erasure (`pip install gpt2v[test]`)"
    )
    n_classes, n_features, n_rows, seed = shape
    x, labels = drawn((n_classes, n_features, n_rows + 3 * n_features, seed))
    shown = torch.from_numpy(np.eye(n_classes)[labels])
    options = {"shrinkage": False, "svd_tol": 1e-8, "constrain_cov_trace": False}
    theirs = concept_erasure.LeaceEraser.fit(torch.from_numpy(x), shown, **options)
    np.testing.assert_allclose(
        Eraser.fit(x, labels, n_classes)(x), theirs(torch.from_numpy(x)).numpy(), atol=1e-6
    )


def test_it_changes_least():
    """Another way of erasing, without the subspace of the class means, changes more."""
    x, labels = drawn((3, 10, 500, 1))
    eraser = Eraser.fit(x, labels, 3)
    plain = x - (x - x.mean(0)) @ eraser.basis @ eraser.basis.T
    whitened = np.linalg.inv(np.cov(x.T))

    def size(change):  # in the metric of the rows' own covariance, as its authors measure
        return np.einsum("ni,ij,nj->", change, whitened, change)

    assert linear_error(plain, labels) == pytest.approx(1, abs=1e-6)
    assert size(eraser(x) - x) < size(plain - x)
    assert np.square(eraser(x) - x).sum() < np.square(plain - x).sum()


def test_features_without_variance_and_classes_without_rows_do_no_harm():
    x, labels = drawn((3, 4, 60, 0))
    x[:, 2] = 7
    eraser, mover = Eraser.fit(x, labels, 5), Mover.fit(x, labels, 5)
    assert eraser.rank == 2
    assert (eraser(x)[:, 2] == 7).all()
    assert np.isfinite(mover(x, labels, np.full(60, 4))).all()
    alone = Eraser.fit(x, np.zeros(60, np.int64), 5)
    assert alone.rank == 0
    np.testing.assert_array_equal(alone(x), x)


@given(SHAPES)
def test_a_move_changes_only_what_an_eraser_erases(shape):
    x, labels = drawn(shape)
    n_classes = labels.max() + 1
    target = (labels + 1) % n_classes
    moved = Mover.fit(x, labels, n_classes)(x, labels, target)
    for c in range(n_classes):
        np.testing.assert_allclose(moved[target == c].mean(0), x[labels == c].mean(0), atol=1e-8)
    basis = Eraser.fit(x, labels, n_classes).basis
    change = moved - x
    np.testing.assert_allclose(change @ basis @ basis.T, change, atol=1e-5)


@given(SHAPES, st.integers(0, 100))
def test_turned_changes_have_the_same_sizes_and_rank_elsewhere(shape, seed):
    x, labels = drawn(shape)
    eraser = Eraser.fit(x, labels, labels.max() + 1)
    directions = random_directions(x.shape[1], eraser.rank, seed)
    np.testing.assert_allclose(directions.T @ directions, np.eye(eraser.rank), atol=1e-10)
    change = eraser(x) - x
    other = turned(change, eraser.basis, directions)
    np.testing.assert_allclose(other @ other.T, change @ change.T, atol=1e-5)
    assert np.linalg.matrix_rank(other, tol=1e-6) <= eraser.rank


def test_directions_are_drawn_anew_for_each_seed():
    one, same, other = (random_directions(50, 3, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one.T @ other).max() < 0.6
