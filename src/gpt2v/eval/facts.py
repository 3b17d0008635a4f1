"""What is known of the grids of an evaluation without a model: baselines, and what is held out.

Grids of fewer than nine cells, or of one object, have too few contents for a split. As pictures
they are new, because their tiles are; as text they may have been trained on.
"""

from dataclasses import dataclass

from gpt2v.config.grids import Mode
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import Tally, pooled, tally
from gpt2v.data.grids.cells import is_split_by_content

_PORTION = 5000  # grids at once


@dataclass(frozen=True)
class Facts:
    """Facts of one data set.

    Attributes:
        baselines: of each instruction; NaN where chained ones are not known.
        held_out: whether the contents of all grids are those of a split that no training shows.
    """

    baselines: Tally
    held_out: bool

    @classmethod
    def of(cls, data: GridDataset, mode: Mode = "independent") -> "Facts":
        """The facts of a data set, portion by portion."""
        tallies, held_out = [], data.split != "train"
        for index in data.portions(_PORTION):
            samples = data.samples(index)
            tallies.append(tally(samples, mode))
            held_out &= bool(is_split_by_content(samples.n_cells, samples.n_objects).all())
        return cls(pooled(tallies), held_out)
