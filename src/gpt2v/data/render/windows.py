"""Pictures of grids as windows: squares that a vision tower sees each by itself.

If the cells of a grid are windows, its features are those of its tiles, whatever the grid.

Shapes: P pictures.
"""

import numpy as np

from gpt2v.data.grids.cells import Grids
from gpt2v.data.render.pictures import Pictures, is_random


def as_windows(pictures: Pictures, window: int | None) -> Pictures | None:
    """The windows of pictures, in raster order of each picture: n * n of each, keys (P * n * n,).

    Each is a picture of one cell, or of none where the canvas is empty. Equal ones have equal keys,
    in all grids and layouts.

    Args:
        window: side of a window in pixels; None: there are no windows.

    Returns:
        None where a window is not exactly a cell that depends on its tile alone, or a picture is
        one window.
    """
    grids, picture, size = pictures.grids, pictures.picture, pictures.image_size
    if window is None or window == size or window != (picture.cell or pictures.bank.size):
        return None
    if picture.gap or picture.border or picture.resize or picture.blur:
        return None
    if is_random(grids, pictures.bank, picture):
        return None
    sample, row, col = np.nonzero(grids.inside)
    number, owner = sample, np.arange(len(grids.index))  # the picture of a cell; its grid
    if picture.layout == "multi":
        number, owner = np.arange(len(sample)), sample
        row = col = np.zeros_like(sample)
    n = size // window
    tiles, classes = np.full((2, len(owner), n, n), -1)
    tiles[number, row, col] = grids.tiles[grids.inside]
    classes[number, row, col] = grids.classes[grids.inside]
    owner = np.repeat(owner, n * n)
    cells = Grids(
        index=grids.index[owner],
        split=grids.split[owner],
        key=grids.key[owner],
        classes=classes.reshape(-1, 1, 1),
        tiles=tiles.reshape(-1, 1, 1),
        palette=grids.palette[owner],
    )
    single = picture.model_copy(update={"layout": "composite"})
    return Pictures(cells, pictures.bank, window, single)
