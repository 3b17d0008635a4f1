"""Erasing classes from features, moving rows to other classes, and changes of the same size.

Erasure is least-squares concept erasure (LEACE: Belrose et al. 2023,
https://arxiv.org/abs/2306.03819): of all affine maps after which no linear decoder beats chance,
the one that changes features least. All that it changes lies in the span of the differences of
class means, and so does what a move adds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.rng import Ints

Floats = NDArray[np.float64]
Features = NDArray[np.float32] | Floats

_SMALLEST = 1e-6  # singular values, relative to the largest, that still tell of the classes


@dataclass(frozen=True)
class Eraser:
    """Erases the class from features.

    Attributes:
        mean: (n_features,) mean of the features that it was fitted on.
        left: (n_features, rank) directions that features change along.
        right: (rank, n_features) how far.
    """

    mean: Floats
    left: Floats
    right: Floats

    @classmethod
    def fit(cls, x: Features, labels: Ints, n_classes: int) -> "Eraser":
        """The eraser of these rows.

        From them, it erases exactly. From others, the better the more rows there are for each
        feature: with fewer rows than features, it erases what only these rows have.

        Args:
            x: (n_rows, n_features).
            labels: (n_rows,) classes, numbers below `n_classes`.
        """
        centred = x.astype(np.float64)
        mean = centred.mean(0)
        centred -= mean
        deviations, directions = _principal(centred)
        shown = np.eye(n_classes)[labels]
        covariance = directions.T @ (centred.T @ (shown - shown.mean(0))) / len(x)
        white = covariance / deviations[:, None]  # (n_directions, n_classes)
        vectors, values, _ = np.linalg.svd(white, full_matrices=False)
        own = vectors[:, values > _SMALLEST * values.max(initial=1e-300)]
        left = directions @ (deviations[:, None] * own)
        right = (directions @ (own / deviations[:, None])).T
        return cls(mean, left, right)

    @property
    def rank(self) -> int:
        """Number of dimensions that it erases: at most the number of classes less one."""
        return len(self.right)

    @cached_property
    def basis(self) -> Floats:
        """Orthonormal directions (n_features, rank) that span all of its changes."""
        return np.asarray(np.linalg.qr(self.left)[0])

    def __call__(self, x: Features) -> Floats:
        """(n_rows, n_features) without the class."""
        erased: Floats = x - ((x - self.mean) @ self.right.T) @ self.left.T
        return erased


def _principal(centred: Floats) -> tuple[Floats, Floats]:
    """Standard deviations (n_directions,) of centred rows, and their directions.

    The directions are (n_features, n_directions); those without variance are left out. The smaller
    of the two products of the rows with themselves is factorised.
    """
    n_rows, n_features = centred.shape
    is_wide = n_features > n_rows
    product = centred @ centred.T if is_wide else centred.T @ centred
    values, vectors = np.linalg.eigh(product / n_rows)
    kept = values > values[-1] * max(centred.shape) * np.finfo(np.float64).eps
    deviations, vectors = np.sqrt(values[kept]), vectors[:, kept]
    if is_wide:
        vectors = centred.T @ (vectors / (deviations * np.sqrt(n_rows)))
    return deviations, vectors


@dataclass(frozen=True)
class Mover:
    """Moves features to another class, by the difference of the two class means.

    How a row differs from the mean of its class stays as it is.

    Attributes:
        means: (n_classes, n_features); of a class without rows, the mean of all.
    """

    means: Floats

    @classmethod
    def fit(cls, x: Features, labels: Ints, n_classes: int) -> "Mover":
        """The mover of these rows (n_rows, n_features), with labels (n_rows,)."""
        counts = np.bincount(labels, minlength=n_classes)
        shown = np.eye(n_classes)[labels]
        means = shown.T @ x.astype(np.float64) / np.maximum(counts, 1)[:, None]
        means[counts == 0] = x.mean(0, dtype=np.float64)
        return cls(means)

    def __call__(self, x: Features, own: Ints, target: Ints) -> Floats:
        """Rows (n_rows, n_features) of classes `own` (n_rows,) as if they were of `target`."""
        moved: Floats = x + self.means[target] - self.means[own]
        return moved


def random_directions(n_features: int, rank: int, seed: int | tuple[int, ...]) -> Floats:
    """Orthonormal directions (n_features, rank), drawn uniformly."""
    drawn = np.random.default_rng(seed).standard_normal((n_features, rank))
    return np.asarray(np.linalg.qr(drawn)[0])


def turned(change: Floats, basis: Floats, directions: Floats) -> Floats:
    """Changes (n_rows, n_features) of the same sizes and angles, along other directions.

    Args:
        basis: (n_features, rank) orthonormal directions in whose span the changes lie.
        directions: (n_features, rank) orthonormal directions that take their places.
    """
    return (change @ basis) @ directions.T
