"""The global batch as a pure function of (data seed, step): a curriculum over data specs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from tokenizers import Tokenizer

from gpt2v.config import Config
from gpt2v.data import rng
from gpt2v.data.batches import Batch, Renderer
from gpt2v.data.corpora import Corpus, open_corpus
from gpt2v.data.images import ImageSpan, PictureGeometry
from gpt2v.data.instructions import number_of
from gpt2v.data.instructions.base import DIRECTIONS
from gpt2v.data.pieces import PieceTable
from gpt2v.data.samples import Samples, draw_samples
from gpt2v.data.text import ImageView, TextView, View
from gpt2v.data.tiles import TileBank
from gpt2v.data.windows import TextBatch
from gpt2v.data.wording import longest_wording
from gpt2v.errors import UserError, within
from gpt2v.specs import CorpusConfig, DataConfig, DataSpec, GridConfig, bounds

EVAL_BATCH = 50  # grids per pass in validation and evaluation


def open_corpora(config: DataConfig, tokenizer: Tokenizer) -> dict[CorpusConfig, Corpus]:
    """Every corpus that the stages name, tokenized."""
    return {text: open_corpus(text, tokenizer) for text in config.corpora}


def view_of(spec: GridConfig, cell_size: int, geometry: PictureGeometry | None) -> View:
    """How a data spec shows its grid; `cell_size` is the side of a tile in pixels."""
    words = TextView(spec.form, spec.patches, spec.noise)
    if spec.modality == "text":
        return words
    if geometry is None:
        raise UserError(f"modality: {spec.modality} needs a model with a vision tower")

    @cache
    def span(rows: int, cols: int) -> ImageSpan:
        return geometry.span(rows, cols, cell_size, spec.picture)

    span(bounds(spec.rows)[1], bounds(spec.cols)[1])  # refused here, if at all
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
        return self.draw(spec, "train", slice_of_batch(self.config.batch_size, step, part, parts))

    @property
    def data_hash(self) -> str:
        """Short hash of all that this stream draws from."""
        parts = [self.render.bank.content_hash] if self.render else []
        parts += [corpus.content_hash for corpus in self.corpora.values()]
        return hash_of(*parts, self.config)

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
        for i, stage in enumerate(self.config.stages):
            for j, spec in enumerate(stage.mix):
                with within(f"data.stages.{i}.mix.{j}."):
                    if isinstance(spec, CorpusConfig):
                        if spec.context > n_positions:
                            raise UserError(
                                f"context: {spec.context} tokens, but the GPT-2 has "
                                f"n_positions: {n_positions}"
                            )
                        continue
                    if spec.augment.held_out:
                        raise UserError("augment.held_out: those wordings are never trained on")
                    self.draw(spec, "train", np.arange(1))  # the palette, questions, picture
                    _check_positions(self._longest(spec), spec, n_positions)

    def _longest(self, spec: GridConfig) -> int:
        """Positions that any sample of this spec takes, at most."""
        assert self.render is not None, "grids need tiles"
        bank, table = self.render.bank, self.render.table
        view = view_of(spec, bank.size, self.geometry)
        lengths = [[len(table.tokens(s)) for s in (f" {name}", name)] for name in bank.class_names]
        in_grid, in_palette = np.argmax(lengths, axis=0)
        # Counted objects must be listed, so one listed name is the grid's, not the longest there.
        spare = lengths[in_palette][1] - lengths[in_grid][1]
        drawn = draw_samples(spec.largest, bank, self.config.seed, "train", np.arange(1))
        found = [0]
        for name in spec.instructions:
            worst = _worst(drawn, spec, int(in_grid), int(in_palette), table, number_of(name))
            batch = self.render(worst, view, spec.mode)
            found.append(int(batch.position_ids.max()) + 1 + spare)
        return max(found)


def _worst(
    drawn: Samples, spec: GridConfig, in_grid: int, in_palette: int, table: PieceTable, number: int
) -> Samples:
    """A sample as long as any with this instruction: the longest name and number everywhere."""
    palette = np.full_like(drawn.palette, in_palette)
    palette[:, 0] = in_grid
    rows, cols = drawn.classes.shape[1:]
    longest = max(range(len(DIRECTIONS)), key=lambda i: len(table.tokens(DIRECTIONS[i])))
    values = {
        "row": rows - 1,
        "col": cols - 1,
        "other_row": rows - 1,
        "other_col": cols - 1,
        "object": in_grid,
        "direction": longest,
        "instruction": number,
        "classes": in_grid,
        "position": spec.augment.position_offset,
        **longest_wording(spec.augment, table, number),
    }
    filled = {name: np.full_like(getattr(drawn, name), value) for name, value in values.items()}
    return replace(drawn, palette=palette, **filled)


def validation_batches(stream: Stream, spec: GridConfig, n_grids: int) -> Iterator[Batch]:
    """Held-out grids of a spec, with independent questions and their choices."""
    spec = spec.model_copy(update={"mode": "independent"})
    for start in range(0, n_grids, EVAL_BATCH):
        index = np.arange(start, min(start + EVAL_BATCH, n_grids))
        yield stream.draw(spec, "val", index, with_choices=True)


def check_length(batch: Batch, spec: GridConfig, n_positions: int) -> None:
    """Refuse a batch that needs more positions than the GPT-2 has."""
    _check_positions(int(batch.position_ids.max()) + 1, spec, n_positions)


def _check_positions(needed: int, spec: GridConfig, n_positions: int) -> None:
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
