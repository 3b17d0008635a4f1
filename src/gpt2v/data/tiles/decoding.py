"""Decode one image file to one tile, with the pixels that every viewer shows; or say why not.

Only pictures that convert to 8 bits of sRGB exactly are accepted, turned upright as their EXIF
orientation says. For transparency, CMYK, more than 8 bits, another colour profile or several
frames, there is no single right conversion.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from gpt2v.data.data_files import is_pointer
from gpt2v.data.tiles.colours import other_colours
from gpt2v.data.tiles.resizing import Pixels
from gpt2v.errors import first_line

# What is read, by Pillow's names. Others are refused: Pillow does not tell how many bits a sample
# of AVIF or JPEG 2000 has, an icon is several pictures, and EPS would run another program.
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_READ = "BMP, GIF, JPEG, PNG, PPM, TIFF or WebP"
# Part of every hash of tiles from files, which is made without decoding them. Increase it when a
# file is decoded or resized to other pixels.
VERSION = 1
_EXACT = ("RGB", "L", "P", "1")  # Pillow's modes that convert to RGB without loss

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what turns the picture upright; others are upright


class Unreadable(Exception):
    """An image file cannot be decoded to a tile; the message says why."""


def decode(blob: bytes, size: int) -> Pixels:
    """Decode the bytes of an image file to one tile, (size, size, 3).

    The image is resized with a bicubic filter, whatever its shape; `size` is in pixels.

    Raises:
        Unreadable: the file is damaged, is not an image, or does not convert to RGB exactly.
    """
    return decode_as(lambda picture: fit(picture, size), blob)


def decode_as(convert: Callable[[Image.Image], Pixels], blob: bytes) -> Pixels:
    """Decode the bytes of an image file, and convert the upright RGB picture in it.

    Raises:
        Unreadable: the file is damaged, is not an image, or does not convert to RGB exactly.
    """
    try:
        with warnings.catch_warnings():  # about metadata that are not needed here
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return convert(_opened(blob))
    except Unreadable:
        raise
    except UnidentifiedImageError:
        if is_pointer(blob):
            raise Unreadable("a pointer of Git LFS, not the data; run git lfs pull") from None
        raise Unreadable(f"no picture in a format that is read: {_READ}") from None
    except Exception as error:  # Pillow's readers raise many types, even SyntaxError
        reason = first_line(error).split("<")[0].strip() or type(error).__name__
        raise Unreadable(reason) from None


def recipe_of(size: int) -> tuple[str | int, ...]:
    """What decides the tile that a file becomes, besides its bytes; see `bank.SplitTiles`.

    `size` is the side of the tile in pixels.
    """
    return "decoded", VERSION, size


def fit(picture: Image.Image, size: int) -> Pixels:
    """An RGB image as one tile, (size, size, 3), resized with a bicubic filter."""
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _opened(blob: bytes) -> Image.Image:
    """The picture in a file, upright and in RGB."""
    picture = Image.open(io.BytesIO(blob), formats=_FORMATS)
    if not all(picture.size):
        raise Unreadable(f"{picture.width}x{picture.height} pixels")
    _check_frames(picture, blob)
    is_deep = _is_deep(picture)
    picture.load()
    if picture.mode not in _EXACT or picture.has_transparency_data:
        seen = " with transparency" if picture.mode in _EXACT else ""
        raise Unreadable(f"mode {picture.mode}{seen}; convert it to RGB")
    if is_deep:
        raise Unreadable("16 bits in each channel; convert it to 8 bits")
    if colours := other_colours(picture, blob):
        raise Unreadable(f"{colours}; convert it to sRGB")
    turn = _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    upright: Image.Image = picture if turn is None else picture.transpose(turn)
    return upright.convert("RGB")


def _check_frames(picture: ImageFile.ImageFile, blob: bytes) -> None:
    """Raise Unreadable unless there is one frame, which fills the picture.

    The first picture of an MPO file is the photograph; cameras add previews and depth maps.
    """
    n_frames = getattr(picture, "n_frames", 1)
    if n_frames > 1 and picture.format != "MPO":
        raise Unreadable(f"{n_frames} frames or pages; keep one")
    if picture.format == "GIF" and picture.tile[0][1] != (0, 0, *picture.size):
        raise Unreadable("its frame does not fill it; convert it to RGB")
    if picture.format == "PPM" and _is_followed(picture, blob):
        raise Unreadable("another picture follows the first; keep one")


def _is_followed(picture: ImageFile.ImageFile, blob: bytes) -> bool:
    """Whether another picture stands behind that of a PPM, PGM or PBM file, not loaded yet."""
    codec, _, start, args = picture.tile[0]
    largest = args[-1] if isinstance(args, tuple) else None  # value of a sample
    if codec == "ppm_plain":
        return re.search(rb"^\s*P[1-6]\s", blob[start:], re.MULTILINE) is not None
    row = picture.width * len(picture.getbands())  # bytes, or bits
    if args == "1;I":
        row = -(-row // 8)
    elif codec == "ppm" and isinstance(largest, int) and largest > 255:
        row *= 2
    end = blob[start + row * picture.height :]
    return re.match(rb"\s*P[1-6]\s", end) is not None


def _is_deep(picture: ImageFile.ImageFile) -> bool:
    """Whether the file, not loaded yet, has more than 8 bits where Pillow keeps 8."""
    for codec, _, _, args in picture.tile:
        parts: tuple[Any, ...] = args if isinstance(args, tuple) else (args,)
        if codec.startswith("ppm"):  # the last part is the largest value; one bit has none
            return isinstance(parts[-1], int) and parts[-1] > 255
        if ";16" in str(parts[0]) and picture.format in ("PNG", "TIFF"):
            return True
    return False
