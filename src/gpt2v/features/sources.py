"""Token sources that take the projector's features from the vision tower or from its cache.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np
from torch import Tensor

from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.training import MMConfig
from gpt2v.data.dataset import PORTION, GridDataset
from gpt2v.data.grids.cells import Grids
from gpt2v.data.render.pictures import Pictures, is_random
from gpt2v.data.render.windows import as_windows
from gpt2v.data.rng import Ints
from gpt2v.data.stream import Stream
from gpt2v.data.tiles.bank import TileBank, class_of, split_of
from gpt2v.errors import UserError
from gpt2v.features.store import CacheUnavailable
from gpt2v.features.stored import StoredPatches, open_stored
from gpt2v.hardware.precision import usable_precision
from gpt2v.model.families import window_of
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.train.distributed import rank, rank_0_first

# Opens a cache, if there can be one. The argument says whether the tower trains.
_OpenStored = Callable[[bool], StoredPatches | None]


def picture_source(
    model: GPT2vModel, sets: Sequence[GridDataset], config: FeaturesConfig
) -> ProjectedPatches:
    """The token source for measuring a model on data sets; it uses a cache if there is one.

    Only `mode: require` makes a cache, because a tower is usually measured once or twice after its
    training.

    Raises:
        UserError: a cache is required, but it is too large or cannot be written.
    """
    if config.mode == "off" or not sets:
        return ProjectedPatches(model)

    def listing() -> Iterator[Pictures]:
        for data in sets:
            yield from data.pictures(model.geometry.image_size)

    try:
        make = config.mode == "require"
        stored = open_stored(model, sets[0].bank, listing, config, make=make)
    except CacheUnavailable as error:
        raise UserError(f"features: {error}") from None
    return stored or ProjectedPatches(model)


# ---- in training -----------------------------------------------------------------------------


class CachedPatches(ProjectedPatches):
    """The tower while it trains, its cached features while it does not.

    A cache is opened, or made, only when a stage begins (`begin`), which all processes do together:
    later one of them may be alone, e.g. when it validates. The weights of a frozen tower are those
    of the stage's begin until its end, but for averages of them that are put in their place.

    Args:
        open_stored: called with whether the tower trains: once with true, and with false whenever a
            frozen tower has new weights.
        may_train: whether the tower trains in any stage; else its weights are always the same.
    """

    def __init__(self, model: GPT2vModel, open_stored: _OpenStored, may_train: bool = True) -> None:
        super().__init__(model)
        self._live = self._frozen = ProjectedPatches(model)
        self._last: ProjectedPatches | None = None  # the source of the last batch
        self._open_stored = open_stored
        self._may_train = may_train
        self._weights: list[tuple[int, int]] | None = None  # the weights that `_frozen` belongs to
        self._has_trained = False

    def begin(self) -> None:
        """Get ready for a stage that shows pictures, with the parameters that train in it."""
        if self._trains():
            if not self._has_trained:
                self._has_trained = True
                self._open_stored(True)  # prints why there is no cache
        elif self._weights != self._now():
            self._frozen = self._open_stored(False) or self._live
            self._weights = self._now()

    def features(self, pictures: Pictures) -> Tensor:
        """Features of the pictures: (P, N, D), or (P, N + 1, D) with the class token."""
        self._last = self._current()
        return self._last.features(pictures)

    def prepare(self, pictures: Pictures) -> None:
        """Draw the pixels that the source of the last batch would need of these pictures."""
        if self._last is not None:
            self._last.prepare(pictures)

    def n_seen(self, pictures: Pictures) -> int:
        """Number of pictures that the vision tower runs on."""
        return self._current().n_seen(pictures)

    def _current(self) -> ProjectedPatches:
        """The source to use for the current batch."""
        is_kept = not self._trains() and self._weights == self._now()
        return self._frozen if is_kept else self._live

    def _trains(self) -> bool:
        return any(p.requires_grad for p in self.model.vision_tower.parameters())

    def _now(self) -> list[tuple[int, int]]:
        """Other values than before, if the tower has other weights than before."""
        parameters = self.model.vision_tower.parameters() if self._may_train else ()
        return [(p.data_ptr(), p._version) for p in parameters]


def training_source(
    model: GPT2vModel, stream: Stream, config: MMConfig, trains: bool = False
) -> ProjectedPatches:
    """The token source of a training, as `config.features` says.

    Args:
        trains: whether the vision tower trains in any stage.

    Raises:
        UserError: a cache is required, but the vision tower trains, some pictures of the data never
            occur again, or the cache is too large.
    """
    mode = config.features.mode
    if mode == "off" or stream.render is None:
        return ProjectedPatches(model)
    bank = stream.render.bank
    shown = _shown(stream.config)
    endless = {
        key: f"{key}n_images: {reason}"
        for key, spec in shown
        if (reason := _why_endless(spec, bank, model))
    }
    first = next(iter(endless.values()), None)
    if mode == "require" and first:
        raise UserError(f"features.mode: require, but {first}")
    precision = usable_precision(config.train.precision, model.device)

    def open_cache(trains: bool) -> StoredPatches | None:
        try:
            if trains:
                raise CacheUnavailable("the vision tower trains")
            if first and len(endless) == len(shown):
                raise CacheUnavailable(first)
            return open_stored(
                model,
                bank,
                lambda: _finite_pictures(stream, endless, config.train.eval_grids),
                config.features,
                precision,
            )
        except CacheUnavailable as error:
            if mode == "require":
                raise UserError(f"features.mode: require, but {error}") from None
            if rank() == 0:
                print(f"features: not cached: {error}", flush=True)
            return None

    if mode == "require":  # now, not in the stage that needs it
        rank_0_first(lambda: open_cache(trains))
    if trains and config.train.shard:  # the weights of a sharded tower are nowhere for a cache
        open_cache(True)  # prints why there is no cache
        return ProjectedPatches(model)
    return CachedPatches(model, lambda trains: rank_0_first(lambda: open_cache(trains)), trains)


def _shown(data: DataConfig) -> list[tuple[str, GridConfig]]:
    """The specs with pictures, each with its key in the configuration."""
    return [
        (key, spec)
        for key, spec in data.specs
        if isinstance(spec, GridConfig) and spec.modality != "text"
    ]


def _why_endless(spec: GridConfig, bank: TileBank, model: GPT2vModel) -> str | None:
    """Why training never repeats pictures of a spec; None if it does repeat them."""
    if spec.n_images is not None:
        return None
    tile = _tiles(bank.members("train", 0)[:1])
    one = Pictures(tile, bank, model.geometry.image_size, spec.picture)
    window = window_of(model.config.vision_config)
    if spec.picture.layout != "multi" and as_windows(one, window) is None:
        return "none, so that every picture is new"
    if is_random(tile, bank, spec.picture):
        return "none, and no two pictures of a tile are equal (augmented, moved or with noise)"
    return None


def _finite_pictures(stream: Stream, endless: Container[str], n_val: int) -> Iterator[Pictures]:
    """Pictures that the training repeats, and pictures that it is validated on.

    Args:
        endless: keys of specs whose pictures are new at every step.
    """
    assert stream.render is not None
    assert stream.render.geometry is not None
    bank, size = stream.render.bank, stream.render.geometry.image_size
    validated = stream.config.stages[-1].mix
    for key, spec in _shown(stream.config):
        if key in endless:
            continue
        if spec.n_images is None:
            for split in ("train", "val"):
                tiles = bank.tiles(split)
                for part in np.array_split(tiles, -(-len(tiles) // PORTION)):
                    yield Pictures(_tiles(part), bank, size, spec.picture)
            continue
        yield from stream.dataset(spec, "train").pictures(size)
        if spec in validated:
            yield from stream.dataset(spec, "val", n_val).pictures(size)


def _tiles(tiles: Ints) -> Grids:
    """Each tile (n_tiles,) as a grid with one cell."""
    labels = class_of(tiles)
    return Grids(
        index=np.arange(len(tiles)),
        split=split_of(tiles),
        key=np.zeros(len(tiles), np.uint64),
        classes=labels.reshape(-1, 1, 1),
        tiles=tiles.reshape(-1, 1, 1),
        palette=labels.reshape(-1, 1),
    )
