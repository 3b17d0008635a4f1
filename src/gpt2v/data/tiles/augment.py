"""Tile augmentation: flip, crop, shift, jitter, blur, noise; a pure function of pixels and key.

All arithmetic on pixels is in integers, so that every machine gives the same bits. Shares and
sigmas are rounded to fixed point first. The result for a picture depends on this picture and its
key only, not on other pictures in the batch.

Shapes: P pictures.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.data import rng
from gpt2v.data.rng import U64, Ints

Pixels = NDArray[np.uint8]
I32 = NDArray[np.int32]

_SHARE = 12  # fractional bits of shares and of the weights of a blur
_SIGMAS = 64  # steps of a blur's sigma in one pixel
_LEVELS = 256  # steps of noise in one grey level
_LUMA = np.array([19595, 38470, 7471], np.int32)  # weights of ITU-R BT.601, in 1/65536

# The sum of four uniform 16-bit numbers is nearly normal, with this mean and deviation.
_MEAN = 2 * (2**16 - 1)
_SCALE = round(2**48 / (((2**32 - 1) / 3) ** 0.5 * _LEVELS))  # 1 / deviation, per step of noise


def augment(pixels: Pixels, keys: U64, config: TileAugmentConfig) -> Pixels:
    """Augment each tile by random draws from its key.

    Flip, crop and shift come first, then brightness, contrast and colour, then blur and noise. Each
    step has its own draws, so switching one on does not change the draws of the others.

    Args:
        pixels: (n_tiles, size, size, 3).
        keys: (n_tiles,) random keys.
        config: which steps are on; for each, the range that its strength is drawn from.

    Returns:
        (n_tiles, size, size, 3).
    """
    word = rng.bits(keys, 12).T  # (12, n_tiles)
    if config.flip:
        mirror = (word[0] >> np.uint64(63)).astype(bool)
        pixels = np.where(mirror[:, None, None, None], pixels[:, :, ::-1], pixels)
    if config.crop:
        size = pixels.shape[1]
        side = size - rng.below(word[1], int(config.crop * size) + 1)
        top, left = (rng.below(w, size - side + 1) for w in word[2:4])
        pixels = _crop(pixels, side, top, left)
    if config.shift:
        most = min(config.shift, pixels.shape[1] - 1)
        down, right = (rng.below(w, 2 * most + 1) - most for w in word[10:12])
        pixels = _shift(pixels, down, right)
    if config.jitter:
        most = round(config.jitter * 2**_SHARE)
        factors = 2**_SHARE - most + rng.below(word[4:7], 2 * most + 1)
        pixels = _jitter(pixels, factors)
    if config.blur:
        most = round(config.blur * _SIGMAS)
        pixels = blur(pixels, rng.below(word[7], most + 1) / _SIGMAS)
    if config.noise:
        most = round(config.noise * _LEVELS)
        pixels = noise(pixels, rng.below(word[8], most + 1) / _LEVELS, word[9])
    return pixels


def blur(pixels: Pixels, sigma: ArrayLike) -> Pixels:
    """Gaussian blur of pictures; outside a picture, the pixels at its edge are repeated.

    Args:
        pixels: (P, height, width, 3).
        sigma: (P,) or one for all, in pixels, in steps of 1/64; 0 does not change a picture.
    """
    kernels = _kernels(np.broadcast_to(sigma, len(pixels)))
    radius = kernels.shape[1] // 2
    out = pixels.astype(np.uint32)  # two passes with weights of 12 bits fit: 255 * 2**24 + 2**23
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (radius, radius)
        padded = np.pad(out, pad, mode="edge")
        length = pixels.shape[axis]
        out = np.zeros_like(out)
        for k in range(2 * radius + 1):
            shifted = padded[:, k : k + length] if axis == 1 else padded[:, :, k : k + length]
            out += kernels[:, k, None, None, None] * shifted
    half = np.uint32(1 << (2 * _SHARE - 1))
    blurred: Pixels = ((out + half) >> np.uint32(2 * _SHARE)).astype(np.uint8)
    return blurred


def _kernels(sigma: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Weights (P, 2 * radius + 1) that sum to 2**12; a kernel ends at three of its own sigmas."""
    step = np.rint(np.asarray(sigma) * _SIGMAS).astype(np.int64)
    reach = (3 * step + _SIGMAS - 1) // _SIGMAS
    radius = int(reach.max(initial=0))
    x = np.arange(-radius, radius + 1)
    width = np.maximum(step, 1)[:, None] / _SIGMAS
    weight = np.where(np.abs(x) <= reach[:, None], np.exp(-(x**2) / (2 * width**2)), 0)
    share = weight * 2**_SHARE / weight.sum(1, keepdims=True)
    fixed: Ints = np.rint(share).astype(np.int64)
    fixed[:, radius] += 2**_SHARE - fixed.sum(1)
    return fixed.astype(np.uint32)


def noise(pixels: Pixels, std: ArrayLike, key: U64) -> Pixels:
    """Add noise that is nearly normal (a sum of four uniform numbers) to pictures.

    Args:
        pixels: (P, height, width, 3).
        std: (P,) or one for all, standard deviation in grey levels, in steps of 1/256; 0 does not
            change a picture.
        key: (P,) random keys.
    """
    n = len(pixels)
    step = np.rint(np.broadcast_to(std, n) * _LEVELS).astype(np.int64)
    words = rng.bits(key, int(np.prod(pixels.shape[1:])))
    low = np.uint64(0xFFFF)
    total = sum(((words >> np.uint64(16 * i)) & low).astype(np.int64) for i in range(4))
    added = (np.asarray(total - _MEAN) * (step * _SCALE)[:, None] + (1 << 47)) >> 48
    changed: Ints = pixels.astype(np.int64) + added.reshape(pixels.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


def _crop(pixels: Pixels, side: Ints, top: Ints, left: Ints) -> Pixels:
    """Cut a square out of each tile and resize it bilinearly to the size of the tile.

    Args:
        pixels: (n_tiles, size, size, 3).
        side: (n_tiles,) of the square in pixels.
        top: (n_tiles,) first row of the square.
        left: (n_tiles,) first column of the square.
    """
    n, size = pixels.shape[:2]
    unit = 2 * size  # weights are in 1 / unit
    # centres of the new pixels in the square, in 1 / unit, (n_tiles, size)
    at = (2 * np.arange(size) + 1) * side[:, None] - size
    low, share = at // unit, (at % unit).astype(np.int32)
    neighbours = [np.clip(low + i, 0, side[:, None] - 1) for i in range(2)]
    here = np.arange(n)[:, None]
    out: I32 = pixels.astype(np.int32)
    first, second = (out[here, index + top[:, None]] for index in neighbours)
    w = share[:, :, None, None]
    out = first * (unit - w) + second * w
    first, second = (out[here, :, index + left[:, None]] for index in neighbours)
    out = first * (unit - w) + second * w
    out = (out + unit * size) // unit**2
    return out.swapaxes(1, 2).astype(np.uint8)


def _shift(pixels: Pixels, down: Ints, right: Ints) -> Pixels:
    """Move each tile by (n_tiles,) pixels; the edge mirrors the tile, without its own pixels."""
    size = pixels.shape[1]
    rows, columns = (np.abs(np.arange(size) - by[:, None]) for by in (down, right))
    rows, columns = (np.where(at < size, at, 2 * (size - 1) - at) for at in (rows, columns))
    here = np.arange(len(pixels))[:, None, None]
    moved: Pixels = pixels[here, rows[:, :, None], columns[:, None, :]]
    return moved


def _jitter(pixels: Pixels, factors: Ints) -> Pixels:
    """Change brightness, contrast and colour by the factors (3, n_tiles), in 1/4096.

    The factors scale the distance from black, from the tile's mean grey and from each pixel's own
    grey.
    """
    brightness, contrast, colour = factors.astype(np.int32)
    out = _away(np.zeros((1, 1, 1, 1), np.int32), pixels.astype(np.int32), brightness)
    grey = _grey(out)
    n_pixels = grey.shape[1] * grey.shape[2]
    total = grey.sum((1, 2, 3), dtype=np.int64)
    mean = ((2 * total + n_pixels) // (2 * n_pixels)).astype(np.int32)
    out = _away(mean[:, None, None, None], out, contrast)
    return _away(_grey(out), out, colour).astype(np.uint8)


def _away(base: I32, pixels: I32, factor: I32) -> I32:
    """Move pixels to `factor` (n_tiles,), in 1/4096, times their distance from `base`."""
    change = (pixels - base) * factor[:, None, None, None]
    return np.clip(base + ((change + (1 << (_SHARE - 1))) >> _SHARE), 0, 255)


def _grey(pixels: I32) -> I32:
    """Brightness of each pixel, (n_tiles, size, size, 1)."""
    red, green, blue = (pixels[..., i : i + 1] * _LUMA[i] for i in range(3))
    grey: I32 = (red + green + blue + (1 << 15)) >> 16
    return grey
