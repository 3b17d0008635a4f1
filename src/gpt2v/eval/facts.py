"""What the grids of an evaluation ask for: baselines, and whether their contents are new.

Grids of fewer than nine cells, or of one object, have too few contents for a split. As pictures
they are new, because their tiles are; as text they may have been trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import Tally, pooled, tally
from gpt2v.data.grids.cells import content_keys, is_split_by_content

_PORTION = 5000  # grids at once
_FEW = 0.5  # share of different grids below which it is said


@dataclass(frozen=True)
class Facts:
    """Facts of one data set.

    Attributes:
        baselines: of each instruction.
        n_images: number of grids.
        n_contents: number of different ones.
        is_new: whether no grid has a content of another split.
    """

    baselines: Tally
    n_images: int
    n_contents: int
    is_new: bool

    @classmethod
    def of(cls, data: GridDataset) -> "Facts":
        """The facts of a data set, portion by portion."""
        tallies, contents, is_new = [], [], True
        for index in data.portions(_PORTION):
            samples = data.samples(index)
            tallies.append(tally(samples))
            contents.append(content_keys(samples.classes, samples.palette))
            is_new &= bool(is_split_by_content(samples.n_cells, samples.n_objects).all())
        n_contents = len(np.unique(np.concatenate(contents)))
        return cls(pooled(tallies), len(data), n_contents, is_new)


def lines_about(asked: Mapping[str | None, Facts]) -> list[str]:
    """What a reader of accuracies on text should know, in lines.

    Args:
        asked: of each part that is read as text; None: the only one.
    """
    lines = []
    if old := [name or "grids" for name, one in asked.items() if not one.is_new]:
        lines.append(f"text: too few contents for a split, so not held out: {', '.join(old)}")
    for name, one in asked.items():
        if one.n_contents < _FEW * one.n_images:
            of = f" of {name}" if name else ""
            lines.append(f"text: the {one.n_images:,} grids{of} have {one.n_contents:,} contents")
    return lines
