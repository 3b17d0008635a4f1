"""Whether the colours of a picture are those of sRGB, by everything in its file that tells them.

A file without any such sign is taken for sRGB, as every viewer does.
"""

import io
import struct
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, ImageCms

# Gamma, and the white point and primary colours, of sRGB; others may differ by 1%.
_GAMMA = 0.45455
_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_WHITE_TAG, _PRIMARIES_TAG = 318, 319  # of TIFF files
_CICP = bytes([1, 13, 0, 1])  # sRGB by ITU-T H.273: primaries, transfer, matrix, full range
_SAME = 3  # grey levels by which a profile may differ from sRGB: versions of it differ in rounding

_GIF_PROFILE = b"\x21\xff\x0bICCRGBG1012"
_BMP_HEADER, _BMP_V5 = 14, 124  # bytes of the file's header, and of version 5 of the picture's


def other_colours(picture: Image.Image, blob: bytes) -> str | None:
    """What says that the colours of a loaded picture are others than those of sRGB; None: nothing.

    Args:
        blob: the bytes of its file.
    """
    cicp = _png_chunk(blob, b"cICP") if picture.format == "PNG" else None
    if cicp is not None:  # comes before everything else in a PNG file
        return None if cicp == _CICP else f"colours by cICP {list(cicp)}"
    profile = picture.info.get("icc_profile") or _profile_in(blob, picture.format)
    if profile:
        return _other_profile(profile, picture.mode in ("L", "1"))
    if "srgb" not in picture.info and _has_other_primaries(picture):
        return "its gamma or primary colours are not those of sRGB"
    return "colours of Adobe RGB by its EXIF data" if _is_adobe_rgb(picture) else None


def _png_chunk(blob: bytes, name: bytes) -> bytes | None:
    """The content of the first chunk with this name before the pixels of a PNG file."""
    at = 8
    while at + 8 <= len(blob):
        length, kind = struct.unpack_from(">I4s", blob, at)
        if kind == name:
            return blob[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            return None
        at += length + 12
    return None


def _profile_in(blob: bytes, file_format: str | None) -> bytes | None:
    """The ICC profile in a file of a format in which Pillow does not look for one."""
    if file_format == "GIF" and (at := blob.find(_GIF_PROFILE)) >= 0:
        at += len(_GIF_PROFILE)
        parts = []
        while at < len(blob) and blob[at]:  # blocks, each after its length
            parts.append(blob[at + 1 : at + 1 + blob[at]])
            at += 1 + blob[at]
        return b"".join(parts)
    if file_format == "BMP" and int.from_bytes(blob[14:18], "little") == _BMP_V5:
        kind = blob[_BMP_HEADER + 56 : _BMP_HEADER + 60]
        start, length = struct.unpack_from("<II", blob, _BMP_HEADER + 112)
        if kind == b"DEBM":
            return blob[_BMP_HEADER + start : _BMP_HEADER + start + length]
        if kind == b"KNIL":
            return b"in another file"
    return None


def _has_other_primaries(picture: Image.Image) -> bool:
    """Whether fields of a PNG or a TIFF file give another gamma, white or primary colours."""
    gamma, primaries = picture.info.get("gamma", _GAMMA), picture.info.get("chromaticity")
    if primaries is None:
        tags = getattr(picture, "tag_v2", {})
        primaries = (*tags.get(_WHITE_TAG, ()), *tags.get(_PRIMARIES_TAG, ()))
        primaries = primaries if len(primaries) == len(_PRIMARIES) else _PRIMARIES
    given = [float(value) for value in (gamma, *primaries)]
    return not np.allclose(given, [_GAMMA, *_PRIMARIES], rtol=0.01)


def _is_adobe_rgb(picture: Image.Image) -> bool:
    """Whether EXIF data name Adobe RGB, as cameras do that write no profile (DCF 2.0)."""
    try:
        exif = picture.getexif()
        if not exif:
            return False
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        interop = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # damaged EXIF data raise many types; viewers do without them
        return False
    return space == 2 or str(interop).strip("\0 ") == "R03"


@lru_cache(maxsize=64)
def _other_profile(profile: bytes, is_grey: bool) -> str | None:
    """The name of an ICC profile that changes colours, or what is wrong with it; None: it is of
    sRGB.
    """
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grey = np.repeat(levels[:, None, None], 3, axis=2)  # (n_levels, 1, 3)
    every = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)
    shown = Image.fromarray(grey if is_grey else every)
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "L" if is_grey and given.profile.xcolor_space.strip() == "GRAY" else "RGB"
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        return f"its colour profile cannot be used ({error})"
    seen = ImageCms.applyTransform(shown.convert(mode), transform)
    assert seen is not None
    change = np.abs(np.asarray(seen, np.int64) - np.asarray(shown, np.int64)).max()
    if change <= _SAME:
        return None
    return f"colour profile '{ImageCms.getProfileDescription(given).strip()}'"
