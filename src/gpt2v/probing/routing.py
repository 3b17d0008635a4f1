"""What can be read where a question is read: the asked cell's object, or that of other cells.

If the language model fetches the object of the cell that it is asked about, then a decoder finds
it, layer by layer, at the end of the question's words and where the answer is predicted. Objects of
other cells tell how precisely it fetches: those of the cell's row, of its column, and all others.
Where only the number of each object in the grid stands, any cell is read as well as by a bag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.sites import Site
from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.probing.decoders.base import Decoder
from gpt2v.probing.splits import counts_of
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Bools, Shared

TARGETS = ("asked", "row", "column", "other")
_MOST = 2  # questions about a grid that are read

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Questions:
    """Questions about single cells of grids of one size, and the grids.

    Attributes:
        index: (n_images,) numbers of the grids.
        cell: (n_images, n_questions) the cell that each asks about, in raster order.
        labels: (n_images, n_cells) classes of all cells.
        tiles: (n_images, n_cells) their tiles.
        allowed: (n_images, n_classes) the classes of each palette.
        n_cols: number of columns of a grid.
    """

    index: Ints
    cell: Ints
    labels: Ints
    tiles: Ints
    allowed: Bools
    n_cols: int


@dataclass(frozen=True)
class Rows:
    """Some of the questions, and a cell of each kind for each of them.

    Attributes:
        image, slot: (n_rows,) which questions they are.
        cells: for each kind in `TARGETS` a cell for each row, (n_rows,); kinds that grids of this
            size do not have are left out.
    """

    image: Ints
    slot: Ints
    cells: dict[str, Ints]

    @classmethod
    def of(cls, questions: Questions, seed: int, most: int = _MOST) -> "Rows":
        """At most so many questions about each grid, drawn with a seed as the cells are."""
        n_images, n_questions = questions.cell.shape
        drawn = rng.permutations(rng.keys(seed, "routing/questions", questions.index), n_questions)
        slot = drawn[:, :most].reshape(-1)
        image = np.repeat(np.arange(n_images), min(most, n_questions))
        asked = questions.cell[image, slot]
        every = np.arange(questions.labels.shape[1])
        row, col = (
            asked[:, None] // questions.n_cols == every // questions.n_cols,
            asked[:, None] % questions.n_cols == every % questions.n_cols,
        )
        kinds = {"asked": row & col, "row": row & ~col, "column": col & ~row, "other": ~row & ~col}
        keys = rng.keys(seed, "routing/cells", questions.index[image] * n_questions + slot)
        dice = rng.unit(rng.bits(keys, len(every)))
        return cls(
            image,
            slot,
            {
                kind: np.where(those, dice, -1).argmax(1)
                for kind, those in kinds.items()
                if those.any(1).all()
            },
        )


def routing_rows(
    site: Site,
    states: Sequence[Features],
    questions: Sequence[Questions],
    decoder: Decoder,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What a decoder reads at a site of questions.

    Args:
        site: `question.L` or `answer.L`.
        states: (n_images, n_questions, n_features) at the site, of train, val and test.
        questions: of the same.
        decoder: what is fitted.
        seed: of the questions and cells that are drawn.

    Returns:
        A row for each kind of cell: `target`; `accuracy` among all classes, and `palette_accuracy`
        among those of the grid's palette, with their 95% intervals; `chance` of the latter; and
        `bag`, what it would be if only the number of each object in the grid could be read; of
        cells that are not asked about, these numbers and the asked cell's object.
    """
    drawn = [Rows.of(own, seed) for own in questions]
    x = [part[rows.image, rows.slot] for part, rows in zip(states, drawn, strict=True)]
    targets = list(drawn[0].cells)
    labels = [
        np.stack([own.labels[rows.image, rows.cells[target]] for target in targets])
        for own, rows in zip(questions, drawn, strict=True)
    ]
    n_classes = questions[0].allowed.shape[1]
    fitted = decoder.fit(x[0], labels[0], x[1], labels[1], n_classes)
    test, rows = questions[2], drawn[2]
    allowed = test.allowed[rows.image]
    counts = counts_of(test.labels, n_classes)[rows.image]
    n_cells = test.labels.shape[1]
    elsewhere = counts - np.eye(n_classes, dtype=counts.dtype)[labels[2][targets.index("asked")]]
    found = []
    for target, own, truth in zip(targets, fitted, labels[2], strict=True):
        scores = own.scores(x[2])
        tiles = test.tiles[rows.image, rows.cells[target]]
        shared = Shared(test.index[rows.image], tiles[:, None])
        right = scores.argmax(1) == truth
        in_palette = np.where(allowed, scores, -np.inf).argmax(1) == truth
        is_asked = target == "asked"
        bag = counts.max(1) / n_cells if is_asked else elsewhere.max(1) / (n_cells - 1)
        found.append(
            {
                "position": site.name,
                "layer": site.layer,
                "target": target,
                "accuracy": float(right.mean()),
                "ci95": list(rate_interval(right, shared)),
                "palette_accuracy": float(in_palette.mean()),
                "palette_ci95": list(rate_interval(in_palette, shared)),
                "chance": float((1 / allowed.sum(1)).mean()),
                "bag": float(bag.mean()),
                "n_train": len(x[0]),
                "n_images": len(test.index),
            }
        )
    return found
