"""Hidden states in which something is planted, in the form that measures of probes get."""

import numpy as np

from gpt2v.config.probing import MAIN, CellsConfig, ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.grids.cells import Grids
from gpt2v.probing.cells import CellMap
from gpt2v.probing.probed import Probed
from gpt2v.probing.splits import Split

NAMES = tuple("abcdef")
K = len(NAMES)
N_CELLS, N_COLS, WIDTH = 4, 2, 12  # 2 x 2 cells, each of which has two patches
SITES = (MAIN, Site("vision", 0))


def grids(n, seed, n_listed=K, n_tiles=10_000, first_tile=0):
    """Grids whose cells are drawn from palettes of `n_listed` classes."""
    rng = np.random.default_rng(seed)
    palette = rng.permuted(np.tile(np.arange(K), (n, 1)), axis=1)[:, :n_listed]
    chosen = rng.integers(n_listed, size=(n, N_CELLS))
    classes = np.take_along_axis(palette, chosen, 1)
    tiles = first_tile + K * rng.integers(n_tiles, size=classes.shape) + classes
    shape = (n, N_CELLS // N_COLS, N_COLS)
    return Grids(
        np.arange(n),
        np.zeros(n, np.int64),
        np.zeros(n, np.uint64),
        classes.reshape(shape),
        tiles.reshape(shape),
        palette,
    )


def probed(plant, n=900, n_listed=K, n_tiles=10_000, **config):
    """A probe of states that `plant` makes.

    Args:
        plant: called with the classes (n_grids, n_cells) and the tiles of grids, and a generator;
            returns states (n_grids, n_cells, WIDTH) of each cell's first patch; the second one has
            noise.
    """
    splits = {}
    sizes = {"train": n, "val": 300, "test": 500, "new": 600}
    for i, (name, size) in enumerate(sizes.items()):
        own_tiles = 0 if name in ("train", "new") else 10**7 * (i + 1)
        drawn = grids(size, i, n_listed, n_tiles, own_tiles)
        rng = np.random.default_rng(100 + i)
        labels, tiles = drawn.classes.reshape(size, -1), drawn.tiles.reshape(size, -1)
        first = plant(labels, tiles, rng)
        states = np.stack([first, rng.normal(size=first.shape)], 2).reshape(size, -1, WIDTH)
        splits[name] = Split(drawn, {site: states.astype(np.float32) for site in SITES})
    values = {"model": "x", "n_train": n, "decoders": ["ridge"], **config}
    overlap = np.kron(np.eye(N_CELLS), np.ones(2))
    cells = CellMap(overlap, 2 * np.arange(N_CELLS), CellsConfig(), N_COLS)
    settings = ProbeConfig.model_validate(values)
    return Probed(settings, NAMES, N_COLS, splits, dict.fromkeys(SITES, cells))


def one_hot(classes):
    """(n_grids, n_cells) -> (G, C, WIDTH)."""
    return np.eye(WIDTH)[classes]


def noise(labels, tiles, rng):
    """States that tell nothing."""
    return rng.normal(size=(*labels.shape, WIDTH))


def seen(labels, tiles, rng):
    """Each cell's class is in its own patch."""
    return one_hot(labels) + 0.1 * noise(labels, tiles, rng)
