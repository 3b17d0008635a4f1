"""The data set: samples of one spec, split and seed, each made alone from its index.

Training, evaluation, probe, ladder, export and preview all take one of these.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, product
from typing import Literal

import numpy as np

from gpt2v.config.base import hash_of
from gpt2v.config.grids import ContentConfig, SampleSpec, bounds
from gpt2v.data.grids.cells import Dice, Grids, draw_grids
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.render.max_length import longest
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.render.views import ImageView, View, picture_of
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError, within

PORTION = 50  # samples that are drawn, rendered and read together, unless told


@dataclass(frozen=True)
class GridDataset:
    """The first `n` samples of a spec, or endlessly many where `n` is none.

    `data[i]` is one sample with `.text`, `.image`, `.questions` and `.answers`; `len` and `hash`
    are what one expects. Everything else is arrays of samples, batches and pictures.

    Attributes:
        key: leads to the spec in a configuration, for messages.
    """

    spec: ContentConfig
    bank: TileBank
    seed: int = 0
    split: str = "train"
    n: int | None = None
    key: str = ""

    def __len__(self) -> int:
        if self.n is None:
            raise TypeError("an endless data set has no length")
        return self.n

    def __getitem__(self, i: int) -> Example:
        """Sample number i; of a finite set also from its end.

        Raises:
            IndexError: there is none.
        """
        number = i + len(self) if i < 0 else i
        if number < 0 or (self.n is not None and number >= self.n):
            raise IndexError(f"sample {i} of {self.n}")
        return self.examples(np.array([number]))[0]

    @cached_property
    def hash(self) -> str:
        """Short; equal where the same samples of the same tiles are drawn."""
        tiles = self.bank.content_hash(self.split)
        return hash_of(tiles, self.spec, self.split, self.n, self.seed)

    # ---- arrays ------------------------------------------------------------------------------

    def grids(self, index: Ints) -> Grids:
        """The grids with these numbers (B,), without questions."""
        with within(self.key):
            return draw_grids(self.spec, self.bank, Dice(self.seed, self.split, index))

    def samples(self, index: Ints | None = None) -> Samples:
        """The samples with these numbers (B,); of a spec without questions, every look-up.

        Args:
            index: none: all of a finite set.
        """
        index = np.arange(len(self)) if index is None else index
        with within(self.key):
            return draw_samples(_asked(self.spec), self.bank, self.seed, self.split, index)

    def portions(self, size: int = PORTION) -> Iterator[Ints]:
        """The numbers of all samples in order, `size` at a time."""
        for start in count(0, size) if self.n is None else range(0, self.n, size):
            yield np.arange(start, start + size if self.n is None else min(start + size, self.n))

    def n_portions(self, size: int = PORTION) -> int:
        """How many there are of a finite set."""
        return -(-len(self) // size)

    def examples(self, index: Ints) -> list[Example]:
        """The samples with these numbers (B,) in words and pictures."""
        return examples_of(self.samples(index), self.spec, self.bank)

    def pictures(self, image_size: int, size: int = PORTION) -> Iterator[Pictures]:
        """The pictures of all samples as a vision tower takes them, drawn when they are used."""
        for index in self.portions(size):
            yield Pictures(self.grids(index), self.bank, image_size, picture_of(self.spec))

    # ---- batches -----------------------------------------------------------------------------

    def view(self, layout: str, render: Renderer) -> View:
        """A layout, by its name, for the model that `render` renders for."""
        with within(self.key):
            return render.view(self.spec, layout)

    def batches(
        self,
        view: View | str,
        render: Renderer,
        with_choices: bool = True,
        mode: Literal["chained", "independent"] = "independent",
        size: int = PORTION,
    ) -> Iterator[Batch]:
        """All samples in one view, or in a layout by its name, `size` at a time."""
        shown = self.view(view, render) if isinstance(view, str) else view
        for index in self.portions(size):
            yield self.batch(index, shown, render, with_choices, mode)

    def batch(
        self,
        index: Ints,
        view: View | str,
        render: Renderer,
        with_choices: bool = False,
        mode: Literal["chained", "independent"] = "independent",
    ) -> Batch:
        """The samples with these numbers (B,) in one view."""
        shown = self.view(view, render) if isinstance(view, str) else view
        return render(self.samples(index), shown, mode, with_choices)

    def check(
        self,
        layout: str,
        render: Renderer,
        n_positions: int,
        mode: Literal["chained", "independent"] = "independent",
    ) -> None:
        """Refuse a spec of which some sample cannot be drawn, or is too long for the GPT-2.

        Raises:
            UserError: of the palette, the questions, a picture of some size, or the positions.
        """
        with within(self.key):
            self.first()
            spec, view = _asked(self.spec), render.view(self.spec, layout)
            if isinstance(view, ImageView):
                sides = (range(*np.add(bounds(size), (0, 1))) for size in (spec.rows, spec.cols))
                for rows, cols in product(*sides):
                    view.span_of(rows, cols)
            needed = longest(spec, render, view, mode)
            if needed > n_positions:
                raise UserError(
                    f"rows, cols: a {spec.size} grid ({layout}, {mode}) needs {needed} positions, "
                    f"but the GPT-2 has n_positions: {n_positions}"
                )

    def first(self) -> Samples:
        """The first sample: drawing it refuses a spec that the tiles cannot fill."""
        return replace(self, key="").samples(np.zeros(1, np.int64))


def _asked(spec: ContentConfig) -> SampleSpec:
    if isinstance(spec, SampleSpec):
        return spec
    return SampleSpec(rows=spec.rows, cols=spec.cols, palette=spec.palette)
