"""The global batch as a pure function of (data seed, step): a curriculum over data specs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import product

import numpy as np
from tokenizers import Tokenizer

from gpt2v.config import Config
from gpt2v.data import rng
from gpt2v.data.batches import Batch, Renderer
from gpt2v.data.corpora import Corpus, open_corpus
from gpt2v.data.grids import Dice, draw_grids
from gpt2v.data.images import ImageSpan, PictureGeometry
from gpt2v.data.longest import longest
from gpt2v.data.pictures import Pictures
from gpt2v.data.samples import draw_samples
from gpt2v.data.text import ImageView, TextView, View
from gpt2v.data.tiles import TileBank
from gpt2v.data.windows import TextBatch
from gpt2v.errors import UserError, within
from gpt2v.specs import CorpusConfig, DataConfig, DataSpec, GridConfig, bounds

EVAL_BATCH = 50  # grids per pass in validation and evaluation


def open_corpora(config: DataConfig, tokenizer: Tokenizer) -> dict[CorpusConfig, Corpus]:
    """Every corpus that the stages name, tokenized."""
    return {text: open_corpus(text, tokenizer) for text in config.corpora}


def view_of(spec: GridConfig, cell_size: int, geometry: PictureGeometry | None) -> View:
    """How a data spec shows its grid; `cell_size` is the side of a tile in pixels."""
    words = TextView.of(spec)
    if spec.modality == "text":
        return words
    if geometry is None:
        raise UserError(f"modality: {spec.modality} needs a model with a vision tower")

    @cache
    def span(rows: int, cols: int) -> ImageSpan:
        return geometry.span(rows, cols, cell_size, spec.picture)

    return ImageView(span, picture=spec.picture, words=words if spec.in_words else None)


def slice_of_batch(size: int, step: int, part: int, parts: int) -> rng.Ints:
    """Numbers of the samples in one of `parts` slices of a step's batch of `size` samples.

    Raises:
        UserError: there are more slices than samples.
    """
    if parts > size:
        raise UserError(
            f"data: a batch of {size} cannot be cut into {parts} parts (processes times "
            "train.accumulate)"
        )
    start = step * size
    return np.arange(start + part * size // parts, start + (part + 1) * size // parts)


@lru_cache(maxsize=4)
def _order(seed: int, n: int, epoch: int) -> rng.Ints:
    """The order of 0..n-1 in an epoch, (n,)."""
    order: rng.Ints = rng.permutations(rng.keys(seed, "epoch", np.array([epoch])), n)[0]
    return order


@dataclass(frozen=True)
class Stream:
    """Training batches; the last stage's mixture goes on past its end."""

    config: DataConfig
    render: Renderer | None = None  # where there are grids
    geometry: PictureGeometry | None = None  # where there are pictures
    corpora: Mapping[CorpusConfig, Corpus] = field(default_factory=dict)  # by their `text`

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.config.stages)

    def _stage(self, step: int) -> int:
        ends = np.cumsum([stage.steps for stage in self.config.stages])
        return min(int(np.searchsorted(ends, step, side="right")), len(ends) - 1)

    def spec(self, step: int) -> DataSpec:
        """The data spec that this step draws."""
        mix = self.config.stages[self._stage(step)].mix
        shares = np.cumsum([spec.weight for spec in mix])
        word = rng.bits(rng.keys(self.config.seed, "mix", np.array([step])), 1)
        choice = int(np.searchsorted(shares, rng.unit(word)[0, 0] * shares[-1], side="right"))
        return mix[min(choice, len(mix) - 1)]

    def describe(self, step: int) -> str:
        """The mixture that a step draws from, for logs, e.g. `text/markdown, image: 2x2, 3x3`."""
        mix = self.config.stages[self._stage(step)].mix
        kinds = ", ".join(dict.fromkeys(spec.shown_as for spec in mix))
        sizes = [spec.size for spec in mix if isinstance(spec, GridConfig)]
        return kinds + (f": {', '.join(dict.fromkeys(sizes))}" if sizes else "")

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch | TextBatch:
        """One of `parts` slices of the global batch of this step."""
        spec = self.spec(step)
        if isinstance(spec, CorpusConfig):
            index = slice_of_batch(spec.windows or self.config.batch_size, step, part, parts)
            windows = self.corpora[spec.text].train
            return windows.train_batch(self.config.seed, int(index[0]), len(index))
        numbers = slice_of_batch(self.config.batch_size, step, part, parts)
        return self.draw(spec, "train", self.index_of(spec, numbers))

    def index_of(self, spec: GridConfig, numbers: rng.Ints) -> rng.Ints:
        """Indices of the training samples with these running numbers, (B,).

        Where the spec has `n_images`, every run of so many numbers is an epoch: all samples once,
        in an order of its own. Numbers count the samples of all specs, so that a spec which
        shares its stage sees in each epoch its share of them, none twice.
        """
        if spec.n_images is None:
            return numbers
        epochs, places = np.divmod(numbers, spec.n_images)
        found = np.empty_like(numbers)
        for epoch in rng.different(epochs):
            now = epochs == epoch
            found[now] = _order(self.config.seed, spec.n_images, epoch)[places[now]]
        return found

    @property
    def data_hash(self) -> str:
        """Short hash of all that this stream draws from."""
        parts = [self.render.bank.content_hash] if self.render else []
        parts += [corpus.content_hash for corpus in self.corpora.values()]
        return hash_of(*parts, self.config.drawn)

    def draw(
        self,
        spec: GridConfig,
        split: str,
        index: rng.Ints,
        view: View | None = None,
        with_choices: bool = False,
    ) -> Batch:
        """Samples of any spec and split, rendered as the spec (or another view) says."""
        assert self.render is not None, "grids need tiles"
        bank = self.render.bank
        samples = draw_samples(spec, bank, self.config.seed, split, index)
        view = view or view_of(spec, bank.size, self.geometry)
        return self.render(samples, view, spec.mode, with_choices)

    def check(self, n_positions: int) -> None:
        """Refuse specs that the model cannot hold, before anything is trained."""
        for place, spec in self.config.placed:
            with within(place):
                if isinstance(spec, CorpusConfig):
                    if spec.context > n_positions:
                        raise UserError(
                            f"context: {spec.context} tokens, but the GPT-2 has n_positions: "
                            f"{n_positions}"
                        )
                    continue
                if spec.augment.held_out:
                    raise UserError("augment.held_out: those wordings are never trained on")
                assert self.render is not None, "grids need tiles"
                check_spec(spec, self.render, self.geometry, n_positions)


def validation_batches(stream: Stream, spec: GridConfig, n_grids: int) -> Iterator[Batch]:
    """Held-out grids of a spec, with independent questions and their choices."""
    spec = spec.model_copy(update={"mode": "independent"})
    for start in range(0, n_grids, EVAL_BATCH):
        index = np.arange(start, min(start + EVAL_BATCH, n_grids))
        yield stream.draw(spec, "val", index, with_choices=True)


def listed_pictures(
    spec: GridConfig, bank: TileBank, image_size: int, seed: int, split: str, n: int
) -> Iterator[Pictures]:
    """The pictures of the first `n` samples of a split, EVAL_BATCH samples at a time."""
    for start in range(0, n, EVAL_BATCH):
        index = np.arange(start, min(start + EVAL_BATCH, n))
        grids = draw_grids(spec, bank, Dice(seed, split, index))
        yield Pictures(grids, bank, image_size, spec.picture)


def check_spec(
    spec: GridConfig, render: Renderer, geometry: PictureGeometry | None, n_positions: int
) -> None:
    """Refuse a spec of which some sample cannot be drawn, or is too long for the GPT-2.

    Raises:
        UserError: of the palette, the questions, a picture of some size, or the positions.
    """
    draw_samples(spec, render.bank, 0, "train", np.arange(1))
    view = view_of(spec, render.bank.size, geometry)
    if isinstance(view, ImageView):
        sides = (range(low, high + 1) for low, high in (bounds(spec.rows), bounds(spec.cols)))
        for rows, cols in product(*sides):
            view.span_of(rows, cols)
    needed = longest(spec, render, view)
    if needed > n_positions:
        raise UserError(
            f"rows, cols: a {spec.size} grid ({spec.label}, {spec.mode}) needs {needed} positions, "
            f"but the GPT-2 has n_positions: {n_positions}"
        )


def data_hash(bank: TileBank, *specs: object) -> str:
    """Short hash of the tiles and of the data specs: equal hashes mean equal data."""
    return hash_of(bank.content_hash, *specs)


def hash_of(*parts: object) -> str:
    """Short hash of strings, plain values and configurations."""
    plain = [part.model_dump() if isinstance(part, Config) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
