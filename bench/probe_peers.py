"""Decoders of gpt2v and of others on the same rows, for the benches of probes.

All have the same protocol: strengths on a grid, from the strongest to the weakest; the one with the
best accuracy on validation rows is fitted again on training and validation rows together; the
accuracy is that on test rows.

- `ridge, himalaya`: `RidgeCV` with these two sets as its only split, and accuracy as its score.
  With `svd` it does what is usual there: one decomposition for all strengths, one for the last fit.
- `logistic, scikit-learn`: `LogisticRegression` (L-BFGS) with `warm_start`, so that each fit starts
  from the one before. Its tolerance is its own (1e-4, of the largest slope), or another.

`slope` is the largest of the last fit's objective, divided by the root of the mean variance of the
features: how far a solution is from the minimum.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit

from gpt2v.runs import versions

try:
    import himalaya
    from himalaya.ridge import RidgeCV
except ImportError:
    himalaya = None


@dataclass(frozen=True)
class Split:
    """Features and labels of training, validation and test rows."""

    x: np.ndarray
    labels: np.ndarray
    x_val: np.ndarray
    val_labels: np.ndarray
    x_test: np.ndarray
    test_labels: np.ndarray

    @property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows together."""
        both = np.concatenate([self.x, self.x_val]), np.concatenate([self.labels, self.val_labels])
        return both

    def cast(self, dtype: str) -> "Split":
        """With features of another type."""
        x, x_val, x_test = (part.astype(dtype) for part in (self.x, self.x_val, self.x_test))
        return Split(x, self.labels, x_val, self.val_labels, x_test, self.test_labels)


@dataclass(frozen=True)
class Done:
    """A path of one method on one cell."""

    accuracy: float
    strength: float
    weight: np.ndarray  # (n_features, n_classes)
    bias: np.ndarray


def ours(decoder: Any, data: Split) -> Done:
    """A decoder of gpt2v."""
    (own,) = decoder.fit(
        data.x, data.labels[None], data.x_val, data.val_labels[None], data.n_classes
    )
    predicted = own.scores(data.x_test).argmax(1)
    accuracy = float((predicted == data.test_labels).mean())
    return Done(accuracy, own.strength, own.weight, own.bias - own.mean @ own.weight)


def himalayas(strengths: list[float], data: Split) -> Done:
    """`RidgeCV` of himalaya."""
    x, labels = data.both()
    targets = (2 * np.eye(data.n_classes)[labels] - 1).astype(x.dtype)

    def accuracy(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        right = (predicted.argmax(-1) == truth.argmax(-1)).mean(-1)
        return np.repeat(right[..., None], truth.shape[-1], -1)

    fold = np.where(np.arange(len(x)) < len(data.x), -1, 0)
    unit = len(data.x) * float(data.x.var(0).mean())
    model = RidgeCV(
        alphas=[strength * unit for strength in strengths],
        fit_intercept=True,
        cv=PredefinedSplit(fold),
        solver_params={"score_func": accuracy, "local_alpha": False},
    ).fit(x, targets)
    predicted = model.predict(data.x_test).argmax(1)
    found = float((predicted == data.test_labels).mean())
    return Done(found, float(model.best_alphas_[0]) / unit, model.coef_, model.intercept_)


def scikit_learns(strengths: list[float], tolerance: float, data: Split) -> Done:
    """`LogisticRegression` of scikit-learn, along the path."""
    best, chosen = -1.0, strengths[0]
    model = LogisticRegression(warm_start=True, tol=tolerance, max_iter=100_000)
    unit = len(data.x) * float(data.x.var(0).mean())
    weights: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    for strength in strengths:
        model.set_params(C=1 / (unit * strength)).fit(data.x, data.labels)
        rate = float((model.predict(data.x_val) == data.val_labels).mean())
        weights[strength] = model.coef_.copy(), model.intercept_.copy()
        if rate > best:
            best, chosen = rate, strength
    x, labels = data.both()
    model.coef_, model.intercept_ = weights[chosen]
    model.set_params(C=1 / (len(x) * float(x.var(0).mean()) * chosen)).fit(x, labels)
    rate = float((model.predict(data.x_test) == data.test_labels).mean())
    return Done(rate, chosen, model.coef_.T, model.intercept_)


def slope_of(done: Done, data: Split) -> float:
    """How far the last logistic fit is from the minimum; see above."""
    x, labels = data.cast("float64").both()
    unit = x.var(0).mean()
    error = softmax(x @ done.weight + done.bias, 1) - np.eye(data.n_classes)[labels]
    slope = (x - x.mean(0)).T @ error / len(x) + unit * done.strength * done.weight
    return float(np.abs(slope).max() / unit**0.5)


def measured(
    methods: dict[str, Callable[[Split], Done]], cells: list[Split], repetitions: int
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[Done]]]:
    """Wall and processor seconds of each repetition over all cells; what was found, by method."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    found: dict[str, list[Done]] = {}
    for _ in range(repetitions):
        for name, method in methods.items():
            started = time.perf_counter(), time.process_time()
            found[name] = [method(cell) for cell in cells]
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            seconds[name].append((wall, cpu))
            print(f"{name}: {wall:.2f} s, {cpu:.2f} s of processors", file=sys.stderr, flush=True)
    return seconds, found


def versions_of_all() -> dict[str, str]:
    """Versions of gpt2v, of what it stands on, and of the peers that are installed."""
    peers = {"scikit-learn": sklearn.__version__}
    if himalaya is not None:
        peers["himalaya"] = himalaya.__version__
    return {**versions(), **peers}
