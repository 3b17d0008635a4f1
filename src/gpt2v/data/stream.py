"""The global batch as a pure function of (data seed, step): a curriculum over data specs."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gpt2v.config import Config, DataConfig, GridConfig
from gpt2v.data import rng
from gpt2v.data.batches import Batch, Renderer
from gpt2v.data.grids import draw_samples
from gpt2v.data.images import PictureGeometry
from gpt2v.data.text import ImageView, TextView, View
from gpt2v.data.tiles import TileBank
from gpt2v.errors import UserError, within

EVAL_BATCH = 50  # grids per pass in validation and evaluation


def view_of(spec: GridConfig, cell_size: int, geometry: PictureGeometry | None) -> View:
    """How a data spec shows its grid."""
    if spec.modality == "text":
        return TextView(spec.form, spec.patches, spec.noise)
    if geometry is None:
        raise UserError("modality: image needs a model with a vision tower")
    return ImageView(geometry.span(spec.rows, spec.cols, cell_size))


@dataclass(frozen=True)
class Stream:
    """Training batches; the last stage's mixture goes on past its end."""

    config: DataConfig
    render: Renderer
    geometry: PictureGeometry | None = None

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.config.stages)

    def _stage(self, step: int) -> int:
        ends = np.cumsum([stage.steps for stage in self.config.stages])
        return min(int(np.searchsorted(ends, step, side="right")), len(ends) - 1)

    def spec(self, step: int) -> GridConfig:
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
        return f"{kinds}: {', '.join(dict.fromkeys(f'{s.rows}x{s.cols}' for s in mix))}"

    def batch(self, step: int) -> Batch:
        """The whole global batch of this step."""
        spec, size = self.spec(step), self.config.batch_size
        index = np.arange(step * size, (step + 1) * size)
        return self.draw(spec, "train", index)

    def draw(
        self,
        spec: GridConfig,
        split: str,
        index: rng.Ints,
        view: View | None = None,
        with_choices: bool = False,
    ) -> Batch:
        """Samples of any spec and split, rendered as the spec (or another view) says."""
        bank = self.render.bank
        samples = draw_samples(spec, bank, self.config.seed, split, index)
        view = view or view_of(spec, bank.size, self.geometry)
        return self.render(samples, view, spec.mode, with_choices)

    def check(self, n_positions: int) -> None:
        """Refuse specs that the model cannot hold, before anything is trained."""
        for i, stage in enumerate(self.config.stages):
            for j, spec in enumerate(stage.mix):
                with within(f"data.stages.{i}.mix.{j}."):
                    self.draw(spec, "train", np.arange(1))  # the palette, the picture
                    check_length(self._longest(spec), spec, n_positions)

    def _longest(self, spec: GridConfig) -> Batch:
        """A batch as long as any of this spec can be: the longest name everywhere."""
        bank, table = self.render.bank, self.render.table
        samples = draw_samples(spec, bank, self.config.seed, "train", np.arange(1))
        lengths = [[len(table.tokens(s)) for s in (f" {name}", name)] for name in bank.class_names]
        in_grid, in_palette = np.argmax(lengths, axis=0)
        worst = replace(
            samples,
            classes=np.full_like(samples.classes, in_grid),
            palette=np.full_like(samples.palette, in_palette),
        )
        return self.render(worst, view_of(spec, bank.size, self.geometry), spec.mode)


def validation_batches(stream: Stream, spec: GridConfig, n_grids: int) -> Iterator[Batch]:
    """Held-out grids of a spec, with independent questions and their choices."""
    spec = spec.model_copy(update={"mode": "independent"})
    for start in range(0, n_grids, EVAL_BATCH):
        index = np.arange(start, min(start + EVAL_BATCH, n_grids))
        yield stream.draw(spec, "val", index, with_choices=True)


def check_length(batch: Batch, spec: GridConfig, n_positions: int) -> None:
    """Refuse a batch that needs more positions than the GPT-2 has."""
    needed = int(batch.position_ids.max()) + 1
    if needed > n_positions:
        raise UserError(
            f"rows, cols: a {spec.rows}x{spec.cols} grid ({spec.label}, {spec.mode}) needs "
            f"{needed} positions, but the GPT-2 has n_positions: {n_positions}"
        )


def data_hash(bank: TileBank, *specs: object) -> str:
    """Short hash of the tiles and of the data specs: equal hashes mean equal data."""
    plain = [s.model_dump() if isinstance(s, Config) else s for s in specs]
    text = json.dumps(plain, sort_keys=True)
    return hashlib.sha256((bank.content_hash + text).encode()).hexdigest()[:16]
