"""Ridge classifiers in closed form: one factorisation serves every strength of regularisation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_STRENGTHS = 10.0 ** np.arange(-6, 3)  # penalties, relative to the mean variance of the features
_FIT_SHARE = 0.8  # of the training rows; the other rows choose the strength


@dataclass(frozen=True)
class RidgeClassifier:
    """One-against-all least squares on centred features."""

    mean: Floats  # (n_features,)
    weight: Floats  # (n_features, n_classes)
    bias: Floats  # (n_classes,)
    strength: float

    def scores(self, x: Floats) -> Floats:
        """(n_rows, n_features) -> (n_rows, n_classes)."""
        return (x - self.mean) @ self.weight + self.bias


class RidgeProblem:
    """Features, factorised once; fitting labels then takes only a few matrix products.

    Args:
        x: (n_rows, n_features). The first 80% of the rows are fitted; the rest choose the strength.
    """

    def __init__(self, x: Floats) -> None:
        self.n_fit = int(len(x) * _FIT_SHARE)
        self.mean = x[: self.n_fit].mean(0)
        self.centred = x[: self.n_fit] - self.mean
        values, self.vectors = np.linalg.eigh(self.centred.T @ self.centred / self.n_fit)
        self.values = np.maximum(values, 0)
        self.held_out = (x[self.n_fit :] - self.mean) @ self.vectors

    def fit(self, labels: NDArray[np.int64], n_classes: int) -> RidgeClassifier:
        """The classifier with the strength that is best on the held-out rows; labels: (n_rows,)."""
        target = np.eye(n_classes)[labels[: self.n_fit]]
        bias = target.mean(0)
        moment = self.vectors.T @ (self.centred.T @ (target - bias) / self.n_fit)
        unit = self.values.mean() + 1e-12
        best, best_rate = None, -1.0
        for strength in _STRENGTHS:
            coefficients = moment / (self.values + strength * unit)[:, None]
            predicted = (self.held_out @ coefficients + bias).argmax(1)
            rate = float((predicted == labels[self.n_fit :]).mean())
            if rate > best_rate:
                best_rate = rate
                weight = self.vectors @ coefficients
                best = RidgeClassifier(self.mean, weight, bias, float(strength))
        assert best is not None
        return best
