"""Ridge classifiers, compared with the normal equations."""

import numpy as np
import pytest

from gpt2v.probing.ridge import RidgeProblem


def fit_ridge(x, labels, classes):
    return RidgeProblem(x).fit(labels, classes)


def data(n=200, d=6, classes=3, noise=0.5, seed=0):
    centres = np.random.default_rng(0).normal(size=(classes, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return centres[labels] + noise * rng.normal(size=(n, d)) + 5.0, labels


def closed_form(x, labels, classes, strength):
    """(X^T X / n + strength * mean variance) W = X^T Y / n on centred data."""
    mean, target = x.mean(0), np.eye(classes)[labels]
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    penalty = strength * np.trace(covariance) / x.shape[1] * np.eye(x.shape[1])
    weight = np.linalg.solve(covariance + penalty, centred.T @ (target - target.mean(0)) / len(x))
    return lambda new: (new - mean) @ weight + target.mean(0)


@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_scores_equal_the_closed_form_at_the_chosen_strength(noise):
    x, labels = data(noise=noise)
    classifier = fit_ridge(x, labels, 3)
    expected = closed_form(x[:160], labels[:160], 3, classifier.strength)
    np.testing.assert_allclose(classifier.scores(x), expected(x), atol=1e-8)


def test_the_strength_is_the_best_on_the_held_out_rows():
    x, labels = data(n=60, d=40, noise=2.0)
    classifier = fit_ridge(x, labels, 3)

    def rate(strength):
        scores = closed_form(x[:48], labels[:48], 3, strength)(x[48:])
        return (scores.argmax(1) == labels[48:]).mean()

    assert rate(classifier.strength) == max(rate(s) for s in 10.0 ** np.arange(-6, 3))


def test_separable_features_are_classified_and_shuffled_labels_are_not():
    x, labels = data(n=900, noise=0.05)
    fresh, truth = data(n=300, noise=0.05, seed=1)
    assert (fit_ridge(x, labels, 3).scores(fresh).argmax(1) == truth).mean() > 0.97
    shuffled = np.random.default_rng(1).permutation(labels)
    assert abs((fit_ridge(x, shuffled, 3).scores(x).argmax(1) == labels).mean() - 1 / 3) < 0.2


def test_more_features_than_rows_and_constant_features_are_fine():
    x, labels = data(n=30, d=80)
    x[:, :5] = 1.0
    assert np.isfinite(fit_ridge(x, labels, 3).scores(x)).all()


def test_one_factorisation_serves_any_labels():
    x, labels = data()
    other = np.random.default_rng(5).permutation(labels)
    problem = RidgeProblem(x)
    problem.fit(other, 3)
    again = problem.fit(labels, 3)
    np.testing.assert_array_equal(again.scores(x), fit_ridge(x, labels, 3).scores(x))
