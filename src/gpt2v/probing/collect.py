"""Hidden states of all pictures of a data set, in files that are mapped into memory.

One pass through the model collects all sites. A stopped collection goes on with the grid where it
was stopped: the files are kept by the content that they depend on.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from gpt2v.config.base import hash_of
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.probing.cells import States
from gpt2v.progress import progress
from gpt2v.storage.files import write_json, writing
from gpt2v.storage.ownership import owned

Read = Callable[[GridDataset, Ints], Mapping[Site, States]]  # of the grids with these numbers

_KEPT_EVERY = 10  # portions
_STATE = "state.json"


@dataclass(frozen=True)
class Collection:
    """What is collected, and where.

    Attributes:
        read: the hidden states of some grids at each site, (n_grids, n_patches, width) each.
        origin: what the states depend on beside the data, such as a hash of the weights.
        folder: gets a folder for each data set.
        max_gb: the most that all data sets may take.
        is_shared: whether other processes use the folder, too: then one of them collects a data
            set, and the others wait.
    """

    read: Read
    origin: str
    folder: Path
    max_gb: float
    is_shared: bool = False

    def sizes(self, sets: Sequence[GridDataset]) -> dict[str, object]:
        """Check and say how much the states of these data sets take, before they are collected.

        Returns:
            For results.json: `n_bytes`, and the shape of a grid's states at each site.

        Raises:
            UserError: it is too much, or more than the disk has.
        """
        shapes = self._shapes(sets[0])
        n_grids = sum(map(len, sets))
        n_bytes = 4 * n_grids * sum(n * d for n, d in shapes.values())
        each = ", ".join(f"{site} {n}x{d}" for site, (n, d) in shapes.items())
        what = f"sites: {n_grids:,} grids, {n_bytes / 1e9:,.2f} GB of hidden states"
        if n_bytes > self.max_gb * 1e9:
            raise UserError(
                f"{what}, is more than features.max_gb: {self.max_gb:g}; name fewer sites, use "
                "fewer pictures, or set it"
            )
        there = self.folder
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        begun = sum(_on_disk(self._entry(data)) for data in sets)
        if n_bytes - begun > free:
            raise UserError(f"{what}, but {self.folder} has only {free / 1e9:,.2f} GB of space")
        print(f"{what} ({each})", flush=True)
        return {"n_bytes": n_bytes, "shapes": {str(site): list(at) for site, at in shapes.items()}}

    def _shapes(self, data: GridDataset) -> dict[Site, tuple[int, int]]:
        """Patches and width of the states of one grid at each site."""
        return {site: x.shape[1:] for site, x in self.read(data, np.zeros(1, np.int64)).items()}

    def states(self, data: GridDataset) -> dict[Site, States]:
        """The states of a data set: opened if they are there, else collected.

        Raises:
            UserError: a state is not finite, or a file cannot be written.
        """
        folder, shapes = self._entry(data), self._shapes(data)
        with writing(folder), owned(folder, wait=True) if self.is_shared else nullcontext():
            folder.mkdir(parents=True, exist_ok=True)
            done = _done(folder, {str(site): (len(data), *at) for site, at in shapes.items()})
            files = {
                site: open_memmap(
                    _file(folder, str(site)),
                    mode="r+" if done else "w+",
                    dtype=np.float32,
                    shape=(len(data), *shape),
                )
                for site, shape in shapes.items()
            }
            self._fill(data, files, done, folder)
        return {site: _opened(folder, str(site)) for site in shapes}

    def _entry(self, data: GridDataset) -> Path:
        """The folder of a data set."""
        return self.folder / hash_of(self.origin, data.hash, len(data))

    def _fill(
        self, data: GridDataset, files: dict[Site, np.memmap], done: int, folder: Path
    ) -> None:
        """Collect the grids from number `done` on."""
        sites = [str(site) for site in files]
        with progress(f"probe: {data.split} states", data.n_portions()) as report:
            for number, index in enumerate(data.portions(), 1):
                if index[-1] >= done:
                    for site, found in self.read(data, index).items():
                        files[site][index] = found
                    if number % _KEPT_EVERY == 0 or number == data.n_portions():
                        for file in files.values():
                            file.flush()
                        write_json(folder / _STATE, {"done": int(index[-1]) + 1, "sites": sites})
                report()


def _done(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Number of grids whose states are in a folder, of all with these shapes, by site."""
    try:
        state = json.loads((folder / _STATE).read_text("utf-8"))
        whole = (_opened(folder, site).shape == shape for site, shape in shapes.items())
        known = state["sites"] == list(shapes) and all(whole)
        return int(state["done"]) if known else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _file(folder: Path, site: str) -> Path:
    return folder / f"{site}.npy"


def _opened(folder: Path, site: str) -> States:
    """The file of a site. Raises ValueError if it is damaged."""
    states: States = np.load(_file(folder, site), mmap_mode="r", allow_pickle=False)
    return states


def _on_disk(folder: Path) -> int:
    """Bytes that a folder's files take of the disk: while they are filled, not their sizes."""
    if not folder.is_dir():
        return 0
    found = (file.stat() for file in folder.iterdir())
    return sum(512 * one.st_blocks if hasattr(one, "st_blocks") else one.st_size for one in found)
