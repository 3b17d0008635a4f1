"""Grids: their shapes, palettes and cells as integer arrays, without questions and rendering.

Cells are i.i.d. uniform over the palette. The split of a grid with at least nine cells is a hash of
its content (shape, classes, palette as a set). A grid is drawn again until its hash gives the
wanted split, so no grid of one split occurs in another, whatever sizes its spec draws from. Smaller
grids, and palettes of one object, have too few different contents for that: only their tiles differ
between the splits.

Shapes: B samples of a batch, R rows of a grid, C columns of a grid.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.grids import ContentConfig, bounds
from gpt2v.data import rng
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.errors import UserError

_SPLIT_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
_SMALLEST_SPLIT_BY_CONTENT = 9  # cells


@dataclass(frozen=True)
class Dice:
    """Random numbers for B samples. Every purpose has its own draws."""

    seed: int
    split: str
    index: Ints  # (B,)

    @cached_property
    def _spread(self) -> U64:
        return rng.spread(self.index)

    def keys(self, purpose: str) -> U64:
        """One key per sample, (B,)."""
        return rng.keys_of(self.seed, f"{self.split}/{purpose}", self._spread)

    def words(self, purpose: str, n: int) -> U64:
        """(B, n) words of 64 random bits."""
        return rng.bits(self.keys(purpose), n)

    def between(self, purpose: str, size: int | list[int]) -> Ints:
        """A size for each sample, (B,): fixed, or uniform within its bounds (both included)."""
        low, high = bounds(size)
        if low == high:
            return np.full(len(self.index), low, np.int64)
        return low + rng.below(self.words(purpose, 1)[:, 0], high - low + 1)

    def order(self, purpose: str, allowed: NDArray[np.bool_]) -> Ints:
        """The numbers 0..n-1 in random order, the allowed ones first: (B, n) -> (B, n)."""
        words = self.words(purpose, allowed.shape[1])
        if not allowed.all():
            words = np.where(allowed, words >> np.uint64(1), words | np.uint64(1 << 63))
        return np.argsort(words, axis=1, kind="stable")


@dataclass(frozen=True)
class Grids:
    """B grids in arrays of the largest shape among them; -1 outside a grid's own shape."""

    index: Ints  # (B,) sample indices within the split
    split: Ints  # (B,) index into SPLITS
    key: U64  # (B,) random key of a rendering
    classes: Ints  # (B, R, C) class of each cell
    tiles: Ints  # (B, R, C) id of the tile in each cell, see `tiles.bank`
    palette: Ints  # (B, max_objects) classes in the prompt's order; -1 past a palette's end

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Which entries of the arrays are cells of a grid, (B, R, C)."""
        return self.classes >= 0

    @cached_property
    def rows(self) -> Ints:
        """Number of rows of each grid, (B,)."""
        return np.asarray(self.inside[:, :, 0].sum(1))

    @cached_property
    def cols(self) -> Ints:
        """Number of columns of each grid, (B,)."""
        return np.asarray(self.inside[:, 0].sum(1))

    @property
    def n_cells(self) -> Ints:
        """Number of cells of each grid, (B,)."""
        return self.rows * self.cols

    @cached_property
    def shapes(self) -> tuple[Ints, Ints]:
        """The different shapes (n_shapes, 2), and the index of each grid's shape (B,)."""
        return _shapes(self.rows, self.cols)

    @cached_property
    def n_objects(self) -> Ints:
        """Number of objects in each palette, (B,)."""
        return np.asarray((self.palette >= 0).sum(1))

    @cached_property
    def counts(self) -> Ints:
        """Number of cells that hold each object of the palette, (B, max_objects)."""
        flat = self.classes.reshape(len(self.classes), 1, -1)
        return np.asarray(((flat == self.palette[:, :, None]) & (flat >= 0)).sum(-1))


def content_keys(classes: Ints, palette: Ints) -> U64:
    """A hash of the content of each grid, (B,): of its shape, classes, and palette as a set.

    Args:
        classes: (B, R, C), -1 outside a grid's shape.
        palette: (B, max_objects), -1 past its end.
    """
    shapes, which = _shapes((classes[:, :, 0] >= 0).sum(1), (classes[:, 0] >= 0).sum(1))
    zero = np.zeros(1, np.int64)
    starts = [rng.keys(0, f"content/{r}x{c}", zero)[0] for r, c in shapes.tolist()]
    state = np.array(starts, np.uint64)[which]
    values = np.concatenate([np.sort(palette, 1), classes.reshape(len(classes), -1)], axis=1)
    present = values >= 0
    ragged = not present.all()
    words = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for column in range(words.shape[1]):
        mixed = rng.mix(state ^ words[:, column])
        state = np.where(present[:, column], mixed, state) if ragged else mixed
    return state


def content_split(classes: Ints, palette: Ints) -> Ints:
    """The split that each grid belongs to by its content: an index into SPLITS, (B,).

    See `content_keys` for the arguments.
    """
    state = content_keys(classes, palette)
    shares = np.cumsum([_SPLIT_SHARES[name] for name in SPLITS])
    return np.minimum(np.searchsorted(shares, rng.unit(state), side="right"), len(SPLITS) - 1)


def is_split_by_content(n_cells: Ints, n_objects: Ints) -> NDArray[np.bool_]:
    """Whether grids have enough contents to be split by them, in the shape of `n_cells`."""
    return np.asarray((n_cells >= _SMALLEST_SPLIT_BY_CONTENT) & (n_objects > 1))


def draw_grids(spec: ContentConfig, bank: TileBank, dice: Dice) -> Grids:
    """The grids of these samples, each a pure function of (spec, bank, seed, split, index).

    Raises:
        UserError: the palette has more objects than the bank has classes.
    """
    n_classes, most = len(bank.class_names), bounds(spec.palette)[1]
    if most > n_classes:
        raise UserError(
            f"palette: {most} objects, but the {bank.name} tiles have {n_classes} classes"
        )
    rows, cols = dice.between("rows", spec.rows), dice.between("cols", spec.cols)
    n_objects = dice.between("palette", spec.palette)
    shape = (len(dice.index), bounds(spec.rows)[1], bounds(spec.cols)[1])
    inside = np.arange(shape[1])[:, None] < rows[:, None, None]
    inside = inside & (np.arange(shape[2]) < cols[:, None, None])
    palette, classes = _draw_content(inside, n_objects, most, n_classes, dice)

    # The listed order has its own draws, so it says nothing about the content.
    order = dice.order("order", palette >= 0)
    words = dice.words("tiles", shape[1] * shape[2]).reshape(shape)
    tiles = bank.pick(dice.split, np.maximum(classes, 0), words)
    return Grids(
        index=dice.index,
        split=np.full(len(dice.index), SPLITS.index(dice.split)),
        key=dice.keys("rendering"),
        classes=classes,
        tiles=np.where(inside, tiles, -1),
        palette=np.take_along_axis(palette, order, axis=1),
    )


def _draw_content(
    inside: NDArray[np.bool_], n_objects: Ints, most: int, n_classes: int, dice: Dice
) -> tuple[Ints, Ints]:
    """Palettes (B, max_objects) and classes (B, R, C) whose content belongs to the dice's split."""
    batch, n_cells = len(inside), inside.shape[1] * inside.shape[2]
    palette = np.empty((batch, most), np.int64)
    classes = np.empty(inside.shape, np.int64)
    by_content = is_split_by_content(inside.reshape(batch, -1).sum(1), n_objects)
    todo = np.arange(batch)
    # After a failed attempt, many are drawn at once; the first one that fits is taken.
    first, tries = 0, 1
    while len(todo):
        again = Dice(dice.seed, dice.split, dice.index[todo])
        purposes = [f"content/{attempt}" for attempt in range(first, first + tries)]
        words = np.concatenate([again.words(p, n_classes + n_cells) for p in purposes])
        sample = np.tile(todo, tries)
        size = n_objects[sample, None]
        drawn = np.argsort(words[:, :n_classes], axis=1, kind="stable")[:, :most]
        cells = np.take_along_axis(drawn, rng.below(words[:, n_classes:], size), axis=1)
        listed = np.where(np.arange(most) < size, drawn, -1)
        filled = np.where(inside[sample], cells.reshape(-1, *inside.shape[1:]), -1)
        fits = ~by_content[sample]
        if not fits.all():
            fits |= content_split(filled, listed) == SPLITS.index(dice.split)
        by_try = fits.reshape(tries, -1)
        chosen = by_try.argmax(0) * len(todo) + np.arange(len(todo))
        palette[todo], classes[todo] = listed[chosen], filled[chosen]
        todo = todo[~by_try.any(0)]
        first, tries = first + tries, min(4 * tries, 32)
    return palette, classes


def _shapes(rows: Ints, cols: Ints) -> tuple[Ints, Ints]:
    """The different pairs (n_shapes, 2), and the index of each grid's pair (B,)."""
    codes = rng.different(rows * 1000 + cols)
    if len(codes) == 1:
        return np.array([divmod(codes[0], 1000)]), np.zeros(len(rows), np.int64)
    shapes = np.array([divmod(code, 1000) for code in codes]).reshape(-1, 2)
    return shapes, np.searchsorted(np.array(codes), rows * 1000 + cols)
