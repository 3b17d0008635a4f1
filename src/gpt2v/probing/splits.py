"""The grids of a probe by split: their labels, and the hidden states of their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gpt2v.config.probing import ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.cells import Grids
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.probing.cells import States
from gpt2v.stats.shared import Bools

_OfSplit = Mapping[Site, States]
_KEYS = {"train": "n_train", "val": "n_val", "test": "n_test"}


@dataclass(frozen=True)
class Split:
    """Some grids, and the states of their pictures at each site, (n_grids, n_patches, width)."""

    grids: Grids
    states: Mapping[Site, States]

    def __len__(self) -> int:
        return len(self.grids.index)

    @cached_property
    def labels(self) -> Ints:
        """The class in each cell, (n_grids, n_cells)."""
        return self.grids.classes.reshape(len(self), -1)

    @cached_property
    def tiles(self) -> Ints:
        """The tile in each cell, (n_grids, n_cells)."""
        return self.grids.tiles.reshape(len(self), -1)

    def allowed(self, n_classes: int) -> Bools:
        """Which classes each grid's palette has, (n_grids, n_classes)."""
        found = np.zeros((len(self), n_classes + 1), bool)
        np.put_along_axis(found, np.where(self.grids.palette < 0, n_classes, self.grids.palette),
                          True, axis=1)  # fmt: skip
        return found[:, :n_classes]

    def part(self, rows: slice) -> "Split":
        """Some of the grids."""
        grids = {k: getattr(self.grids, k)[rows] for k in self.grids.__dataclass_fields__}
        return Split(Grids(**grids), {site: x[rows] for site, x in self.states.items()})


def counts_of(labels: Ints, n_classes: int) -> Ints:
    """How many cells of each grid, (n_grids, n_cells), show each class, (n_grids, n_classes)."""
    counts: Ints = (labels[:, :, None] == np.arange(n_classes)).sum(1)
    return counts


def splits_of(
    sets: Mapping[str, GridDataset],
    config: ProbeConfig,
    states: Mapping[str, _OfSplit] | None = None,
) -> dict[str, Split]:
    """`train`, `val`, `test`, and `new`: training tiles in grids after the first `n_train`.

    Args:
        sets: data sets of the first three.
        states: of each of them; None: none yet.
    """
    found = {
        name: Split(data.grids(np.arange(len(data))), (states or {}).get(name, {}))
        for name, data in sets.items()
    }
    every, n_train = found["train"], config.n_train or 0
    return {**found, "train": every.part(slice(n_train)), "new": every.part(slice(n_train, None))}


def check_classes(splits: Mapping[str, Split], names: Sequence[str], n_cols: int) -> None:
    """Check that every class can be learnt in every cell, and is tested.

    Args:
        names: of the classes.
        n_cols: number of columns of the grids, for messages.

    Raises:
        UserError: a class is absent.
    """
    for name, split in splits.items():
        counts = np.stack([(split.labels == k).sum(0) for k in range(len(names))])
        least = counts if name == "train" else counts.sum(1, keepdims=True)
        if (least == 0).any():
            k, cell = np.argwhere(least == 0)[0]
            where = f" in row {cell // n_cols}, column {cell % n_cols}"
            raise UserError(
                f"{_KEYS.get(name, 'n_test')}: {len(split):,} pictures of {name} show no "
                f"{names[k]}{where if name == 'train' else ''}; use more pictures"
            )
