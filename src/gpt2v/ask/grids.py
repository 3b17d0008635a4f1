"""One grid that a model is asked about, whether it comes from a data set, from words or pictures.

Shapes: P pictures, S side of a picture in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from gpt2v.ask.pictures import GivenPictures, Picture
from gpt2v.config.grids import ContentConfig, Modality
from gpt2v.data.grids.samples import NOT_ASKED, Samples
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.examples import Example
from gpt2v.data.render.views import View
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.data.tiles.image_files import Pixels


class Shown(TypedDict, total=False):
    """What a model is shown: a sample of a data set, or a picture, or a table, or both.

    Attributes:
        image: a file, an image of Pillow or an array (height, width, 3) of uint8; a list of them
            for a model that takes one picture of each cell.
        text: the grid as Markdown rows.
        sample: a sample of a `GridDataset`, `data[i]`.
        palette: the objects that the prompt lists, for `image` and `text`.
        modality: of a sample; by default the picture, if the model takes pictures.
    """

    image: Picture | Sequence[Picture] | None
    text: str | None
    sample: Example | None
    palette: Sequence[str] | None
    modality: Modality | None


@dataclass(frozen=True)
class OneGrid:
    """One grid, ready to be asked about.

    Attributes:
        samples: a batch of this grid alone, with its questions.
        spec: how it is shown.
        bank: the names of its objects and, for a sample, its tiles.
        modality: how the model sees it.
        pixels: the user's pictures, (P, S, S, 3); None: they are drawn from tiles.
        known: whether it is known what its cells hold, and so what is right.
        note: what a user should know; empty: nothing.
    """

    samples: Samples
    spec: ContentConfig
    bank: TileBank
    modality: Modality
    pixels: Pixels | None = None
    known: bool = True
    note: str = ""

    @property
    def palette(self) -> list[str]:
        """The objects that the prompt lists, in its order."""
        palette = self.samples.palette[0]
        return [self.bank.class_names[label] for label in palette[palette >= 0]]

    @property
    def n_questions(self) -> int:
        """Q, the number of its questions."""
        return int((self.samples.instruction != NOT_ASKED).sum())

    def question(self, number: int) -> "OneGrid":
        """The same grid with one of its questions."""
        s = self.samples
        fields = {
            name: getattr(s, name)[:, number : number + 1]
            for name in (
                "row", "col", "other_row", "other_col", "direction", "object", "numbering",
                "instruction", "question",
            )
        }  # fmt: skip
        return replace(self, samples=replace(s, **fields))

    def render(self, render: Renderer, view: View, with_choices: bool = False) -> Batch:
        """The packed batch of the grid and its questions."""
        batch = render(self.samples, view, with_choices=with_choices)
        if self.pixels is None or batch.pictures is None:
            return batch
        drawn = batch.pictures
        given = GivenPictures(drawn.grids, drawn.bank, drawn.image_size, drawn.picture, self.pixels)
        return replace(batch, pictures=given)


def own_samples(classes: Ints, palette: Sequence[int], base: int) -> Samples:
    """A grid that was not drawn, as a batch without questions.

    Args:
        classes: (rows, columns) class of each cell.
        palette: classes, in the order of the prompt.
        base: number of the first row and column in words.
    """
    one = np.zeros(1, np.int64)
    return Samples(
        index=one,
        split=np.array([SPLITS.index("test")]),
        key=np.zeros(1, np.uint64),
        classes=np.asarray(classes, np.int64)[None],
        tiles=np.zeros((1, *np.shape(classes)), np.int64),
        palette=np.array([palette], np.int64),
        row=np.zeros((1, 1), np.int64),
        col=np.zeros((1, 1), np.int64),
        instruction=np.full((1, 1), NOT_ASKED),
        base=np.array([base]),
    )
