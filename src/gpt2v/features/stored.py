"""Cached features of pictures, or of their windows, put together as the vision tower gives them.

Where a tower sees windows and the cells of pictures are windows, each different tile is cached
once, in place of each different picture.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2v.config.models import FeaturesConfig
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.render.windows import as_windows
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.features.store import FeatureStore, Listing, open_features
from gpt2v.hardware.device import to_device
from gpt2v.hardware.precision import Precision
from gpt2v.model.families import window_of
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.model.windows import join_windows


class StoredPatches(ProjectedPatches):
    """The projected features of caches; the tower runs only on pictures that are not in them.

    Args:
        whole: features of whole pictures.
        windows: features of windows.
    """

    def __init__(
        self,
        model: GPT2vModel,
        whole: FeatureStore | None,
        windows: FeatureStore | None = None,
    ) -> None:
        super().__init__(model)
        self.whole, self.windows = whole, windows
        self._window = window_of(model.config.vision_config)

    def features(self, pictures: Pictures) -> Tensor:
        """Features of the pictures: (P, N, D), or (P, N + 1, D) with the class token."""
        store, rows, is_cached = self._find(pictures)
        if store is None:
            return super().features(pictures)
        device = self.model.device
        stored = to_device(store.features[rows[is_cached]], device).flatten(0, 1)
        if rows.shape[1] > 1:
            stored = join_windows(stored, math.isqrt(rows.shape[1]))
        if is_cached.all():
            return stored
        with torch.no_grad():
            pixels = self.model.normalise(pictures.pixels[~is_cached])
            seen = self.model.vision_features(pixels).float()
        order = np.argsort(np.argsort(~is_cached, kind="stable"), kind="stable")
        return torch.cat([stored, seen])[to_device(order, device)]

    def prepare(self, pictures: Pictures) -> None:
        """Draw the pixels that `features` will need; may run in another thread."""
        if self.n_seen(pictures):
            _ = pictures.pixels

    def n_seen(self, pictures: Pictures) -> int:
        """Number of pictures that the vision tower runs on."""
        return int((~self._find(pictures)[2]).sum())

    def _find(self, pictures: Pictures) -> tuple[FeatureStore | None, Ints, NDArray[np.bool_]]:
        """The cache for these pictures, the rows of their n * n parts in it (P, n * n), and
        whether it has all parts of a picture (P,)."""
        windows = as_windows(pictures, self._window)
        store, parts = (self.whole, pictures) if windows is None else (self.windows, windows)
        shape = len(pictures), (pictures.image_size // parts.image_size) ** 2
        if store is None:
            return None, np.zeros(shape, np.int64), np.zeros(len(pictures), bool)
        rows, is_cached = store.find(parts.keys)
        return store, rows.reshape(shape), np.asarray(is_cached.reshape(shape).all(1))


def open_stored(
    model: GPT2vModel,
    bank: TileBank,
    listing: Listing,
    config: FeaturesConfig,
    precision: Precision = "fp32",
    make: bool = True,
) -> StoredPatches | None:
    """Open, or make, the caches for pictures: one for those made of windows, one for the others.

    Args:
        listing, config, precision, make: see `open_features`.

    Raises:
        CacheUnavailable: see `open_features`.
    """
    window = window_of(model.config.vision_config)

    def others() -> Iterator[Pictures]:
        return (pictures for pictures in listing() if as_windows(pictures, window) is None)

    def windows() -> Iterator[Pictures]:
        cut = (as_windows(pictures, window) for pictures in listing())
        return (pictures for pictures in cut if pictures is not None)

    def opened(part: Listing) -> FeatureStore | None:
        return open_features(model, bank, part, config, precision, make)

    stores = opened(others), opened(windows) if window else None
    return StoredPatches(model, *stores) if any(stores) else None
