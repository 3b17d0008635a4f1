"""`gpt2v eval plan`: how many grids and tiles it takes to find a difference between two models.

The mean difference of N questions, q about each grid, that read tiles among T has the variance

    (s + (q - 1) p) / N + t w^2 / T

if w tiles decide an answer, where s is the variance of a question's difference, p its covariance
with another question about the same grid, and t with one about another grid that reads the same
tile. So more grids alone do not help for ever: the last term remains.
"""

from dataclasses import dataclass
from math import ceil, inf
from statistics import NormalDist

import numpy as np

from gpt2v.eval.paired import Pair, n_images
from gpt2v.stats.intervals import Z

TILES_PER_CLASS = (50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class Spread:
    """How the difference of two models varies from question to question.

    Attributes:
        question: variance s of the difference of one question (-1, 0 or 1).
        picture: covariance p of two questions about one grid.
        tile: covariance t of two questions about two grids that read one tile.
        per_grid: number q of questions about a grid.
        per_question: number w of tiles that decide an answer.
    """

    question: float
    picture: float
    tile: float
    per_grid: float = 9.0
    per_question: float = 1.0

    @classmethod
    def supposed(
        cls, discordant: float, in_picture: float, in_tile: float, per_grid: float
    ) -> "Spread":
        """That of models that disagree about a share of the questions, as often one way.

        Args:
            discordant: share of the questions that only one of the two answers right.
            in_picture, in_tile: correlations of two questions that share a grid, or only a tile.
        """
        return cls(discordant, discordant * in_picture, discordant * in_tile, per_grid)

    @classmethod
    def measured(cls, pair: Pair) -> "Spread":
        """That of two evaluations."""
        shared = pair.shared
        own, picture, tile = shared.covariances(pair.other.astype(np.float64) - pair.first)
        per_grid = shared.n / n_images(pair.asked)
        return cls(own, picture, tile, per_grid, shared.n_reads / shared.n)

    def grids(self, error: float, tiles: int) -> float:
        """Number of grids with which the standard error is as small; infinite: none is enough.

        Args:
            error: a standard error.
            tiles: number of tiles, of all classes.
        """
        left = error**2 - self.tile * self.per_question**2 / tiles
        if left <= 0:
            return inf
        return ceil((self.question + (self.per_grid - 1) * self.picture) / self.per_grid / left)


def needed_error(difference: float, power: float) -> float:
    """The standard error with which a true difference is significant (5%) in so many cases."""
    return difference / (Z + NormalDist().inv_cdf(power))


def plan(
    spread: Spread, difference: float, power: float, n_classes: int
) -> list[tuple[int, float]]:
    """For each number of tiles of a class, the number of grids that finds the difference."""
    error = needed_error(difference, power)
    return [(tiles, spread.grids(error, tiles * n_classes)) for tiles in TILES_PER_CLASS]
