"""What questions share, and the variance of their mean.

Two questions are independent only if they share neither a picture nor a tile: an object that is
hard to see is hard to see in every picture. So variances have two ways (Cameron, Gelbach & Miller
2011, https://doi.org/10.1198/jbes.2010.07136). They are over new grids of new tiles.

Shapes: J questions in a flat list, W tiles that a question reads.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_DENSE = 8  # values below so many times their number are counted, which is faster than sorting


@dataclass(frozen=True)
class Shared:
    """What J questions share.

    Attributes:
        picture: (J,) picture of each question; equal numbers are one picture, in any part.
        tiles: (J, W) tiles that each question reads, padded with -1; None: the tiles do not matter,
            as where grids are read as text.
        part: (J,) part of a suite that each question is in; None: one part.
    """

    picture: Ints
    tiles: Ints | None = None
    part: Ints | None = None

    def __post_init__(self) -> None:
        if len(self.picture) == 0:
            raise ValueError("an interval needs at least one question")

    @property
    def n(self) -> int:
        """J."""
        return len(self.picture)

    def of(self, these: Bools) -> "Shared":
        """What some of the questions (J,) share."""
        tiles = None if self.tiles is None else self.tiles[these]
        part = None if self.part is None else self.part[these]
        return Shared(self.picture[these], tiles, part)

    @cached_property
    def _pictures(self) -> Ints:
        return _numbered(self.picture)

    @cached_property
    def _reads(self) -> tuple[Ints, Ints]:
        """Each pair of a question and a tile that it reads: their numbers, (n_pairs,) each."""
        if self.tiles is None:
            none = np.zeros(0, np.int64)
            return none, none
        question, slot = np.nonzero(self.tiles >= 0)
        return np.asarray(question, np.int64), _numbered(self.tiles[question, slot])

    @cached_property
    def _pairs(self) -> Ints:
        """The number of the picture and tile of each of the pairs, (n_pairs,)."""
        question, tile = self._reads
        return _numbered(self._pictures[question] * (tile.max(initial=0) + 1) + tile)

    @property
    def n_pictures(self) -> int:
        """Number of pictures."""
        return int(self._pictures.max()) + 1

    @property
    def n_reads(self) -> int:
        """Number of pairs of a question and a tile that it reads."""
        return len(self._reads[0])

    @cached_property
    def n_groups(self) -> int:
        """Number of pictures or of tiles, whichever is smaller."""
        tile = self._reads[1]
        return min(self.n_pictures, int(tile.max()) + 1) if len(tile) else self.n_pictures

    def n_with(self, these: Bools) -> int:
        """Number of pictures or of tiles that have one of some questions (J,), the smaller."""
        question, tile = self._reads
        n_pictures = int(np.count_nonzero(np.bincount(self._pictures[these])))
        if self.tiles is None:
            return n_pictures
        return min(n_pictures, int(np.count_nonzero(np.bincount(tile[these[question]]))))

    def variance(self, value: Floats) -> float:
        """Variance of the mean of values (J,), each with the mean of its own part.

        Neither of the two ways makes it smaller.
        """
        error = value - self._means(value)
        question, tile = self._reads
        alone, within = float(np.square(error).sum()), _squares(self._pictures, error)
        # of questions in different pictures; those with several tiles in common count as often
        between = _squares(tile, error[question]) - _squares(self._pairs, error[question])
        total = max(within + between, within, alone + between)
        few = self.n_groups
        return total / self.n**2 * (few / (few - 1) if few > 1 else np.inf if total else 0)

    def covariances(self, value: Floats) -> tuple[float, float, float]:
        """Variance of a value, and covariances of the values of two questions.

        Args:
            value: (J,) of the questions; of each, the mean of its part is taken away.

        Returns:
            The variance; the covariance within a picture; and that of questions about two pictures
            that read one tile. The last two are 0 if no such questions are there, or if they would
            be below 0.
        """
        error = value - self._means(value)
        question, tile = self._reads
        alone = float(np.square(error).sum())

        def mean(total: float, n: float) -> float:
            return max(total / n, 0.0) if n else 0.0

        def pairs(group: Ints) -> float:
            return float(np.square(np.bincount(group).astype(np.float64)).sum())

        n_within, n_between = pairs(self._pictures) - self.n, pairs(tile) - pairs(self._pairs)
        between = _squares(tile, error[question]) - _squares(self._pairs, error[question])
        within = _squares(self._pictures, error) - alone
        return alone / self.n, mean(within, n_within), mean(between, n_between)

    def _means(self, value: Floats) -> Floats:
        """Of each question, the mean value of its part, (J,)."""
        if self.part is None:
            return np.full(self.n, value.mean())
        part = _numbered(self.part)
        means: Floats = (np.bincount(part, value) / np.bincount(part))[part]
        return means

    def trials(self, variance: float, independent: float, n_rare: int) -> float:
        """Number of independent questions that would tell as much.

        Args:
            variance: of the mean, as the questions are.
            independent: of the mean, if they were independent.
            n_rare: pictures or tiles that have an outcome of the rarer kind, the smaller. The fewer
                they are, the less the variance can be known, and the nearer is the result to
                `n_groups`.
        """
        worst = self.n / self.n_groups
        ratio = variance / independent if independent else 1.0
        ratio = min(max(ratio, 1.0), 3 * worst)
        return self.n * (n_rare + 1) / (n_rare * ratio + worst)


def _numbered(values: Ints) -> Ints:
    """Values (n,) as numbers from 0, without gaps."""
    if len(values) and values.min() >= 0 and values.max() < _DENSE * len(values):
        small = values.astype(np.int64)
        return np.asarray(np.cumsum(np.bincount(small) > 0)[small] - 1, np.int64)
    return np.asarray(np.unique(values, return_inverse=True)[1], np.int64)


def _squares(group: Ints, error: Floats) -> float:
    """The sum over groups of the square of the sum of a group's errors; both arrays are (n,)."""
    return float(np.square(np.bincount(group, error)).sum())
