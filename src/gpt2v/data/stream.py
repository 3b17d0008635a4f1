"""Training batches: the batch of all processes is a pure function of (data seed, step).

A stream follows the stages of a configuration; each stage mixes data specs.

Shapes: B samples of a batch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer

from gpt2v.config.base import hash_of
from gpt2v.config.data import CorpusConfig, DataConfig, DataSpec
from gpt2v.config.grids import GridConfig
from gpt2v.data import rng
from gpt2v.data.corpus.corpora import Corpus, open_corpus
from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Batch, Renderer
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError, within


def open_corpora(config: DataConfig, tokenizer: Tokenizer) -> dict[CorpusConfig, Corpus]:
    """All corpora of the stages, tokenized."""
    return {text: open_corpus(text, tokenizer) for text in config.corpora}


def slice_of_batch(size: int, step: int, part: int, parts: int) -> rng.Ints:
    """Numbers of the samples in slice `part` of a step's batch.

    Args:
        size: number of samples in the whole batch.
        step: number of the step, from 0.
        part: number of the slice, from 0.
        parts: number of slices.

    Raises:
        UserError: there are more slices than samples.
    """
    if parts > size:
        raise UserError(
            f"a batch of {size} cannot be cut into {parts} parts (processes times train.accumulate)"
        )
    start = step * size
    return np.arange(start + part * size // parts, start + (part + 1) * size // parts)


@lru_cache(maxsize=4)
def _order(seed: int, n: int, epoch: int) -> rng.Ints:
    """The order of the samples 0..n-1 in an epoch, (n,)."""
    order: rng.Ints = rng.permutations(rng.keys(seed, "epoch", np.array([epoch])), n)[0]
    return order


@dataclass(frozen=True)
class Stream:
    """Training batches of a configuration. After the last stage ends, its mixture continues.

    Attributes:
        config: stages, batch size and seed.
        render: renders grids; None: the stages have no grids.
        corpora: opened corpora by their `text`.
        layouts: modality -> name of another layout (in `render.views`) in which its grids are
            shown. The samples stay the same.
    """

    config: DataConfig
    render: Renderer | None = None
    corpora: Mapping[CorpusConfig, Corpus] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)

    def _stage(self, step: int) -> int:
        """Number of the stage that this step is in."""
        ends = np.cumsum([stage.steps for stage in self.config.stages])
        return min(int(np.searchsorted(ends, step, side="right")), len(ends) - 1)

    def spec(self, step: int) -> DataSpec:
        """The data spec that the batch of this step is drawn from."""
        mix = self.config.stages[self._stage(step)].mix
        shares = np.cumsum([spec.weight for spec in mix])
        word = rng.bits(rng.keys(self.config.seed, "mix", np.array([step])), 1)
        choice = int(np.searchsorted(shares, rng.unit(word)[0, 0] * shares[-1], side="right"))
        return mix[min(choice, len(mix) - 1)]

    def describe(self, step: int) -> str:
        """The mixture of a step's stage, for logs, e.g. `text/markdown, image: 2x2, 3x3`."""
        mix = self.config.stages[self._stage(step)].mix
        modalities = ", ".join(dict.fromkeys(spec.shown_as for spec in mix))
        sizes = [spec.size for spec in mix if isinstance(spec, GridConfig)]
        return modalities + (f": {', '.join(dict.fromkeys(sizes))}" if sizes else "")

    def shows_pictures(self, start: int, end: int) -> bool:
        """Whether the steps from `start` to `end` - 1, or the validation, show pictures."""
        stages = self.config.stages
        shown = [*stages[self._stage(start) : self._stage(end - 1) + 1], stages[-1]]
        specs = [spec for stage in shown for spec in stage.mix]
        return any(isinstance(spec, GridConfig) and spec.modality != "text" for spec in specs)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch | TextBatch:
        """Slice `part` of the `parts` slices of this step's batch; default: the whole batch."""
        spec = self.spec(step)
        if isinstance(spec, CorpusConfig):
            index = slice_of_batch(spec.windows or self.config.batch_size, step, part, parts)
            windows = self.corpora[spec.text].train
            return windows.train_batch(self.config.seed, int(index[0]), len(index))
        numbers = slice_of_batch(self.config.batch_size, step, part, parts)
        assert self.render is not None, "grids need tiles"
        data, index = self.dataset(spec, "train"), self.index_of(spec, numbers)
        return data.batch(index, self.layout(spec), self.render, mode=spec.mode)

    def layout(self, spec: GridConfig) -> str:
        """Name of the layout in which the grids of a spec are shown."""
        return self.layouts.get(spec.modality, spec.modality)

    def dataset(self, spec: GridConfig, split: str, n: int | None = None) -> GridDataset:
        """The samples of a spec in a split.

        The `train` split has `spec.n_images` samples (None: endless), another split has `n`.
        """
        assert self.render is not None, "grids need tiles"
        n = spec.n_images if split == "train" else n
        return GridDataset(spec, self.render.bank, self.config.seed, split, n)

    def index_of(self, spec: GridConfig, numbers: rng.Ints) -> rng.Ints:
        """Indices of the training samples with these running numbers, (B,) -> (B,).

        Without `n_images` the index is the running number. With it, each run of `n_images` numbers
        is an epoch, which holds every sample once, in its own order. Running numbers count the
        samples of all specs. If several specs share a stage, each spec draws only its share of
        the samples in an epoch, none of them twice.
        """
        if spec.n_images is None:
            return numbers
        epochs, ranks = np.divmod(numbers, spec.n_images)
        index = np.empty_like(numbers)
        for epoch in rng.different(epochs):
            now = epochs == epoch
            index[now] = _order(self.config.seed, spec.n_images, epoch)[ranks[now]]
        return index

    @property
    def data_hash(self) -> str:
        """Short hash of the training data; see `training_hash`."""
        bank = self.render.bank if self.render else None
        return training_hash(self.config, bank, self.corpora.values())

    def check(self, n_positions: int, parts: int = 1) -> None:
        """Check that the model can hold every spec, before anything is trained.

        Args:
            n_positions: of the GPT-2.
            parts: number of slices that each batch is cut into.

        Raises:
            UserError: a spec needs more than `n_positions` positions, cannot be drawn, or uses
                held-out wordings; or a batch is smaller than the number of its slices.
        """
        for key, spec in self.config.specs:
            windows = spec.windows if isinstance(spec, CorpusConfig) else None
            with within(f"{key}windows: " if windows else "data.batch_size: "):
                slice_of_batch(windows or self.config.batch_size, 0, 0, parts)
            with within(key):
                if isinstance(spec, CorpusConfig):
                    if spec.context > n_positions:
                        raise UserError(
                            f"context: {spec.context} tokens, but the GPT-2 has n_positions: "
                            f"{n_positions}"
                        )
                    continue
                if spec.augment.held_out:
                    raise UserError("augment.held_out: held-out wordings are never trained on")
            assert self.render is not None, "grids need tiles"
            for split in ("train", "val"):
                data = replace(self.dataset(spec, split), key=key)
                data.check(self.layout(spec), self.render, n_positions, spec.mode)


def training_hash(config: DataConfig, bank: TileBank | None, corpora: Iterable[Corpus] = ()) -> str:
    """Short hash of training data: equal hashes mean equal batches.

    The class names of the tiles count if there are grids. The pixels of the training tiles count
    only if some grids are shown as pictures.
    """
    parts: list[object] = []
    if bank is not None and config.has_grids:
        parts.append(bank.class_names)
        if config.has_pictures:
            parts.append(bank.content_hash("train"))
    return hash_of(*parts, *(corpus.content_hash for corpus in corpora), config)
