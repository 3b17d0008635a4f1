"""Ridge and logistic classifiers, compared with scikit-learn and with themselves in other forms."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from gpt2v.config.decoders import LogisticOptions, RidgeOptions
from gpt2v.probing.decoders import ridge, softmax
from gpt2v.probing.decoders.base import exact
from gpt2v.probing.decoders.linear import Best, strengths_of
from gpt2v.probing.decoders.logistic import Logistic
from gpt2v.probing.decoders.ridge import Dual, Primal, Ridge, targets_of
from planted_features import drawn

EXACT = LogisticOptions(n_strengths=4, weakest=1e-3, tolerance=1e-10)
SHAPES = pytest.mark.parametrize("n_features", [8, 130], ids=["primal", "dual"])


def rows_of(n_features, n_classes=4, n=80, m=40):
    """Training and validation rows with two sets of labels: true ones, and shuffled ones."""
    x, labels = drawn(n, n_features, n_classes, seed=1)
    x_val, val_labels = drawn(m, n_features, n_classes, seed=2)
    shuffle = np.random.default_rng(3).permutation
    sets = np.stack([labels, shuffle(labels)]), np.stack([val_labels, shuffle(val_labels)])
    return x, sets[0], x_val, sets[1], n_classes


def both_of(x, labels, x_val, val_labels):
    whole = np.concatenate([x, x_val]).astype(float)
    return whole, np.concatenate([labels, val_labels], 1), whole.var(0).mean()


@SHAPES
def test_ridge_equals_that_of_scikit_learn(n_features):
    *rows, n_classes = rows_of(n_features)
    fitted = Ridge().fit(*rows, n_classes)
    x, labels, unit = both_of(*rows)
    for own, truth in zip(fitted, labels, strict=True):
        other = SklearnRidge(alpha=len(x) * unit * own.strength, solver="svd")
        other.fit(x, 2.0 * np.eye(n_classes)[truth] - 1)
        np.testing.assert_allclose(own.weight, other.coef_.T, atol=1e-10)
        np.testing.assert_allclose(own.bias - own.mean @ own.weight, other.intercept_, atol=1e-10)


@SHAPES
def test_logistic_equals_that_of_scikit_learn(n_features):
    *rows, n_classes = rows_of(n_features)
    fitted = Logistic(EXACT).fit(*rows, n_classes)
    x, labels, unit = both_of(*rows)
    for own, truth in zip(fitted, labels, strict=True):
        other = LogisticRegression(
            C=1 / (len(x) * unit * own.strength), solver="newton-cg", tol=1e-10, max_iter=10_000
        ).fit(x, truth)
        np.testing.assert_allclose(own.weight, other.coef_.T, atol=1e-6)
        np.testing.assert_allclose(own.logprobs(x), other.predict_log_proba(x), atol=1e-5)
        np.testing.assert_array_equal(own.scores(x).argmax(1), other.predict(x))


def test_two_classes_have_twice_the_c_of_scikit_learn():
    *rows, n_classes = rows_of(6, n_classes=2)
    own = Logistic(EXACT).fit(*rows, n_classes)[0]
    x, labels, unit = both_of(*rows)
    other = LogisticRegression(
        C=2 / (len(x) * unit * own.strength), solver="newton-cg", tol=1e-10, max_iter=10_000
    ).fit(x, labels[0])
    np.testing.assert_allclose(own.logprobs(x), other.predict_log_proba(x), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(4, 12),
    m=st.integers(1, 6),
    n_features=st.integers(1, 30),
    n_classes=st.integers(2, 4),
    strength=st.floats(1e-4, 1e2),
    seed=st.integers(0, 99),
)
def test_the_primal_form_equals_the_dual_one(n, m, n_features, n_classes, strength, seed):
    generator = np.random.default_rng(seed)
    x, x_val = (exact(generator.normal(2, 1, (k, n_features)) + 1) for k in (n, m))
    y, y_val = (targets_of(generator.integers(0, n_classes, (2, k)), n_classes) for k in (n, m))
    primal, dual = (form(x, x_val, y, y_val) for form in (Primal, Dual))
    np.testing.assert_allclose(primal.val_scores(strength), dual.val_scores(strength), atol=1e-6)
    for mine, other in zip(
        primal.refitted(np.array([1]), strength),
        dual.refitted(np.array([1]), strength),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, atol=1e-6)


@SHAPES
@pytest.mark.parametrize("decoder", [Ridge(), Logistic(EXACT)], ids=["ridge", "logistic"])
def test_sets_of_labels_together_equal_one_by_one(n_features, decoder):
    x, labels, x_val, val_labels, n_classes = rows_of(n_features)
    together = decoder.fit(x, labels, x_val, val_labels, n_classes)
    for k, own in enumerate(together):
        (alone,) = decoder.fit(x, labels[k : k + 1], x_val, val_labels[k : k + 1], n_classes)
        assert own.strength == alone.strength
        np.testing.assert_allclose(own.scores(x), alone.scores(x), atol=1e-8)


def test_many_sets_are_fitted_in_portions(monkeypatch):
    *rows, n_classes = rows_of(8)
    whole = Logistic(EXACT).fit(*rows, n_classes)
    monkeypatch.setattr("gpt2v.probing.decoders.logistic._AT_ONCE", 1)
    portions = Logistic(EXACT).fit(*rows, n_classes)
    for own, other in zip(whole, portions, strict=True):
        np.testing.assert_allclose(own.weight, other.weight, atol=1e-8)


@pytest.mark.parametrize("decoder", [Ridge, Logistic])
def test_the_strength_is_the_best_on_val(decoder):
    """Compared with fits that have only one strength, whose training rows are the same."""
    x, labels, x_val, val_labels, n_classes = rows_of(60)
    options = RidgeOptions if decoder is Ridge else LogisticOptions
    chosen = options(n_strengths=5, strongest=10.0, weakest=1e-3)
    (own, _) = decoder(chosen).fit(x, labels, x_val, val_labels, n_classes)
    rates = {}
    for strength in strengths_of(chosen):
        unit = len(x) * x.astype(float).var(0).mean() * strength
        if decoder is Ridge:
            other = SklearnRidge(alpha=unit).fit(x.astype(float), np.eye(n_classes)[labels[0]])
            predicted = other.predict(x_val.astype(float)).argmax(1)
        else:
            other = LogisticRegression(C=1 / unit, max_iter=10_000, tol=1e-8)
            predicted = other.fit(x.astype(float), labels[0]).predict(x_val.astype(float))
        rates[strength] = (predicted == val_labels[0]).mean()
    assert len(set(rates.values())) > 1
    assert own.strength == max(rates, key=lambda s: (rates[s], s))


def test_of_equal_strengths_the_strongest_is_taken():
    best = Best(np.array([[0, 1], [1, 1]]))
    assert best.offer(10.0, np.array([[0, 0], [0, 0]])).tolist() == [0, 1]
    assert best.offer(1.0, np.array([[0, 0], [1, 0]])).tolist() == [1]
    assert best.strength.tolist() == [10.0, 1.0]


@SHAPES
def test_one_factorisation_serves_all_strengths_and_labels(n_features, monkeypatch):
    """Only the strengths that are chosen are solved once more, with the rows of val."""
    calls = Counter()

    def counted(owner, name):
        function = getattr(owner, name)

        def count(*args):
            calls[name] += 1
            return function(*args)

        monkeypatch.setattr(owner, name, count)

    counted(torch.linalg, "eigh")
    counted(ridge, "solved")
    *rows, n_classes = rows_of(n_features)
    fitted = Ridge(RidgeOptions(n_strengths=6)).fit(*rows, n_classes)
    assert calls == {"eigh": 1, "solved": len({own.strength for own in fitted})}


def test_a_slope_that_is_not_reached_is_one_line(monkeypatch):
    from gpt2v.errors import UserError

    monkeypatch.setattr(softmax, "_MOST_STEPS", 2)
    *rows, n_classes = rows_of(8)
    with pytest.raises(UserError, match=r"logistic: strength 10: its slope is above .*tolerance"):
        Logistic(LogisticOptions(tolerance=1e-12)).fit(*rows, n_classes)


@pytest.mark.parametrize("decoder", [Ridge(), Logistic()], ids=["ridge", "logistic"])
def test_constant_features_are_fine(decoder):
    x, labels, x_val, val_labels, n_classes = rows_of(8)
    x[:, :3], x_val[:, :3] = 1.0, 1.0
    (own, _) = decoder.fit(x, labels, x_val, val_labels, n_classes)
    assert np.isfinite(own.scores(x)).all()
    (blind, _) = decoder.fit(np.ones_like(x), labels, np.ones_like(x_val), val_labels, n_classes)
    np.testing.assert_allclose(np.ptp(blind.scores(x), axis=0), 0, atol=1e-6)
