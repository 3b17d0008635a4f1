"""Pictures cut into windows, n x n squares of each, and the patches of windows joined again.

Shapes: P pictures, N patches of a picture, D width of a hidden state, S side of a picture in
pixels.
"""

import math

from torch import Tensor


def cut_windows(pictures: Tensor, n: int) -> Tensor:
    """(P, 3, S, S) -> (P * n * n, 3, S / n, S / n)."""
    count, channels, side = pictures.shape[0], pictures.shape[1], pictures.shape[-1] // n
    squares = pictures.reshape(count, channels, n, side, n, side).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(-1, channels, side, side)


def join_windows(patches: Tensor, n: int) -> Tensor:
    """The patches of windows, each in raster order, in raster order of the whole picture.

    (P * n * n, N / n / n, D) -> (P, N, D)
    """
    count, side, width = len(patches) // n**2, math.isqrt(patches.shape[1]), patches.shape[2]
    squares = patches.reshape(count, n, n, side, side, width)
    return squares.transpose(2, 3).reshape(count, (n * side) ** 2, width)
