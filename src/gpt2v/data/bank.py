"""A tile bank: every small picture of one source, split so that no picture is in two splits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import numpy as np

from gpt2v.config import TileAugmentConfig
from gpt2v.data import rng
from gpt2v.data.augment import augment
from gpt2v.data.decoding import PictureFiles, Pixels
from gpt2v.data.rng import U64, Ints

SPLITS = ("train", "val", "test")
VAL_SHARE = 0.1  # of the training pictures, where a source has no validation split of its own
_CHUNK = 4096  # tiles that are hashed at once


@dataclass(frozen=True)
class TileBank:
    """All tiles of one source."""

    name: str
    class_names: tuple[str, ...]
    pixels: Pixels | PictureFiles  # (N, S, S, 3), as they are; `take` gives them augmented
    labels: Ints  # (N,) class of each tile
    split: Ints  # (N,) index into SPLITS
    source: tuple[str, ...]  # (N,) where each tile comes from: never in two splits
    augment: TileAugmentConfig = field(default_factory=TileAugmentConfig)

    @property
    def size(self) -> int:
        """Side of a tile in pixels."""
        return int(self.pixels.shape[1])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the class names, the split, the labels, every pixel and how tiles vary.

        It is the same for pictures in memory and on disk, which are decoded for it once more.
        """
        digest = sha256("/".join(self.class_names).encode())
        for array in (self.split, self.labels, *self._chunks()):
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.augment != TileAugmentConfig():
            digest.update(self.augment.model_dump_json().encode())
        return digest.hexdigest()

    def _chunks(self) -> Iterator[Pixels]:
        for start in range(0, len(self.labels), _CHUNK):
            yield self.pixels[start : start + _CHUNK]

    def take(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """The pictures of tiles: (...) -> (..., S, S, 3).

        Args:
            tiles: (...) indices of tiles.
            keys: (...) a random key for each, as of `rng.keys`: its tile is augmented as the
                configuration says, by draws from the key alone. None: the tiles as they are.

        Raises:
            ValueError: the keys have another shape.
            UserError: a file of a bank that is decoded on the fly is gone or was changed.
        """
        found: Pixels = self.pixels[tiles]
        if keys is None or self.augment == TileAugmentConfig():
            return found
        if keys.shape != np.shape(tiles):
            raise ValueError(f"keys {keys.shape} must have the shape of tiles {np.shape(tiles)}")
        flat = augment(found.reshape(-1, *found.shape[-3:]), keys.reshape(-1), self.augment)
        return flat.reshape(found.shape)

    def mosaic(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """Tiles side by side: (n, R, C), as `take` gives them -> (n, R * S, C * S, 3)."""
        n, rows, cols = tiles.shape
        whole = (n, rows * self.size, cols * self.size, 3)
        if isinstance(self.pixels, np.ndarray) and (
            keys is None or self.augment == TileAugmentConfig()
        ):  # copied once, a line of a tile at a time
            lines = self.pixels.reshape(len(self.pixels) * self.size, -1)
            line = tiles[:, :, None, :] * self.size + np.arange(self.size)[:, None]
            return np.take(lines, line, axis=0).reshape(whole)
        return self.take(tiles, keys).transpose(0, 1, 3, 2, 4, 5).reshape(whole)

    @cached_property
    def _members(self) -> tuple[Ints, Ints, Ints]:
        """Tiles sorted by (split, class), with start and count of each pair, (3, C)."""
        n_classes = len(self.class_names)
        group = self.split * n_classes + self.labels
        counts = np.bincount(group, minlength=len(SPLITS) * n_classes)
        starts = np.cumsum(counts) - counts
        shape = (len(SPLITS), n_classes)
        return np.argsort(group, kind="stable"), starts.reshape(shape), counts.reshape(shape)

    @property
    def counts(self) -> Ints:
        """Tiles of each split and class, (3, C)."""
        return self._members[2]

    def members(self, split: str, label: int) -> Ints:
        """Indices of the tiles of one split and class."""
        order, starts, counts = self._members
        start = starts[SPLITS.index(split), label]
        found: Ints = order[start : start + counts[SPLITS.index(split), label]]
        return found

    def pick(self, split: str, classes: Ints, words: U64) -> Ints:
        """A uniformly random tile of `split` for each class, from 64 random bits each."""
        order, starts, counts = self._members
        which = SPLITS.index(split)
        place: Ints = starts[which][classes] + rng.below(words, counts[which][classes])
        tiles: Ints = order[place]
        return tiles
