"""The data set: samples of one spec, split and seed. Each sample is drawn from its index alone.

Training, evaluation, probe, ladder, export and preview all use it.

Shapes: B samples of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, product

import numpy as np

from gpt2v.config.base import hash_of
from gpt2v.config.grids import ContentConfig, Mode, SampleSpec, bounds
from gpt2v.data.grids.cells import Dice, Grids, draw_grids
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.render.forms import check_names
from gpt2v.data.render.max_length import max_length
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.render.spelling import check_spelling
from gpt2v.data.render.views import ImageView, TextView, View, picture_of
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError, within

PORTION = 50  # default number of samples that are drawn, rendered and read together


@dataclass(frozen=True)
class GridDataset:
    """The first `n` samples of a spec, or endlessly many if `n` is None.

    `data[i]` is one sample with `.text`, `.image`, `.questions` and `.answers`. `len(data)` is the
    number of samples. The other methods return arrays of samples, batches and pictures.

    Attributes:
        spec: what is drawn: sizes, palette, questions, how a grid is shown.
        bank: the tiles.
        seed: of all random draws.
        split: `train`, `val` or `test`.
        n: number of samples; None: endless.
        key: the key of the spec in a configuration; error messages begin with it.
    """

    spec: ContentConfig
    bank: TileBank
    seed: int = 0
    split: str = "train"
    n: int | None = None
    key: str = ""

    def __post_init__(self) -> None:
        """Raise UserError if the text form cannot express the names of the classes."""
        with within(self.key):
            check_names(TextView.of(self.spec).form, self.bank.class_names)

    def __len__(self) -> int:
        if self.n is None:
            raise TypeError("an endless data set has no length")
        return self.n

    def __getitem__(self, i: int) -> Example:
        """Sample number i. In a finite data set, a negative i counts from the end.

        Raises:
            IndexError: no such sample.
        """
        number = i + len(self) if i < 0 else i
        if number < 0 or (self.n is not None and number >= self.n):
            raise IndexError(f"no sample {i}: the data set has {self.n}")
        return self.examples(np.array([number]))[0]

    @cached_property
    def hash(self) -> str:
        """Short hash; equal for data sets that draw the same samples with the same tiles."""
        tiles = self.bank.content_hash(self.split)
        return hash_of(tiles, self.spec, self.split, self.n, self.seed)

    # ---- arrays ------------------------------------------------------------------------------

    def grids(self, index: Ints) -> Grids:
        """The grids of the samples with these numbers (B,), without questions."""
        with within(self.key):
            return draw_grids(self.spec, self.bank, Dice(self.seed, self.split, index))

    def samples(self, index: Ints | None = None) -> Samples:
        """The samples with these numbers, as arrays.

        If the spec has no questions, each grid gets one `lookup` question for each cell.

        Args:
            index: (B,) numbers of the samples; None: all samples of a finite data set.

        Raises:
            UserError: the spec cannot be drawn with these tiles.
        """
        index = np.arange(len(self)) if index is None else index
        with within(self.key):
            return draw_samples(_asked(self.spec), self.bank, self.seed, self.split, index)

    def portions(self, size: int = PORTION) -> Iterator[Ints]:
        """The numbers of all samples in order, in arrays of at most `size`."""
        for start in count(0, size) if self.n is None else range(0, self.n, size):
            yield np.arange(start, start + size if self.n is None else min(start + size, self.n))

    def n_portions(self, size: int = PORTION) -> int:
        """Number of portions of a finite data set."""
        return -(-len(self) // size)

    def examples(self, index: Ints) -> list[Example]:
        """The samples with these numbers (B,) as text and pictures."""
        return examples_of(self.samples(index), self.spec, self.bank)

    def pictures(self, image_size: int, size: int = PORTION) -> Iterator[Pictures]:
        """The pictures of all samples, `size` samples at a time; rendered when they are used.

        `image_size` is the side of a picture in pixels.
        """
        for index in self.portions(size):
            yield Pictures(self.grids(index), self.bank, image_size, picture_of(self.spec))

    # ---- batches -----------------------------------------------------------------------------

    def view(self, layout: str, render: Renderer) -> View:
        """The view for the layout with this name and the model that `render` renders for."""
        with within(self.key):
            return render.view(self.spec, layout)

    def batches(
        self,
        view: View | str,
        render: Renderer,
        with_choices: bool = True,
        mode: Mode = "independent",
        size: int = PORTION,
    ) -> Iterator[Batch]:
        """All samples in batches of `size`, in one view; `view` is a view or a layout's name."""
        shown = self.view(view, render) if isinstance(view, str) else view
        for index in self.portions(size):
            yield self.batch(index, shown, render, with_choices, mode)

    def batch(
        self,
        index: Ints,
        view: View | str,
        render: Renderer,
        with_choices: bool = False,
        mode: Mode = "independent",
    ) -> Batch:
        """The samples with these numbers (B,) in one view; `view` is a view or a layout's name."""
        shown = self.view(view, render) if isinstance(view, str) else view
        return render(self.samples(index), shown, mode, with_choices)

    def check(
        self,
        layout: str,
        render: Renderer,
        n_positions: int,
        mode: Mode = "independent",
    ) -> None:
        """Refuse a spec if some sample cannot be drawn, read exactly, or is too long for the GPT-2.

        Raises:
            UserError: the tiles do not suffice for the palette or the questions, a picture of some
                size does not fit, a sample needs more than `n_positions` positions, or the
                tokenizer does not read the samples as they are written.
        """
        with within(self.key):
            self.first()
            spec, view = _asked(self.spec), render.view(self.spec, layout)
            if isinstance(view, ImageView):
                sides = (range(*np.add(bounds(size), (0, 1))) for size in (spec.rows, spec.cols))
                for rows, cols in product(*sides):
                    view.span_of(rows, cols)
        check_spelling(spec, view, render)
        with within(self.key):
            needed = max_length(spec, render, view, mode)
            if needed > n_positions:
                raise UserError(
                    f"rows, cols: a {spec.size} grid ({layout}, {mode}) needs {needed} positions, "
                    f"but the GPT-2 has n_positions: {n_positions}"
                )

    def first(self) -> Samples:
        """The first sample. Raises UserError if the tiles do not suffice for the spec."""
        return replace(self, key="").samples(np.zeros(1, np.int64))


def _asked(spec: ContentConfig) -> SampleSpec:
    """The spec itself, or one with a look-up of every cell if it has no questions."""
    if isinstance(spec, SampleSpec):
        return spec
    return SampleSpec(rows=spec.rows, cols=spec.cols, palette=spec.palette)
