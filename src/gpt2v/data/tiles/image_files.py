"""Decode image files to tiles of one size; refuse or skip those that cannot be decoded."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.decoding import Unreadable, decode
from gpt2v.errors import UserError
from gpt2v.messages import show
from gpt2v.progress import track

Pixels = NDArray[np.uint8]

_NAMED = 3  # number of unreadable pictures that an error message names


def digest(blob: bytes) -> int:
    """64 bits of the SHA-256 of these bytes. Splitting by it keeps equal pictures together."""
    return int.from_bytes(hashlib.sha256(blob).digest()[:8], "little")


@dataclass(frozen=True)
class Decoded:
    """The result of `decode_all`.

    Attributes:
        pixels: (n_tiles, size, size, 3), or None if `with_pixels` is false.
        digests: (n_tiles,) hash of each picture's bytes.
        looks: (n_tiles,) hash of each tile's pixels.
        readable: (n_tiles,) whether each picture could be decoded.
        faults: name and reason of each picture that could not be decoded.
    """

    pixels: Pixels | None
    digests: U64
    looks: U64
    readable: NDArray[np.bool_]
    faults: list[str]


def decode_all(
    read: Callable[[int], bytes],
    names: Sequence[str],
    size: int,
    label: str,
    decode: Callable[[bytes, int], Pixels] = decode,
    with_pixels: bool = True,
) -> Decoded:
    """Decode all pictures, and find all that cannot be decoded.

    Args:
        read: returns the bytes of the picture with this number.
        names: name of each picture, for error messages.
        size: side of a tile in pixels.
        label: name of this work in the progress display.
        decode: (bytes, size) -> one tile (size, size, 3).
        with_pixels: whether the result holds the pixels.
    """
    pixels = np.zeros((len(names), size, size, 3), np.uint8) if with_pixels else None
    digests, looks = np.zeros((2, len(names)), np.uint64)
    readable = np.ones(len(names), bool)
    faults = []
    for i, name in enumerate(track(names, label)):
        try:
            blob = read(i)
            digests[i] = digest(blob)
            tile = decode(blob, size)
        except (Unreadable, OSError) as error:
            readable[i] = False
            faults.append(f"{name} ({getattr(error, 'strerror', None) or error})")
        else:
            looks[i] = digest(tile.tobytes())
            if pixels is not None:
                pixels[i] = tile
    return Decoded(pixels, digests, looks, readable, faults)


def refuse_or_skip(
    faults: Sequence[str], total: int, where: object, corrupt: Literal["refuse", "skip"]
) -> None:
    """Raise an error if pictures cannot be read, or print on stderr how many are left out.

    Args:
        faults: names and reasons of the unreadable pictures.
        total: number of all pictures.
        where: folder or data set, for messages.
        corrupt: `refuse` or `skip` unreadable pictures.

    Raises:
        UserError: some picture cannot be read and `corrupt` is `refuse`.
    """
    if not faults:
        return
    some = f"{len(faults)} picture{'s' if faults[1:] else ''}"
    if corrupt == "skip":
        show(f"tiles.path: {where}: left out {some} of {total} that cannot be read")
        return
    named = "; ".join(faults[:_NAMED])
    raise UserError(
        f"tiles.path: {where}: {some} cannot be read, the first of them: {named}. Repair or remove "
        "them, or leave them out with tiles.corrupt: skip"
    )


@dataclass(frozen=True)
class PictureFiles:
    """Tiles in image files on disk. Indexing works as for an array and decodes these tiles.

    Attributes:
        files: one for each tile.
        digests: (n_tiles,) hash of each file's bytes when the bank was loaded.
        side: of a tile in pixels.
    """

    files: tuple[Path, ...]
    digests: U64
    side: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_tiles, side, side, 3)"""
        return len(self.files), self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, which: Ints | slice | int) -> Pixels:
        """The tiles with these numbers (...), each decoded once: (..., side, side, 3).

        Raises:
            UserError: a file is missing or was changed.
        """
        index = np.asarray(np.arange(len(self))[which])
        unique, inverse = np.unique(index, return_inverse=True)
        tiles = np.zeros((len(unique), *self.shape[1:]), np.uint8)
        for k, i in enumerate(unique.tolist()):
            tiles[k] = self._read(i)
        chosen: Pixels = tiles[inverse.reshape(index.shape)]
        return chosen

    def _read(self, i: int) -> Pixels:
        try:
            blob = self.files[i].read_bytes()
        except OSError as error:
            raise UserError(
                f"tiles.path: {self.files[i]}: cannot be read any more: {error.strerror}"
            ) from None
        if digest(blob) != int(self.digests[i]):
            raise UserError(f"tiles.path: {self.files[i]}: was changed while it was in use")
        return decode(blob, self.side)
