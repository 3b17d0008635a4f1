"""The global batch as a pure function of (data seed, step): a curriculum over data specs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """Every corpus that the stages name, tokenized."""
    return {text: open_corpus(text, tokenizer) for text in config.corpora}


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
    """Training batches; the last stage's mixture goes on past its end.

    `layouts` shows the grids of a modality in another layout, by its name in `render.views`: the
    samples stay what they are.
    """

    config: DataConfig
    render: Renderer | None = None  # where there are grids
    corpora: Mapping[CorpusConfig, Corpus] = field(default_factory=dict)  # by their `text`
    layouts: Mapping[str, str] = field(default_factory=dict)  # modality -> layout

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
        assert self.render is not None, "grids need tiles"
        data, index = self.dataset(spec, "train"), self.index_of(spec, numbers)
        return data.batch(index, self.layout(spec), self.render, mode=spec.mode)

    def layout(self, spec: GridConfig) -> str:
        """How the grids of a spec are shown."""
        return self.layouts.get(spec.modality, spec.modality)

    def dataset(self, spec: GridConfig, split: str, n: int | None = None) -> GridDataset:
        """The samples of a spec: those of training are `spec.n_images`, or endless."""
        assert self.render is not None, "grids need tiles"
        n = spec.n_images if split == "train" else n
        return GridDataset(spec, self.render.bank, self.config.seed, split, n)

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
        """Short hash of all that this stream trains on."""
        bank = self.render.bank if self.render else None
        return training_hash(self.config, bank, self.corpora.values())

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
                data = self.dataset(spec, "train")
                data.check(self.layout(spec), self.render, n_positions, spec.mode)


def training_hash(config: DataConfig, bank: TileBank | None, corpora: Iterable[Corpus] = ()) -> str:
    """Short hash of training data: equal hashes mean equal batches.

    Of tiles that are only written about, their names count; of others the training split's pixels.
    """
    parts: list[object] = []
    if bank is not None and config.has_grids:
        parts.append(bank.class_names)
        if config.has_pictures:
            parts.append(bank.content_hash("train"))
    return hash_of(*parts, *(corpus.content_hash for corpus in corpora), config)
