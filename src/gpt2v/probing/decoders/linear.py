"""Linear decoders: what a fitted one is, and the grid of penalties that is searched."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import log_softmax

from gpt2v.config.decoders import RidgeOptions
from gpt2v.probing.decoders.base import Features, Floats, Labels, Tensors


@dataclass(frozen=True)
class LinearFitted:
    """Scores that are affine in the features.

    Attributes:
        mean: (n_features,) where features are centred.
        weight: (n_features, n_classes).
        bias: (n_classes,) scores at the mean.
        strength: penalty relative to the mean variance of the features.
    """

    mean: Floats
    weight: Floats
    bias: Floats
    strength: float

    def scores(self, x: Features) -> Floats:
        """(n_rows, n_features) -> (n_rows, n_classes)."""
        scores: Floats = x.astype(np.float64) @ self.weight + (self.bias - self.mean @ self.weight)
        return scores

    def tensors(self) -> Tensors:
        """What is saved."""
        return {
            "mean": self.mean,
            "weight": self.weight,
            "bias": self.bias,
            "strength": np.array(self.strength),
        }

    @classmethod
    def opened(cls, tensors: Tensors) -> Self:
        """From its `tensors()`."""
        mean, weight, bias = (tensors[n].astype(float) for n in ("mean", "weight", "bias"))
        return cls(mean, weight, bias, float(tensors["strength"].astype(float)))


class LogisticFitted(LinearFitted):
    """Scores that are logits."""

    def logprobs(self, x: Features) -> Floats:
        """(n_rows, n_features) -> log-probabilities (n_rows, n_classes), in nats."""
        logprobs: Floats = log_softmax(self.scores(x), axis=1)
        return logprobs


def strengths_of(options: RidgeOptions) -> list[float]:
    """The penalties to try, from the strongest to the weakest, in equal ratios."""
    grid = np.geomspace(options.strongest, options.weakest, options.n_strengths)
    return [float(strength) for strength in grid]


class Best:
    """The strength with the best value on `val` so far, for each set of labels.

    Values are accuracies, if nothing else is offered. Of equal ones it is the
    first that was offered, so the strongest.

    Args:
        val_labels: (n_sets, n_val_rows).
    """

    def __init__(self, val_labels: Labels) -> None:
        self.labels = val_labels
        self.value = np.full(len(val_labels), -np.inf)
        self.strength = np.full(len(val_labels), np.nan)

    def offer(self, strength: float, predicted: Labels) -> Labels:
        """Compare a strength's predictions (n_sets, n_val_rows); the sets that it is better for."""
        return self.offer_value(strength, (predicted == self.labels).mean(1))

    def offer_value(self, strength: float, value: Floats) -> Labels:
        """Compare a strength's values (n_sets,); the sets that it is better for."""
        better = np.flatnonzero(value > self.value)
        self.value[better], self.strength[better] = value[better], strength
        return better
