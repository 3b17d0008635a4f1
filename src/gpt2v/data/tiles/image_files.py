"""Decoding pictures to tiles of one size, and what becomes of those that cannot be decoded.

Only pictures that convert to RGB exactly are accepted: how to drop transparency or to turn CMYK or
more than 8 bits into RGB is not for us to guess.
"""

import hashlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpt2v.data.rng import U64, Ints
from gpt2v.errors import UserError, first_line
from gpt2v.progress import track

Pixels = NDArray[np.uint8]

_EXACT = ("RGB", "L", "P")  # Pillow's modes that convert to RGB without loss
_NAMED = 3  # unreadable pictures that an error names


class Unreadable(Exception):
    """A picture cannot be a tile; the message says why."""


def decode(blob: bytes, size: int) -> Pixels:
    """A picture file's bytes as one tile, (size, size, 3); resized with a bicubic filter.

    Raises:
        Unreadable: it is damaged or no picture, or does not convert to RGB exactly.
    """
    try:
        picture = Image.open(io.BytesIO(blob))
        picture.load()
    except Exception as error:  # Pillow's readers raise many types, SyntaxError among them
        reason = first_line(error).split("<")[0].strip() or type(error).__name__
        raise Unreadable(reason) from None
    if picture.mode not in _EXACT or picture.has_transparency_data:
        seen = " with transparency" if picture.mode in _EXACT else ""
        raise Unreadable(f"mode {picture.mode}{seen}; convert it to RGB")
    return fit(picture.convert("RGB"), size)


def fit(picture: Image.Image, size: int) -> Pixels:
    """An RGB picture as one tile, (size, size, 3)."""
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def digest(blob: bytes) -> int:
    """64 bits of the SHA-256 of a picture's bytes: splits by it keep equal pictures together."""
    return int.from_bytes(hashlib.sha256(blob).digest()[:8], "little")


@dataclass(frozen=True)
class Decoded:
    """Pictures that were decoded one by one."""

    pixels: Pixels | None  # (N, S, S, 3), unless they were only tried
    digests: U64  # (N,) of their bytes
    readable: NDArray[np.bool_]  # (N,)
    faults: list[str]  # name and reason of each that is not readable


def decode_all(
    read: Callable[[int], bytes],
    names: Sequence[str],
    size: int,
    label: str,
    decode: Callable[[bytes, int], Pixels] = decode,
    keep: bool = True,
) -> Decoded:
    """Decode every picture, and find all that cannot be decoded.

    Args:
        read: gives the bytes of the picture with this number.
        names: what the pictures are called in messages.
        size: side of a tile in pixels.
        label: what the work is called in reports of progress.
        decode: bytes and size to one tile.
        keep: whether the pixels are kept.
    """
    pixels = np.zeros((len(names), size, size, 3), np.uint8) if keep else None
    digests = np.zeros(len(names), np.uint64)
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
            if pixels is not None:
                pixels[i] = tile
    return Decoded(pixels, digests, readable, faults)


def refuse_or_skip(
    faults: Sequence[str], total: int, where: object, corrupt: Literal["refuse", "skip"]
) -> None:
    """End with what cannot be read, or say on stderr how much is left out.

    Raises:
        UserError: some picture cannot be read and `corrupt` is not `skip`.
    """
    if not faults:
        return
    some = f"{len(faults)} picture{'s' if faults[1:] else ''}"
    if corrupt == "skip":
        print(
            f"tiles.path: {where}: left out {some} of {total} that cannot be read", file=sys.stderr
        )
        return
    named = "; ".join(faults[:_NAMED])
    raise UserError(
        f"tiles.path: {where}: {some} cannot be read, the first of them: {named}. Repair or remove "
        "them, or leave them out with tiles.corrupt: skip"
    )


@dataclass(frozen=True)
class PictureFiles:
    """Pictures that stay on disk, read like an array of tiles: what is indexed is decoded then."""

    files: tuple[Path, ...]
    digests: U64  # (N,) of their bytes when they were found
    side: int  # of a tile in pixels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.files), self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, which: Ints | slice | int) -> Pixels:
        """The tiles with these numbers, (..., S, S, 3), each decoded once.

        Raises:
            UserError: a file is gone or was changed.
        """
        index = np.asarray(np.arange(len(self))[which])
        unique, place = np.unique(index, return_inverse=True)
        tiles = np.zeros((len(unique), *self.shape[1:]), np.uint8)
        for k, i in enumerate(unique.tolist()):
            tiles[k] = self._read(i)
        found: Pixels = tiles[place.reshape(index.shape)]
        return found

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
