"""Resize pictures, with the same bits on every machine.

Weights are multiples of 2^-14, and each pass rounds to whole grey levels. So every sum in the
matrix products is an integer below 2^24, which float32 holds exactly in any order of summation.

Shapes: P pictures.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_ONE = 2**14


def resize(pictures: Pixels, height: int, width: int) -> Pixels:
    """Resize pictures: bilinear, with area averaging if they become smaller.

    (P, old_height, old_width, 3) -> (P, height, width, 3)
    """
    n, old_height, old_width, channels = pictures.shape
    if (height, width) == (old_height, old_width):
        return pictures
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
    rows = _whole(_weights(old_height, height) @ planes)
    columns = _whole(rows.reshape(-1, old_width) @ _weights(old_width, width).T)
    planes = columns.reshape(n, channels, height, width)
    return planes.transpose(0, 2, 3, 1).astype(np.uint8, order="C")


@lru_cache(maxsize=256)
def _weights(old: int, new: int) -> NDArray[np.float32]:
    """Weights of the old pixels in each new pixel, (new, old): integers; each row sums to 2^14."""
    radius = max(1.0, old / new)
    centre = (np.arange(new) + 0.5) * old / new
    weight = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centre[:, None]) / radius)
    edges = np.rint(np.cumsum(weight, 1) / weight.sum(1, keepdims=True) * _ONE)
    return np.asarray(np.diff(edges, axis=1, prepend=0), np.float32)


def _whole(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide weighted sums by 2^14 and round to integers, in place."""
    sums *= np.float32(1 / _ONE)
    sums += np.float32(0.5)
    return np.floor(sums, out=sums)
