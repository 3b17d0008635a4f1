"""Where the projector's features come from: the vision tower, or what is kept of it."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.training import MMConfig
from gpt2v.data.dataset import PORTION, GridDataset
from gpt2v.data.grids.cells import Grids
from gpt2v.data.render.pictures import Pictures, is_random
from gpt2v.data.rng import Ints
from gpt2v.data.stream import Stream
from gpt2v.data.tiles.bank import TileBank, class_of, split_of
from gpt2v.errors import UserError
from gpt2v.features.store import FeatureStore, NotKept, Precision, open_features
from gpt2v.hardware.precision import has_bf16
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.vision_tokens import Picture
from gpt2v.train.distributed import rank, rank_0_first

_OpenStore = Callable[[bool], FeatureStore | None]  # by whether the tower trains


class StoredPicture(Picture):
    """The projected features of a cache; the tower sees only pictures that are not in it."""

    def __init__(self, model: GPT2vModel, store: FeatureStore) -> None:
        super().__init__(model)
        self.store = store

    def features(self, pictures: Pictures) -> Tensor:
        rows, found = self.store.find(pictures.keys)
        if found.all():
            return torch.from_numpy(self.store.features[rows]).to(self.model.device)
        whole = torch.empty(len(rows), *self.store.origin.shape[1:], device=self.model.device)
        kept = torch.from_numpy(found).to(whole.device)
        whole[kept] = torch.from_numpy(self.store.features[rows[found]]).to(whole.device)
        with torch.no_grad():
            pixels = self.model.normalise(pictures.pixels[~found])
            whole[~kept] = self.model.vision_features(pixels).float()
        return whole

    def n_seen(self, pictures: Pictures) -> int:
        return int((~self.store.find(pictures.keys)[1]).sum())


def picture_source(
    model: GPT2vModel, sets: Sequence[GridDataset], config: FeaturesConfig
) -> Picture:
    """What a measurement reads the pictures of data sets with: a cache of them if there is one.

    Only `mode: require` makes one: a tower that has just been trained is measured once or twice.

    Raises:
        UserError: one is required, but too large, or there is no room for it.
    """
    if config.mode == "off" or not sets:
        return Picture(model)

    def listing() -> Iterator[Pictures]:
        for data in sets:
            yield from data.pictures(model.geometry.image_size)

    try:
        make = config.mode == "require"
        store = open_features(model, sets[0].bank, listing, config, make=make)
    except NotKept as error:
        raise UserError(f"features: {error}") from None
    return Picture(model) if store is None else StoredPicture(model, store)


# ---- in training -----------------------------------------------------------------------------


class CachedPicture(Picture):
    """The tower while it trains, its kept features while it does not; asked at every batch.

    `open_store` is called, with whether the tower trains, when it meets its first pictures so; and
    again when it does not but has trained in between: its weights are others then.
    """

    def __init__(self, model: GPT2vModel, open_store: _OpenStore) -> None:
        super().__init__(model)
        self._live = self._frozen = Picture(model)
        self._open_store = open_store
        self._parameters = list(model.vision_tower.parameters())
        self._weights: list[tuple[int, int]] | None = None  # that `_frozen` was opened for
        self._has_trained = False

    def features(self, pictures: Pictures) -> Tensor:
        return self._now().features(pictures)

    def n_seen(self, pictures: Pictures) -> int:
        return self._now().n_seen(pictures)

    def _now(self) -> Picture:
        if any(p.requires_grad for p in self._parameters):
            if not self._has_trained:
                self._has_trained = True
                self._open_store(True)  # says why there is none
            return self._live
        weights = [(p.data_ptr(), p._version) for p in self._parameters]  # change when they do
        if weights == self._weights:
            return self._frozen
        if self._weights is not None and not self.model.training:
            return self._live  # validation of averages of the weights
        store = self._open_store(False)
        self._frozen = self._live if store is None else StoredPicture(self.model, store)
        self._weights = weights
        return self._frozen


def training_source(model: GPT2vModel, stream: Stream, config: MMConfig) -> Picture:
    """What a training reads pictures with, as `config.features` says.

    Raises:
        UserError: features are required, but some pictures of the data never come again.
    """
    mode = config.features.mode
    if mode == "off" or stream.render is None:
        return Picture(model)
    bank = stream.render.bank
    endless = [
        f"{place}n_images: {reason}"
        for place, spec in _shown(stream.config)
        if (reason := _why_endless(spec, bank))
    ]
    if mode == "require" and endless:
        raise UserError(f"features.mode: require, but {endless[0]}")
    precision: Precision = "fp32"
    if config.train.precision == "bf16" and has_bf16(model.device):
        precision = "bf16"

    def opened(trains: bool) -> FeatureStore | None:
        try:
            if trains:
                raise NotKept("the vision tower trains")
            if len(endless) == len(_shown(stream.config)):
                raise NotKept(endless[0])
            return open_features(
                model,
                bank,
                lambda: _finite_pictures(stream, config.train.eval_grids),
                config.features,
                precision,
            )
        except NotKept as error:
            if mode == "require":
                raise UserError(f"features.mode: require, but {error}") from None
            if rank() == 0:
                print(f"features: not kept: {error}", flush=True)
            return None

    return CachedPicture(model, lambda trains: rank_0_first(lambda: opened(trains)))


def _shown(data: DataConfig) -> list[tuple[str, GridConfig]]:
    """The specs with pictures, after their keys."""
    return [
        (place, spec)
        for place, spec in data.placed
        if isinstance(spec, GridConfig) and spec.modality != "text"
    ]


def _why_endless(spec: GridConfig, bank: TileBank) -> str | None:
    """Why training draws ever new pictures; None where it does not."""
    if spec.n_images is not None:
        return None
    if spec.picture.layout != "multi":
        return "none, so that every picture is a new one"
    if is_random(_tiles(bank.members("train", 0)[:1]), bank, spec.picture):
        return "none, and no picture of a tile is like another (augmented, moved or with noise)"
    return None


def _finite_pictures(stream: Stream, n_val: int) -> Iterator[Pictures]:
    """What the training shows more than once, and what it is validated on."""
    assert stream.render is not None
    assert stream.render.geometry is not None
    bank, size = stream.render.bank, stream.render.geometry.image_size
    measured = stream.config.stages[-1].mix
    for _, spec in _shown(stream.config):
        if _why_endless(spec, bank):
            continue
        if spec.n_images is None:
            for split in ("train", "val"):
                tiles = bank.tiles(split)
                for part in np.array_split(tiles, -(-len(tiles) // PORTION)):
                    yield Pictures(_tiles(part), bank, size, spec.picture)
            continue
        yield from stream.dataset(spec, "train").pictures(size)
        if spec in measured:
            yield from stream.dataset(spec, "val", n_val).pictures(size)


def _tiles(tiles: Ints) -> Grids:
    """Each tile (n,) as a grid of its own."""
    labels = class_of(tiles)
    return Grids(
        index=np.arange(len(tiles)),
        split=split_of(tiles),
        key=np.zeros(len(tiles), np.uint64),
        classes=labels.reshape(-1, 1, 1),
        tiles=tiles.reshape(-1, 1, 1),
        palette=labels.reshape(-1, 1),
    )
