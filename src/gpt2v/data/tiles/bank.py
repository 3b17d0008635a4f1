"""A tile bank: every small picture of one source, split so that no picture is in two splits.

A tile's id says its split, its class and its number among these, so that each split can be drawn,
read and hashed alone: nothing is drawn before its pixels are asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256

import numpy as np

from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.data import rng
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.augment import augment
from gpt2v.data.tiles.image_files import PictureFiles, Pixels

SPLITS = ("train", "val", "test")
VAL_SHARE = 0.1  # of the training pictures, where a source has no validation split of its own
_CHUNK = 4096  # tiles that are hashed at once

_SPLIT, _CLASS = 48, 32  # where in an id they begin; the number is below
_LABEL, _NUMBER = 2**16 - 1, 2**32 - 1


def tile_ids(split: str, labels: Ints, numbers: Ints) -> Ints:
    """Ids of tiles by split, class (...) and number among these (...), same shape."""
    return (SPLITS.index(split) << _SPLIT) | (labels << _CLASS) | numbers


def split_of(tiles: Ints) -> Ints:
    """Index into SPLITS of each tile, same shape."""
    return tiles >> _SPLIT


def class_of(tiles: Ints) -> Ints:
    """Class of each tile, same shape."""
    return (tiles >> _CLASS) & _LABEL


@dataclass(frozen=True)
class SplitTiles:
    """The tiles of one split, class after class.

    Attributes:
        counts: (C,) tiles of each class.
        sources: (N,) where each tile comes from: never in two splits.
        draw: makes the pixels (N, S, S, 3), when they are first asked for.
    """

    counts: Ints
    sources: Sequence[str]
    draw: Callable[[], Pixels | PictureFiles]

    @cached_property
    def pixels(self) -> Pixels | PictureFiles:
        """(N, S, S, 3), as they are; `TileBank.take` gives them augmented."""
        return self.draw()

    @cached_property
    def starts(self) -> Ints:
        """(C,) place of the first tile of each class."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def labels(self) -> Ints:
        """(N,) class of each tile."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class TileBank:
    """All tiles of one source."""

    name: str
    class_names: tuple[str, ...]
    size: int  # side of a tile in pixels
    splits: Mapping[str, SplitTiles]  # by the names in SPLITS
    augment: TileAugmentConfig = field(default_factory=TileAugmentConfig)

    @cached_property
    def content_hash(self) -> Callable[[str], str]:
        """split -> SHA-256 over the class names, the labels, every pixel and how tiles vary.

        It is the same for pictures in memory and on disk, which are decoded for it once more.
        """
        return cache(self._hash)

    def _hash(self, split: str) -> str:
        own = self.splits[split]
        digest = sha256("/".join((split, *self.class_names)).encode())
        digest.update(own.counts.astype("<i8").tobytes())
        for chunk in self._chunks(own):
            digest.update(np.ascontiguousarray(chunk).tobytes())
        if split == "train" and self.augment != TileAugmentConfig():  # others never vary
            digest.update(self.augment.model_dump_json().encode())
        return digest.hexdigest()

    def _chunks(self, own: SplitTiles) -> Iterator[Pixels]:
        for start in range(0, len(own.labels), _CHUNK):
            yield own.pixels[start : start + _CHUNK]

    def take(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """The pictures of tiles: (...) -> (..., S, S, 3).

        Args:
            tiles: (...) ids of tiles.
            keys: (...) a random key for each, as of `rng.keys`: its tile is augmented as the
                configuration says, by draws from the key alone. None: the tiles as they are.

        Raises:
            ValueError: the keys have another shape.
            UserError: a file of a bank that is decoded on the fly is gone or was changed.
        """
        tiles = np.asarray(tiles)
        numbers, rows = self._rows(tiles)
        if len(numbers) == 1:
            found: Pixels = self.splits[SPLITS[numbers[0]]].pixels[rows]
        else:
            found = np.empty((*tiles.shape, self.size, self.size, 3), np.uint8)
            for number in numbers:
                here = split_of(tiles) == number
                found[here] = self.splits[SPLITS[number]].pixels[rows[here]]
        if keys is None or self.augment == TileAugmentConfig():
            return found
        if keys.shape != tiles.shape:
            raise ValueError(f"keys {keys.shape} must have the shape of tiles {tiles.shape}")
        flat = augment(found.reshape(-1, *found.shape[-3:]), keys.reshape(-1), self.augment)
        return flat.reshape(found.shape)

    def _rows(self, tiles: Ints) -> tuple[list[int], Ints]:
        """The splits that tiles (...) are in, and the place (...) of each in its split."""
        starts = np.stack([self.splits[name].starts for name in SPLITS])
        return rng.different(split_of(tiles)), starts[split_of(tiles), class_of(tiles)] + (
            tiles & _NUMBER
        )

    def mosaic(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """Tiles side by side: (n, R, C), as `take` gives them -> (n, R * S, C * S, 3)."""
        n, rows, cols = tiles.shape
        whole = (n, rows * self.size, cols * self.size, 3)
        if keys is None or self.augment == TileAugmentConfig():
            numbers, place = self._rows(tiles)
            pixels = self.splits[SPLITS[numbers[0]]].pixels if len(numbers) == 1 else None
            if isinstance(pixels, np.ndarray):  # copied once, a line of a tile at a time
                lines = pixels.reshape(len(pixels) * self.size, -1)
                line = place[:, :, None, :] * self.size + np.arange(self.size)[:, None]
                return np.take(lines, line, axis=0).reshape(whole)
        return self.take(tiles, keys).transpose(0, 1, 3, 2, 4, 5).reshape(whole)

    @cached_property
    def counts(self) -> Ints:
        """Tiles of each split and class, (3, C)."""
        return np.stack([self.splits[name].counts for name in SPLITS])

    def tiles(self, split: str) -> Ints:
        """Ids of all tiles of a split, class after class."""
        own = self.splits[split]
        return tile_ids(split, own.labels, np.arange(len(own.labels)) - own.starts[own.labels])

    def members(self, split: str, label: int) -> Ints:
        """Ids of the tiles of one split and class."""
        return tile_ids(split, np.array(label), np.arange(self.splits[split].counts[label]))

    def pick(self, split: str, classes: Ints, words: U64) -> Ints:
        """A uniformly random tile of `split` for each class, from 64 random bits each."""
        return tile_ids(split, classes, rng.below(words, self.splits[split].counts[classes]))


def sorted_by_class(
    labels: Ints,
    n_classes: int,
    sources: Sequence[str],
    draw: Callable[[Ints], Pixels | PictureFiles],
) -> SplitTiles:
    """The tiles of a split from pictures in any order.

    Args:
        labels: (N,) class of each picture; sources: (N,) where it comes from.
        draw: makes the pixels of pictures with these numbers, (n,) -> (n, S, S, 3).
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_classes)
    return SplitTiles(counts, [sources[i] for i in order.tolist()], lambda: draw(order))
