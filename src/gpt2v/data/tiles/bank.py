"""A tile bank: all tiles from one source, in splits; no tile is in two splits.

The id of a tile holds its split, its class and its number among the tiles of both. So each split
can be drawn, read and hashed alone, and no split is drawn before its pixels are needed: a hash is
made of what decides the pixels, unless a source cannot tell it.

Shapes: P pictures, R rows of a grid, C columns of a grid.
"""

import json
from collections.abc import Callable, Mapping, Sequence
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
VAL_SHARE = 0.1  # share of the tiles for validation, if the source has no validation split
_CHUNK = 4096  # tiles that are hashed at once

_SPLIT, _CLASS = 48, 32  # bits of an id where split and class begin; below is the number
_LABEL, _NUMBER = 2**16 - 1, 2**32 - 1


def tile_ids(split: str, labels: Ints, numbers: Ints) -> Ints:
    """Ids of tiles from their split, class and number in that class.

    Args:
        split: name of the split.
        labels: (...) class of each tile.
        numbers: (...) number of each tile among those of its split and class, same shape.
    """
    return (SPLITS.index(split) << _SPLIT) | (labels << _CLASS) | numbers


def split_of(tiles: Ints) -> Ints:
    """Index into SPLITS of each tile, same shape."""
    return tiles >> _SPLIT


def class_of(tiles: Ints) -> Ints:
    """Class of each tile, same shape."""
    return (tiles >> _CLASS) & _LABEL


@dataclass(frozen=True)
class SplitTiles:
    """The tiles of one split, sorted by class.

    Attributes:
        counts: (n_classes,) number of tiles of each class.
        sources: (n_tiles,) where each tile comes from; no source is in two splits.
        draw: makes the pixels (n_tiles, size, size, 3) when they are first needed.
        digests: (n_tiles,) hash of the file of each tile; None: tiles that are drawn, whose sources
            decide their splits for any configuration.
        recipe: what decides the pixels together with the counts and digests, as plain values, with
            the version of the code that makes them; None: only the pixels themselves tell.
    """

    counts: Ints
    sources: Sequence[str]
    draw: Callable[[], Pixels | PictureFiles]
    digests: U64 | None = None
    recipe: tuple[str | int, ...] | None = None

    @cached_property
    def content(self) -> str:
        """SHA-256 over what the tiles are: equal ones mean equal counts and pixels.

        No pixel is made for it if there is a recipe. Without one, tiles on disk are decoded once
        more.
        """
        digest = sha256(self.counts.astype("<i8").tobytes())
        if self.recipe is not None:
            digest.update(json.dumps(self.recipe).encode())
            if self.digests is not None:
                digest.update(self.digests.astype("<u8").tobytes())
            return digest.hexdigest()
        for start in range(0, len(self.labels), _CHUNK):
            digest.update(np.ascontiguousarray(self.pixels[start : start + _CHUNK]).tobytes())
        return digest.hexdigest()

    @cached_property
    def pixels(self) -> Pixels | PictureFiles:
        """Pixels without augmentation, (n_tiles, size, size, 3); `TileBank.take` augments them."""
        return self.draw()

    @cached_property
    def starts(self) -> Ints:
        """Index of the first tile of each class, (n_classes,)."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def labels(self) -> Ints:
        """Class of each tile, (n_tiles,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class TileBank:
    """All tiles from one source.

    Attributes:
        name: of the source.
        class_names: one for each class.
        size: side of a tile in pixels.
        splits: by the names in SPLITS.
        augment: how training tiles are augmented.
    """

    name: str
    class_names: tuple[str, ...]
    size: int
    splits: Mapping[str, SplitTiles]
    augment: TileAugmentConfig = field(default_factory=TileAugmentConfig)

    @cached_property
    def content_hash(self) -> Callable[[str], str]:
        """A function: split -> SHA-256 over class names, labels, tiles and augmentation.

        Tiles in memory and the same tiles on disk have the same hash. The result of each split is
        cached.
        """
        return cache(self._hash)

    @cached_property
    def files_hash(self) -> str | None:
        """Short hash over the class names and the files of every split; no pixel is drawn for it.

        None: the tiles are drawn, so there are no files.
        """
        digest = sha256("/".join(self.class_names).encode())
        for split in SPLITS:
            own = self.splits[split]
            if own.digests is None:
                return None
            for start, n in zip(own.starts, own.counts, strict=True):  # in any order within a class
                digest.update(np.sort(own.digests[start : start + n]).astype("<u8").tobytes())
                digest.update(b"/")
        return digest.hexdigest()[:16]

    def _hash(self, split: str) -> str:
        own = self.splits[split]
        digest = sha256("/".join((split, *self.class_names)).encode())
        digest.update(own.content.encode())
        if split == "train" and self.augment != TileAugmentConfig():  # others stay as they are
            digest.update(self.augment.model_dump_json(exclude_none=True).encode())
        return digest.hexdigest()

    def take(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """Pixels of tiles.

        Args:
            tiles: (...) ids of tiles.
            keys: (...) a random key for each tile, e.g. from `rng.keys`. Each tile is augmented as
                configured, by draws from its key only. None: no augmentation.

        Returns:
            (..., size, size, 3).

        Raises:
            ValueError: the keys have another shape than the tiles.
            UserError: tiles are decoded on the fly, and a file is missing or was changed.
        """
        tiles = np.asarray(tiles)
        numbers, rows = self._rows(tiles)
        if len(numbers) == 1:
            pixels: Pixels = self.splits[SPLITS[numbers[0]]].pixels[rows]
        else:
            pixels = np.empty((*tiles.shape, self.size, self.size, 3), np.uint8)
            for number in numbers:
                here = split_of(tiles) == number
                pixels[here] = self.splits[SPLITS[number]].pixels[rows[here]]
        if keys is None or self.augment == TileAugmentConfig():
            return pixels
        if keys.shape != tiles.shape:
            raise ValueError(f"keys {keys.shape} must have the shape of tiles {tiles.shape}")
        own = self._keys_of_versions(tiles.reshape(-1), keys.reshape(-1))
        return augment(pixels.reshape(-1, *pixels.shape[-3:]), own, self.augment).reshape(
            pixels.shape
        )

    def _keys_of_versions(self, tiles: Ints, keys: U64) -> U64:
        """Keys (n_tiles,) as they are, or each replaced by one of those of its tile's versions."""
        if self.augment.versions is None:
            return keys
        every = rng.bits(rng.keys(0, "versions of tiles", tiles), self.augment.versions)
        chosen = rng.below(rng.mix(~keys), self.augment.versions)
        return every[np.arange(len(tiles)), chosen]

    def _rows(self, tiles: Ints) -> tuple[list[int], Ints]:
        """The indices of the splits that occur in tiles (...), and each tile's row in its split."""
        starts = np.stack([self.splits[name].starts for name in SPLITS])
        return rng.different(split_of(tiles)), starts[split_of(tiles), class_of(tiles)] + (
            tiles & _NUMBER
        )

    def mosaic(self, tiles: Ints, keys: U64 | None = None) -> Pixels:
        """Pictures of adjacent tiles: ids (P, R, C) -> pixels (P, R * size, C * size, 3).

        The tiles are those that `take` returns; see there for `keys` and errors.
        """
        n, rows, cols = tiles.shape
        whole = (n, rows * self.size, cols * self.size, 3)
        if keys is None or self.augment == TileAugmentConfig():
            numbers, tile_rows = self._rows(tiles)
            pixels = self.splits[SPLITS[numbers[0]]].pixels if len(numbers) == 1 else None
            if isinstance(pixels, np.ndarray):  # faster: copies each line of a tile once
                lines = pixels.reshape(len(pixels) * self.size, -1)
                line = tile_rows[:, :, None, :] * self.size + np.arange(self.size)[:, None]
                return np.take(lines, line, axis=0).reshape(whole)
        return self.take(tiles, keys).transpose(0, 1, 3, 2, 4, 5).reshape(whole)

    @cached_property
    def counts(self) -> Ints:
        """Number of tiles of each split and class, (3, n_classes)."""
        return np.stack([self.splits[name].counts for name in SPLITS])

    def tiles(self, split: str) -> Ints:
        """Ids of all tiles of a split, sorted by class, (n_tiles,)."""
        own = self.splits[split]
        return tile_ids(split, own.labels, np.arange(len(own.labels)) - own.starts[own.labels])

    def members(self, split: str, label: int) -> Ints:
        """Ids of the tiles of one split and class, (n_tiles,)."""
        return tile_ids(split, np.array(label), np.arange(self.splits[split].counts[label]))

    def pick(self, split: str, classes: Ints, words: U64) -> Ints:
        """Choose a uniformly random tile of a split for each class.

        Args:
            split: name of the split.
            classes: (...).
            words: (...) 64 random bits for each choice.

        Returns:
            ids of tiles, (...).
        """
        return tile_ids(split, classes, rng.below(words, self.splits[split].counts[classes]))


def sorted_by_class(
    labels: Ints,
    n_classes: int,
    sources: Sequence[str],
    draw: Callable[[Ints], Pixels | PictureFiles],
    digests: U64,
    recipe: tuple[str | int, ...],
) -> SplitTiles:
    """The tiles of a split, from tiles in any order.

    Args:
        labels: (n_tiles,) class of each tile.
        n_classes: number of classes.
        sources: (n_tiles,) where each tile comes from.
        draw: makes the pixels of the tiles with these numbers, (n,) -> (n, size, size, 3).
        digests: (n_tiles,) hash of the file of each tile.
        recipe: see `SplitTiles`.
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=n_classes)
    return SplitTiles(
        counts, [sources[i] for i in order.tolist()], lambda: draw(order), digests[order], recipe
    )
