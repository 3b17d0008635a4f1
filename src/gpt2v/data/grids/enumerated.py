"""The best answer without the grid where a split holds few contents: counted, not expected.

A 3x3 grid of two objects has 512 contents, of which about 51 are in the test split. Their cells are
not independent any more: the most frequent answer to a question is right in more than half of them.

Shapes: J questions in a flat list.
"""

from functools import lru_cache

import numpy as np

from gpt2v.data.grids.cells import Grids, content_split, is_split_by_content
from gpt2v.data.grids.instructions.base import FIELDS, Asked, Floats, Instruction, Vocabulary
from gpt2v.data.text_pieces import Strings

MOST = 20_000  # contents of one shape and palette that are enumerated


def blind_by_counting(instruction: Instruction, asked: Asked) -> Floats:
    """Accuracy of the best answer to each question, without its grid, (J,).

    It is counted over all contents of the split with the shape and the palette of the question's
    grid. NaN: the contents are too many, the split is not one of contents, or what is asked depends
    on what the cells hold.
    """
    found = np.full(len(asked.grid), np.nan)
    grids = asked.grids
    few = grids.n_objects.astype(np.float64) ** grids.n_cells <= MOST
    few &= is_split_by_content(grids.n_cells, grids.n_objects)
    at = np.flatnonzero(few[asked.grid])
    if not (instruction.asks_blindly and len(at)):
        return found
    palettes = np.sort(grids.palette, axis=1)
    kinds = np.column_stack([grids.split, grids.rows, grids.cols, palettes])
    kind, which = np.unique(kinds[asked.grid[at]], axis=0, return_inverse=True)
    fields = np.column_stack([getattr(asked, name)[at] for name in FIELDS])
    for number, (split, rows, cols, *palette) in enumerate(kind.tolist()):
        of_kind = np.flatnonzero(which.reshape(-1) == number)
        different, back = np.unique(fields[of_kind], axis=0, return_inverse=True)
        kept = tuple(one for one in palette if one >= 0)
        best = [
            _most_frequent(instruction, split, rows, cols, kept, tuple(one))
            for one in different.tolist()
        ]
        found[at[of_kind]] = np.array(best)[back.reshape(-1)]
    return found


@lru_cache(maxsize=100_000)
def _most_frequent(
    instruction: Instruction,
    split: int,
    rows: int,
    cols: int,
    palette: tuple[int, ...],
    fields: tuple[int, ...],
) -> float:
    """The share of grids in which a question has its most frequent answer.

    Args:
        fields: of the question, in the order of `FIELDS`.
    """
    contents = _contents(split, rows, cols, palette)
    n = len(contents.index)
    values = {name: np.full(n, value) for name, value in zip(FIELDS, fields, strict=True)}
    asked = Asked(grids=contents, grid=np.arange(n), base=np.zeros(n, np.int64), **values)
    names = tuple(str(number) for number in range(max(palette) + 1))
    answers = instruction.answer(asked, Vocabulary(Strings(), names))
    return float(np.unique(answers, axis=0, return_counts=True)[1].max() / n)


@lru_cache(maxsize=8)
def _contents(split: int, rows: int, cols: int, palette: tuple[int, ...]) -> Grids:
    """All grids of one shape and palette whose content is in a split, without tiles."""
    n = len(palette) ** (rows * cols)
    digits = np.arange(n)[:, None] // len(palette) ** np.arange(rows * cols) % len(palette)
    classes = np.array(palette)[digits].reshape(n, rows, cols)
    palettes = np.tile(palette, (n, 1))
    classes = classes[content_split(classes, palettes) == split]
    n = len(classes)
    return Grids(
        index=np.arange(n),
        split=np.full(n, split),
        key=np.zeros(n, np.uint64),
        classes=classes,
        tiles=np.full(classes.shape, -1),
        palette=palettes[:n],
    )
