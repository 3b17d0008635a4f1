"""Reads hidden states of a GPT-2v at the sites of a probe; which patches show which cell."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from gpt2v.config.probing import FEWEST_ROWS, MAIN, ROWS_PER_FEATURE, ProbeConfig
from gpt2v.config.sites import OF_PICTURES, Site, sites_of
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.pictures import Pictures
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError, within
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel
from gpt2v.model.projector import mean_of_regions
from gpt2v.model.states import picture_states, random_tower, text_states
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.cells import CellMap, States
from gpt2v.train.finite import OVERFLOW, check_finite


def sites_of_probe(config: ProbeConfig, model: GPT2vModel, key: str) -> list[Site]:
    """The sites that a key of the configuration names; the projector's input stands for its layer.

    Args:
        key: `sites` or `measured_sites`.

    Raises:
        UserError: a layer is not there.
    """
    vision, lm = model.config.vision_config, model.config.text_config
    depth = vision.num_hidden_layers
    main = Site("vision", model.config.vision_layer % (depth + 1))
    found = sites_of(getattr(config, key), depth, lm.n_layer, key)
    return list(dict.fromkeys(MAIN if site == main else site for site in found))


class _Seen(ProjectedPatches):
    """The features of the pictures that were read last, so that the tower runs once."""

    last: Tensor

    def features(self, pictures: Pictures) -> Tensor:
        """(n_pictures, n_patches, width)."""
        return self.last


@dataclass(frozen=True)
class StatesReader:
    """Reads the sites of a probe.

    Attributes:
        loaded: the GPT-2v.
        bank: the tiles.
        config: of the probe.
        sites: what is read.
        pools: of sites with finer patches than the last layer's that are averaged to these: the
            side of a region in patches.
    """

    loaded: LoadedModel
    bank: TileBank
    config: ProbeConfig
    sites: Sequence[Site]
    pools: dict[Site, int] = field(default_factory=dict)

    @property
    def model(self) -> GPT2vModel:
        """The GPT-2v."""
        assert self.loaded.gpt2v is not None
        return self.loaded.gpt2v

    def __call__(self, data: GridDataset, index: Ints) -> dict[Site, States]:
        """The states of the grids with these numbers at each site, (n_grids, n_patches, width).

        With one picture for each cell, n_patches counts those of all of them.

        Raises:
            UserError: a state is NaN or infinite.
        """
        grids = data.grids(index)
        pictures = Pictures(
            grids, self.bank, self.model.geometry.image_size, self.config.grid.picture
        )
        of_pictures = [site for site in self.sites if site.name in OF_PICTURES]
        found = picture_states(self.model, pictures.pixels, of_pictures, self._random)
        for site, pool in self.pools.items():
            found[site] = mean_of_regions(found[site], pool)
        features = found[MAIN]
        if self.model.config.class_token:  # which is no patch, but is projected
            features = self.model.vision_features(self.model.normalise(pictures.pixels))
        found = {site: x.reshape(len(index), -1, x.shape[-1]) for site, x in found.items()}
        if of_text := [site for site in self.sites if site.name not in OF_PICTURES]:
            found |= self._of_text(data, index, of_text, features)
        check_finite({str(site): x for site, x in found.items()}, "model", OVERFLOW)
        return {site: found[site].float().cpu().numpy() for site in self.sites}

    def _of_text(
        self, data: GridDataset, index: Ints, sites: Sequence[Site], features: Tensor
    ) -> dict[Site, Tensor]:
        """The states of the GPT-2 at image positions, (n_grids, n_patches, width).

        Args:
            features: the projector's input.
        """
        source = _Seen(self.model)
        source.last = features
        scorer = self.loaded.scorer(self.bank, source)
        asked = replace(data, spec=self.config.grid.asked(1))  # no image position sees a question
        batch = asked.batch(index, "image", scorer.render)
        return text_states(scorer.reader, batch, sites, scorer.render.table)

    @cached_property
    def _random(self) -> PreTrainedModel | None:
        """The tower with random weights, if a site needs it."""
        if all(site.name != "random" for site in self.sites):
            return None
        return random_tower(self.model, self.config.seed)

    # ---- patches and cells -----------------------------------------------------------------------

    def geometry(self, site: Site) -> PictureGeometry:
        """The patches of a picture whose states a site has."""
        vision = self.model.config.vision_config
        sizes = getattr(vision, "layer_patch_sizes", None)
        if site.name in ("vision", "random") and sizes is not None:
            side = sizes[site.layer] * self.pools.get(site, 1)
            return PictureGeometry(vision.image_size, side)
        if site.name in ("post-projector", "lm"):
            side = vision.patch_size * self.model.config.pool
            return PictureGeometry(vision.image_size, side)
        return self.model.geometry

    def maps(self) -> dict[Site, CellMap]:
        """The patches of each cell, at each site.

        Raises:
            UserError: a cell has no patch, or a grid does not fit the pictures.
        """
        spec = self.config.grid
        shape, size = spec.largest_shape, self.bank.size
        found = {}
        with within("grid."):  # those of the model's input, which have clear messages
            span = self.model.token_geometry.span(*shape, size, spec.picture)
        for site in self.sites:
            geometry = self.geometry(site)
            own = CellMap.of(shape, size, spec.picture, geometry, self.config.cells)
            if site.name == "lm":  # has no position for patches outside of the grid
                real = span.patch >= 0
                own = own.among(span.picture[real] * geometry.n_patches + span.patch[real])
            found[site] = own
        return found


def reader_of(
    loaded: LoadedModel, bank: TileBank, config: ProbeConfig
) -> tuple[StatesReader, dict[Site, CellMap], ProbeConfig]:
    """What reads the sites of a probe, the patches of cells, and the probe's configuration.

    In it, `n_train` is given, and `measured_sites` names each site by its layer, counted from 0.

    Raises:
        UserError: a layer is not there, a cell has no patch, a grid does not fit the pictures, it
            cannot be drawn with these tiles, or the model cannot be asked about it.
    """
    assert loaded.gpt2v is not None
    if loaded.geometry is None:
        raise UserError(
            f"{loaded.key}: {loaded.name or loaded.path}: its image positions hold "
            f"{loaded.gpt2v.config.vision_tokens}; a probe reads models that look at patches"
        )
    first = GridDataset(config.grid, bank, config.seed, n=1)
    with within("grid."):
        first.first()
        for modality in config.modalities:
            loaded.scorer(bank).check(replace(first, spec=config.grid.asked()), modality)
    measured = sites_of_probe(config, loaded.gpt2v, "measured_sites")
    config = config.model_copy(update={"measured_sites": list(map(str, measured))})
    sites = [MAIN, *sites_of_probe(config, loaded.gpt2v, "sites"), *measured]
    reader = StatesReader(loaded, bank, config, list(dict.fromkeys(sites)))
    maps = reader.maps()
    states = reader(first, np.zeros(1, np.int64))
    n_features = {site: maps[site].n_features(states[site].shape[2]) for site in reader.sites}
    if config.n_train is None:
        n_train = max(ROWS_PER_FEATURE * n_features[MAIN], FEWEST_ROWS)
        config = config.model_copy(update={"n_train": n_train})
    assert config.n_train is not None
    if config.n_train < len(bank.class_names):
        raise UserError(
            f"n_train: {config.n_train} pictures are fewer than the {len(bank.class_names)} classes"
        )
    last = loaded.gpt2v.geometry.patch_size
    pools = {
        site: last // reader.geometry(site).patch_size
        for site in reader.sites
        if site.name in ("vision", "random")
        and reader.geometry(site).patch_size < last
        and (n_features[site] > config.n_train or config.cells.rule == "mean")
    }
    reader = StatesReader(loaded, bank, config, reader.sites, pools)
    return reader, reader.maps(), config
