"""What every measure of a probe gets: hidden states, labels, and decoders that are fitted once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.choice import Choice
from gpt2v.config.probing import MAIN, ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import Ints
from gpt2v.probing.answered import Answered
from gpt2v.probing.answering import answers_of
from gpt2v.probing.cells import CellMap, States
from gpt2v.probing.decoders.base import Decoder, Fitted
from gpt2v.probing.reading import StatesReader
from gpt2v.probing.splits import Split
from gpt2v.progress import waited
from gpt2v.stats.intervals import Difference, rate_interval
from gpt2v.stats.shared import Bools, Shared

Row = dict[str, Any]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Outcomes:
    """Predictions of test grids, (n_grids, n_cells) each, for some of the cells.

    Attributes:
        predicted: the likeliest of all classes.
        in_palette: the likeliest class of the grid's palette.
        truth: the classes that are there.
        index: (n_grids,) sample numbers.
        tiles: the tiles that are there.
    """

    predicted: Ints
    in_palette: Ints
    truth: Ints
    index: Ints
    tiles: Ints

    @classmethod
    def of(cls, scores: list[Scores], cells: list[int], test: Split) -> "Outcomes":
        """The predictions by scores (n_grids, n_classes) of each of the cells."""
        allowed = test.allowed(scores[0].shape[1])
        return cls(
            np.stack([one.argmax(1) for one in scores], axis=1),
            np.stack([np.where(allowed, one, -np.inf).argmax(1) for one in scores], axis=1),
            test.labels[:, cells],
            test.grids.index,
            test.tiles[:, cells],
        )

    @property
    def right(self) -> Bools:
        """Whether each prediction is right, flat."""
        return np.asarray((self.predicted == self.truth).reshape(-1))

    @property
    def palette_right(self) -> Bools:
        """Whether each prediction among the palette is right, flat."""
        return np.asarray((self.in_palette == self.truth).reshape(-1))

    @property
    def shared(self) -> Shared:
        """Which of the predictions share a picture or a tile."""
        return Shared(np.repeat(self.index, self.truth.shape[1]), self.tiles.reshape(-1, 1))

    def rates(self) -> Row:
        """Both accuracies with their intervals over new grids of new tiles."""
        shared = self.shared
        return {
            "accuracy": float(self.right.mean()),
            "ci95": list(rate_interval(self.right, shared)),
            "palette_accuracy": float(self.palette_right.mean()),
            "palette_ci95": list(rate_interval(self.palette_right, shared)),
            "n_images": len(self.index),
            "n_tiles": len(np.unique(self.tiles)),
        }


def gain(one: Bools, other: Bools, shared: Shared, name: str = "difference") -> Row:
    """The rate of `one` minus that of `other`, paired, as fields of a row."""
    found = Difference.between(one, other, shared)
    return {name: found.value, f"{name}_ci95": list(found.interval()), f"{name}_p": found.p}


@dataclass(frozen=True)
class Probed:
    """Hidden states of the pictures of a GPT-2v, their labels, and decoders.

    Attributes:
        config: of the probe.
        names: of the classes.
        n_cols: number of columns of the grids.
        splits: `train`; `val`, which has tiles that the tower never trained on; `test`; and `new`,
            training tiles in new grids.
        maps: the patches of each cell, at each site.
        model_reader: what reads the model; None: these states are of no model.
        data: the data sets of `train`, `val` and `test`.
        kept: decoders of each site and cell that are fitted already.
        scored: their scores of the test grids, (n_grids, n_classes) each.
    """

    config: ProbeConfig
    names: tuple[str, ...]
    n_cols: int
    splits: Mapping[str, Split]
    maps: Mapping[Site, CellMap]
    model_reader: StatesReader | None = None
    data: Mapping[str, GridDataset] = field(default_factory=dict)
    kept: dict[tuple[Choice, Site, int], Fitted] = field(default_factory=dict)
    scored: dict[tuple[Choice, Site, int], Scores] = field(default_factory=dict)

    @property
    def reader(self) -> StatesReader:
        """What reads the model."""
        assert self.model_reader is not None
        return self.model_reader

    @cached_property
    def answered(self) -> Answered:
        """The model's own answers about the test grids, from text and from pictures."""
        listed = self.splits["test"].allowed(self.n_classes)
        return answers_of(self.reader, self.data["test"], listed)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def n_cells(self) -> int:
        """Number of cells of a grid."""
        return int(self.splits["train"].labels.shape[1])

    @property
    def sites(self) -> list[Site]:
        """All sites, the projector's input first."""
        return [MAIN, *(site for site in self.maps if site != MAIN)]

    @property
    def measured_cells(self) -> list[int]:
        """The cells that measures read, from the first to the last."""
        n = min(self.config.measured_cells, self.n_cells)
        return sorted(set(np.linspace(0, self.n_cells - 1, n).round().astype(int).tolist()))

    @property
    def measured_sites(self) -> list[Site]:
        """The sites that measures read, those of the configuration."""
        return [site for site in self.maps if str(site) in self.config.measured_sites]

    def at(self, cell: int) -> list[int]:
        """Row and column of a cell."""
        return [*divmod(cell, self.n_cols)]

    def x(self, split: str, site: Site, cell: int) -> States:
        """The features of a cell, (n_grids, n_features)."""
        return self.maps[site].x(self.splits[split].states[site], cell)

    def labels(self, split: str) -> Ints:
        """The class in each cell, (n_grids, n_cells)."""
        return self.splits[split].labels

    def fewest(self, cells: list[int]) -> int:
        """Number of the first training pictures that show every class in each of these cells."""
        labels = self.labels("train")[:, cells]
        return 1 + max(int((labels == k).argmax(0).max()) for k in range(self.n_classes))

    def share_of_val(self, n: int) -> int:
        """Number of pictures of `val` that go with `n` training pictures: the same share of all."""
        return max(1, n * len(self.splits["val"]) // len(self.splits["train"]))

    # ---- decoders --------------------------------------------------------------------------------

    def fitted(self, decoder: Choice, site: Site, cell: int) -> Fitted:
        """The decoder of a cell, which is fitted once."""
        key = (decoder, site, cell)
        if key not in self.kept:
            (self.kept[key],) = self.fit(decoder, site, cell)
        return self.kept[key]

    def fit(
        self, decoder: Choice, site: Site, cell: int, n: int | None = None,
        others: list[tuple[Ints, Ints]] | None = None,
    ) -> list[Fitted]:  # fmt: skip
        """A decoder of the true labels of a cell, and of other labels of the same pictures.

        Args:
            n: number of training pictures, with an equal share of those of `val`; None: all.
            others: further label sets, of train (n_grids,) and of val (n_grids,).
        """
        made: Decoder = decoder.load()()
        sets = [(self.labels("train")[:, cell], self.labels("val")[:, cell]), *(others or [])]
        train, val = (np.stack(each) for each in zip(*sets, strict=True))
        x, x_val = (self._seen(made, split, site, cell) for split in ("train", "val"))
        if n is not None:
            n_val = self.share_of_val(n)
            x, train, x_val, val = x[:n], train[:, :n], x_val[:n_val], val[:, :n_val]
        fit = partial(made.fit, x, train, x_val, val, self.n_classes)
        return waited(f"probe: {decoder} at {site}", fit)

    def scores(self, fitted: Fitted, decoder: Choice, site: Site, cell: int) -> Scores:
        """Scores of the test grids, (n_grids, n_classes)."""
        return fitted.scores(self._seen(decoder.load()(), "test", site, cell))

    def outcomes(self, decoder: Choice, site: Site, cells: list[int]) -> Outcomes:
        """Predictions of some cells of the test grids."""
        scores = [self.own_scores(decoder, site, cell) for cell in cells]
        return Outcomes.of(scores, cells, self.splits["test"])

    def own_scores(self, decoder: Choice, site: Site, cell: int) -> Scores:
        """Scores of the decoder that is fitted once, which are computed once."""
        key = (decoder, site, cell)
        if key not in self.scored:
            self.scored[key] = self.scores(self.fitted(*key), *key)
        return self.scored[key]

    def n_features(self, decoder: Choice, site: Site, cell: int) -> int:
        """How many numbers of a picture the decoder of a cell reads."""
        shape = self.splits["val"].states[site].shape[1:]
        if decoder.load()().reads == "picture":
            return int(np.prod(shape))
        return self.maps[site].n_features(shape[1], cell)

    def _seen(self, decoder: Decoder, split: str, site: Site, cell: int) -> States:
        if decoder.reads == "picture":
            return np.asarray(self.splits[split].states[site])
        return self.x(split, site, cell)

    def each(self) -> Iterator[tuple[Site, int]]:
        """Each site and each cell that measures read."""
        return ((site, cell) for site in self.measured_sites for cell in self.measured_cells)
