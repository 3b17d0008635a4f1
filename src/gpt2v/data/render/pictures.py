"""Image rendering: pictures of grids, or of single cells, from tiles; and keys of pictures, which
identify them without drawing them.

Shapes: B samples of a batch, P pictures, R rows of a grid, C columns of a grid,
S side of a picture in pixels.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.pictures import PictureConfig, TileAugmentConfig
from gpt2v.data import rng
from gpt2v.data.grids.cells import Grids
from gpt2v.data.render.spans import filling_size, natural_size
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.augment import blur, noise
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.resizing import resize


@dataclass(frozen=True)
class Pictures:
    """All pictures of some grids. They are drawn when their pixels are first used."""

    grids: Grids
    bank: TileBank
    image_size: int  # S
    picture: PictureConfig

    def __len__(self) -> int:
        return int(self.grids.inside.sum()) if self.picture.layout == "multi" else self.n_grids

    @property
    def n_grids(self) -> int:
        return len(self.grids.index)

    @cached_property
    def keys(self) -> U64:
        """A key of each picture, (P,), see `picture_keys`."""
        return picture_keys(self.grids, self.bank, self.picture)

    @cached_property
    def pixels(self) -> Pixels:
        """Pixels of all pictures, (P, S, S, 3) uint8."""
        return compose(self.grids, self.bank, self.image_size, self.picture)


def picture_keys(
    grids: Grids, bank: TileBank, picture: PictureConfig | None = None, salt: int = 0
) -> U64:
    """A key for each picture that `compose` draws from one bank at one size, (P,) uint64.

    Equal keys mean equal pictures, in all grids, layouts and data sets. A key is a hash of the way
    the picture is drawn, its shape, its tiles, and the random keys of its cells if drawing uses
    them.

    Args:
        salt: another number gives other keys. Two pictures that share a key by accident differ in
            their keys with another salt.
    """
    picture = picture or PictureConfig()
    cell, in_cells = cell_keys(grids), _draws_cells(grids, bank, picture)
    row, col = np.indices(cell[0].shape).astype(np.uint64)
    location = (row << np.uint64(48)) + (col << np.uint64(32))  # the same in arrays of any shape
    if picture.layout == "multi":  # each picture is a grid of one cell
        cell, location = cell[grids.inside][:, None], np.zeros(1, np.uint64)
        tiles = grids.tiles[grids.inside][:, None]
        rows = cols = np.ones(len(tiles), np.int64)
    else:
        cell, location = cell.reshape(len(cell), -1), location.reshape(-1)
        tiles, rows, cols = grids.tiles.reshape(len(cell), -1), grids.rows, grids.cols
    drawn = picture.model_copy(update={"layout": "composite"}).model_dump_json()
    digest = hashlib.sha256(f"{salt}/{drawn}".encode()).digest()
    start = np.uint64(int.from_bytes(digest[:8], "little"))
    words = rng.mix(start ^ rng.mix(rng.mix(location) ^ np.maximum(tiles, 0).astype(np.uint64)))
    if in_cells:
        words = rng.mix(words ^ cell)
    words = np.where(tiles >= 0, words, np.uint64(0))
    shape = (rows * 1000 + cols).astype(np.uint64)
    keys: U64 = rng.mix(start ^ rng.mix(shape) ^ words.sum(1, dtype=np.uint64))
    if picture.noise:
        keys = rng.mix(keys ^ rng.mix(cell[:, 0]))
    return keys


def cell_keys(grids: Grids) -> U64:
    """A random key for each cell, (B, R, C)."""
    rows, cols = grids.tiles.shape[1:]
    number = np.arange(rows * cols, dtype=np.uint64).reshape(rows, cols)
    return rng.mix(grids.key[:, None, None] ^ rng.mix(number + np.uint64(1)))


def is_random(grids: Grids, bank: TileBank, picture: PictureConfig) -> bool:
    """Whether these grids' pictures depend on random draws, and not on their tiles alone."""
    return _draws_cells(grids, bank, picture) or picture.noise > 0


def _draws_cells(grids: Grids, bank: TileBank, picture: PictureConfig) -> bool:
    """Whether the look of a cell depends on its random key."""
    moves = picture.scale[0] < picture.scale[1] or picture.jitter > 0
    return moves or (_trains(grids) and bank.augment != TileAugmentConfig())


def _trains(grids: Grids) -> bool:
    """Whether all grids are of split train."""
    return bool((grids.split == SPLITS.index("train")).all())


def compose(
    grids: Grids, bank: TileBank, image_size: int, picture: PictureConfig | None = None
) -> Pixels:
    """Pictures as a vision tower takes them, (P, S, S, 3) uint8: one of each grid, or of each cell.

    A picture is put at the top left of a canvas in the background's colour. With
    `picture.resize` it is first scaled until its longer side fills the canvas.

    Args:
        image_size: S, the side that the vision tower takes.
    """
    picture = picture or PictureConfig()
    sheets = [
        (where, on_canvas(sheet, image_size, picture))
        for where, sheet in _drawn(grids, bank, picture)
    ]
    if len(sheets) == 1:
        return sheets[0][1]
    total = sum(len(where) for where, _ in sheets)
    whole = np.empty((total, image_size, image_size, 3), np.uint8)
    for where, canvas in sheets:
        whole[where] = canvas
    return whole


def on_canvas(sheet: Pixels, image_size: int, picture: PictureConfig) -> Pixels:
    """Pictures in their own size, (P, height, width, 3), as a vision tower takes them.

    See `compose`, whose pictures are drawn by the project itself.
    """
    height, width = sheet.shape[1:3]
    if (height, width) == (image_size, image_size):
        return sheet
    canvas = np.empty((len(sheet), image_size, image_size, 3), np.uint8)
    canvas[:] = np.array(picture.background, np.uint8)
    if picture.resize:
        height, width = filling_size(height, width, image_size)
        sheet = resize(sheet, height, width)
    canvas[:, :height, :width] = sheet
    return canvas


def natural_pictures(
    grids: Grids, bank: TileBank, picture: PictureConfig | None = None
) -> list[list[Pixels]]:
    """The pictures of each grid in their own sizes, (height, width, 3) uint8 each."""
    picture = picture or PictureConfig()
    drawn: list[Pixels | None] = []
    for where, sheet in _drawn(grids, bank, picture):
        drawn += [None] * (int(where.max(initial=-1)) + 1 - len(drawn))
        for number, pixels in zip(where.tolist(), sheet, strict=True):
            drawn[number] = pixels
    counts = grids.n_cells if picture.layout == "multi" else np.ones(len(grids.index), np.int64)
    ends = np.cumsum(counts)
    return [
        [p for p in drawn[start:end] if p is not None]
        for start, end in zip((ends - counts).tolist(), ends.tolist(), strict=True)
    ]


def _drawn(grids: Grids, bank: TileBank, picture: PictureConfig) -> Iterator[tuple[Ints, Pixels]]:
    """Draw the pictures in their own sizes.

    Yields:
        For each size: the numbers of its pictures (n,), and their pixels (n, height, width, 3).
    """
    keys, trains = cell_keys(grids), _trains(grids)
    if picture.layout == "multi":
        tiles, keys = grids.tiles[grids.inside], keys[grids.inside]
        one = (len(tiles), 1, 1)
        yield (
            np.arange(len(tiles)),
            _sheet(tiles.reshape(one), keys.reshape(one), bank, picture, trains),
        )
        return
    if grids.inside.all():
        yield np.arange(len(keys)), _sheet(grids.tiles, keys, bank, picture, trains)
        return
    shapes, which = grids.shapes
    for number, (n_rows, n_cols) in enumerate(shapes.tolist()):
        where = np.flatnonzero(which == number)
        part = (where, slice(n_rows), slice(n_cols))
        yield where, _sheet(grids.tiles[part], keys[part], bank, picture, trains)


def _sheet(tiles: Ints, keys: U64, bank: TileBank, picture: PictureConfig, trains: bool) -> Pixels:
    """Pictures (n, height, width, 3) of n grids of one shape.

    Args:
        tiles: (n, R, C).
        keys: (n, R, C) a random key for each cell.
        trains: whether the tiles are augmented.
    """
    cell = picture.cell or bank.size
    given = keys if trains else None
    n, rows, cols = tiles.shape
    if not tiles.size:  # nothing on the canvas
        return np.empty((n, 0, 0, 3), np.uint8)
    height, width = natural_size(rows, cols, cell, picture)
    as_they_are = cell == bank.size and picture.scale == [1.0, 1.0]
    if as_they_are and (height, width) == (rows * cell, cols * cell):
        sheet = bank.mosaic(tiles, given)
    else:
        pixels = bank.take(tiles, given)  # (n, R, C, size, size, 3)
        if not as_they_are:
            pixels = _in_cells(pixels, keys, cell, picture)
        sheet = np.empty((n, height, width, 3), np.uint8)
        sheet[:] = np.array(picture.background, np.uint8)
        pitch = cell + picture.gap
        for r in range(rows):
            for c in range(cols):
                y, x = picture.border + r * pitch, picture.border + c * pitch
                sheet[:, y : y + cell, x : x + cell] = pixels[:, r, c]
    if picture.blur:
        sheet = blur(sheet, np.full(n, picture.blur))
    if picture.noise:
        sheet = noise(sheet, np.full(n, picture.noise), rng.mix(keys[:, 0, 0]))
    return sheet


def _in_cells(pixels: Pixels, keys: U64, cell: int, picture: PictureConfig) -> Pixels:
    """Put tiles into larger or smaller cells, each at its own scale and offset.

    Args:
        pixels: (n, R, C, size, size, 3) tiles.
        keys: (n, R, C) a random key for each cell.
        cell: side of a cell in pixels.

    Returns:
        Cells (n, R, C, cell, cell, 3).
    """
    n, rows, cols = keys.shape
    words = rng.bits(rng.mix(~keys.reshape(-1)), 3)  # independent of the augmentation's draws
    low, high = (max(1, round(cell * scale)) for scale in picture.scale)
    sides = low + rng.below(words[:, 0], high - low + 1)
    cells = np.empty((len(sides), cell, cell, 3), np.uint8)
    cells[:] = np.array(picture.background, np.uint8)
    flat = pixels.reshape(len(sides), *pixels.shape[3:])
    for side in np.unique(sides).tolist():
        where = np.flatnonzero(sides == side)
        spare = cell - side
        reach = min(picture.jitter, spare // 2)
        y, x = (spare // 2 - reach + rng.below(words[where, k], 2 * reach + 1) for k in (1, 2))
        inner = np.arange(side)
        down, right = y[:, None, None] + inner[:, None], x[:, None, None] + inner
        cells[where[:, None, None], down, right] = resize(flat[where], side, side)
    whole: NDArray[np.uint8] = cells.reshape(n, rows, cols, cell, cell, 3)
    return whole
