"""Whether a processor shows each picture as a whole, or cuts it into several, or crops it."""

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gpt2v.data.tiles.resizing import resize

_SQUARES = 4  # of the pattern, in a row
_ALIKE = 0.95  # correlation of pictures that differ only in how they are scaled


def pattern(size: tuple[int, int]) -> Image.Image:
    """Squares of different greys.

    Args:
        size: width and height in pixels.
    """
    greys = np.arange(_SQUARES**2).reshape(_SQUARES, _SQUARES) * 7 % _SQUARES**2 * 17
    col, row = (np.arange(side) * _SQUARES // side for side in size)
    pixels = greys[np.ix_(row, col)].astype(np.uint8)
    return Image.fromarray(np.stack([pixels] * 3, axis=-1))


def is_whole(found: Any, shown: Image.Image, side: int) -> bool:
    """Whether what a processor gives is one picture which a shown one fills.

    Args:
        found: its `pixel_values` of the one picture.
        shown: see `pattern`.
        side: of the vision tower's picture.
    """
    if not isinstance(found, Tensor) or found.shape[-2:] != (side, side):
        return False
    if found.numel() != 3 * side**2:
        return False
    seen = found.detach().float().cpu().reshape(3, side, side).mean(0).numpy()
    wanted = resize(np.asarray(shown)[None], side, side)[0, ..., 0]
    return bool(np.corrcoef(seen.ravel(), wanted.ravel())[0, 1] > _ALIKE)
