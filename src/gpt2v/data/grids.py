"""Grids and their questions as integer arrays: the sample, before any rendering.

Cells are i.i.d. uniform over the palette. From 3x3 up the split of a grid is a hash of its content
(shape, classes, palette as a set), reached by rejection, so no grid of one split occurs in another;
smaller grids, and palettes of one object, have too few contents for that and are disjoint in source
pictures only.
"""

from dataclasses import dataclass, field

import numpy as np

from gpt2v.config import GridConfig
from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.data.tiles import SPLITS, TileBank
from gpt2v.data.wording import draw_wording
from gpt2v.errors import UserError

_SPLIT_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def _plain() -> Ints:
    return np.zeros(1, np.int64)


@dataclass(frozen=True)
class Samples:
    """B samples of one shape; the text and image renderings are two views of them.

    How they are worded is 0 throughout for the task's own words; in samples made by hand it may be
    left out, as one zero for all of them.
    """

    index: Ints  # (B,) sample indices within the split
    key: rng.U64  # (B,) for what a rendering draws at random
    classes: Ints  # (B, R, C) class of each cell
    tiles: Ints  # (B, R, C) tile of each cell, an index into the bank's pictures
    palette: Ints  # (B, P) classes in the order in which the prompt lists them
    row: Ints  # (B, Q) the cell that each question asks for
    col: Ints  # (B, Q)
    base: Ints = field(default_factory=_plain)  # (B,) number that words give the first row, column
    delimiter: Ints = field(default_factory=_plain)  # (B,) index into wording.DELIMITERS
    prompt: Ints = field(default_factory=_plain)  # (B,) index into wording.PROMPTS
    question: Ints = field(default_factory=_plain)  # (B, Q) index into wording.QUESTIONS

    @property
    def answer(self) -> Ints:
        """Class of the right answer of each question, (B, Q)."""
        return self.classes[np.arange(len(self.index))[:, None], self.row, self.col]


def content_split(classes: Ints, palette: Ints) -> Ints:
    """Which split's grid this is, by content alone: an index into SPLITS, (B,)."""
    batch, rows, cols = classes.shape
    state = rng.keys(0, f"content/{rows}x{cols}", np.zeros(batch, np.int64))
    for value in np.concatenate([np.sort(palette, 1), classes.reshape(batch, -1)], axis=1).T:
        state = rng.mix(state ^ (value.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    shares = np.cumsum([_SPLIT_SHARES[name] for name in SPLITS])
    return np.minimum(np.searchsorted(shares, rng.unit(state), side="right"), len(SPLITS) - 1)


def draw_samples(spec: GridConfig, bank: TileBank, seed: int, split: str, index: Ints) -> Samples:
    """The samples with these indices, each a pure function of (spec, bank, seed, split, index)."""
    n_classes, n_cells = len(bank.class_names), spec.rows * spec.cols
    if spec.palette > n_classes:
        raise UserError(
            f"palette: {spec.palette} objects, but the {bank.name} tiles have {n_classes} classes"
        )
    index = np.asarray(index, np.int64)
    palette, cells = _draw_content(spec, n_classes, seed, split, index)
    classes = np.take_along_axis(palette, cells, axis=1)

    # The listed order is drawn apart from the content, so that it cannot give the content away.
    order = rng.permutations(rng.keys(seed, f"{split}/order", index), spec.palette)
    palette = np.take_along_axis(palette, order, axis=1)
    tile_words = rng.bits(rng.keys(seed, f"{split}/tiles", index), n_cells)
    tiles = bank.pick(split, classes, tile_words)
    asked = rng.permutations(rng.keys(seed, f"{split}/questions", index), n_cells)
    asked = asked[:, : spec.n_questions]
    if spec.augment.order == "raster":
        asked = np.sort(asked, axis=1)
    wording = rng.keys(seed, f"{split}/wording", index)
    shape = (len(index), spec.rows, spec.cols)
    return Samples(
        index=index,
        key=rng.keys(seed, f"{split}/rendering", index),
        classes=classes.reshape(shape),
        tiles=tiles.reshape(shape),
        palette=palette,
        row=asked // spec.cols,
        col=asked % spec.cols,
        **draw_wording(spec.augment, wording, spec.n_questions),
    )


def _draw_content(
    spec: GridConfig, n_classes: int, seed: int, split: str, index: Ints
) -> tuple[Ints, Ints]:
    """Palettes (B, P) and cells (B, R*C, indices into the palette) whose content is `split`'s."""
    n_cells = spec.rows * spec.cols
    palette = np.empty((len(index), spec.palette), np.int64)
    cells = np.empty((len(index), n_cells), np.int64)
    todo = np.arange(len(index))
    attempt = 0
    while len(todo):
        key = rng.keys(seed, f"{split}/content/{attempt}", index[todo])
        words = rng.bits(key, n_classes + n_cells)
        palette[todo] = np.argsort(words[:, :n_classes], axis=1, kind="stable")[:, : spec.palette]
        cells[todo] = rng.below(words[:, n_classes:], spec.palette)
        if n_cells < 9 or spec.palette == 1:
            break
        classes = np.take_along_axis(palette[todo], cells[todo], axis=1)
        found = content_split(classes.reshape(-1, spec.rows, spec.cols), palette[todo])
        todo = todo[found != SPLITS.index(split)]
        attempt += 1
    return palette, cells
