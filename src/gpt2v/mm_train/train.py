"""`gpt2v mm train`: train a vision tower, a projector and an already trained GPT-2 together."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedConfig

from gpt2v.config.choice import choose
from gpt2v.config.effect import settled_choice
from gpt2v.config.training import MMConfig
from gpt2v.curriculum.fit import Prepared, check_stream, fit_stream, prepared, stage_plan
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream, open_corpora
from gpt2v.data.text_pieces import IMAGE, PieceTable, special_id
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.features.sources import CachedPatches, training_source
from gpt2v.hardware.device import place
from gpt2v.model.encoders import (
    check_layer,
    encoder_config,
    load_encoder,
    new_encoder,
    shape_of,
)
from gpt2v.model.families import family_of
from gpt2v.model.found import find_checkpoint
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import load_gpt2v, load_model
from gpt2v.model.packed import Reader
from gpt2v.model.vision_tokens import ProjectedPatches, token_source
from gpt2v.registry import PROJECTORS, TOKEN_SOURCES
from gpt2v.train.distributed import rank, rank_0_first
from gpt2v.train.metrics import check_loggers
from gpt2v.train.stages import trained
from gpt2v.trained.compare import recorded
from gpt2v.trained.parts import say_differences
from gpt2v.trained.record import record_of


def train_mm(config: MMConfig, run: Path, bank: TileBank | None = None) -> None:
    """Train into the run directory.

    Args:
        bank: the tiles of `config.tiles`, if they are loaded already.

    Raises:
        UserError: the parts or the data do not fit the configuration.
    """
    started = time.monotonic()
    config = settled_mm(config)
    fit_stream(prepare_mm(config, bank), config, run, started)


def prepare_mm(config: MMConfig, bank: TileBank | None = None) -> Prepared:
    """Everything that the training needs, checked for all of its stages.

    Args:
        bank: the tiles of `config.tiles`, if they are loaded already.

    Raises:
        UserError: the parts or the data do not fit the configuration.
    """
    check_loggers(config.train)
    bank = bank or load_bank(config.tiles)
    torch.manual_seed(config.train.seed)
    model, tokenizer = build_gpt2v(config)
    parts = {key: getattr(config, key) for key in ("lm", "encoder", "projector_from")}
    records = {
        key: recorded(part, find_checkpoint(part, key)) for key, part in parts.items() if part
    }
    if rank() == 0:
        for key, part_record in records.items():
            say_differences(key, parts[key], part_record, bank)
    model = place(model)
    table = PieceTable(tokenizer, f"lm: {config.lm}")
    renderer = Renderer(bank, table, model.token_geometry)
    source = token_source(model, renderer)
    stream = Stream(config.data, renderer, layouts={"image": source.layout})
    check_stream(stream, model.config.text_config.n_positions, config)
    corpora = rank_0_first(lambda: open_corpora(config.data, tokenizer))
    stream = replace(stream, corpora=corpora)
    trains = any(name.startswith("vision_tower") for name in trained(model, stage_plan(config)))
    if type(source) is ProjectedPatches:
        source = training_source(model, stream, config, trains)
    reader = Reader(model.language_model, table.image_id, source)
    own = record_of(bank, config.data.grids, config.data.has_pictures)
    record = own.after(*records.values())
    ready = prepared("mm", model, tokenizer, reader, stream, record, config)
    if trains:
        lists = [m for m in model.vision_tower.modules() if isinstance(m, nn.ModuleList)]
        lists.reverse()  # inner ones first, as FSDP2 needs it
        ready = replace(ready, layers=tuple(layer for layers in lists for layer in layers))
    if not isinstance(source, CachedPatches):
        return ready
    patches = source

    def begin(start: int, end: int) -> None:
        if stream.shows_pictures(start, end):
            patches.begin()

    return replace(ready, begin=begin)


def settled_mm(config: MMConfig) -> MMConfig:
    """The configuration with what `encoder` decides: the vision tower and its shape.

    Raises:
        UserError: `encoder` is no vision tower, or the configuration has another one.
    """
    if config.encoder is None:
        return config
    tower = encoder_config(
        find_checkpoint(config.encoder, "encoder"), config.image_size, config.encoder_family
    )
    vision = settled_choice(config, shape_of(tower), "vision", f"encoder: {config.encoder}")
    return config.model_copy(update={"vision": vision})


def build_gpt2v(config: MMConfig) -> tuple[GPT2vModel, Tokenizer]:
    """The untrained GPT-2v and its tokenizer, from a GPT-2 and a trained or random vision tower.

    Raises:
        UserError: a part cannot be loaded, or the parts do not fit.
    """
    loaded = load_model(config.lm, "lm", "gpt2", for_inference=False)
    lm, tokenizer = loaded.lm, loaded.tokenizer
    if config.encoder is None:
        encoder = new_encoder(config.vision)
    else:
        path = find_checkpoint(config.encoder, "encoder")
        encoder = load_encoder(path, config.image_size, family=config.encoder_family)
    _check_parts(config, encoder.tower.config)
    model = GPT2vModel.from_parts(
        encoder,
        lm,
        projector=choose(PROJECTORS, config.projector).plain(defaults=False),
        vision_tokens=choose(TOKEN_SOURCES, config.vision_tokens).plain(defaults=False),
        vision_layer=config.vision_layer,
        image_token_id=special_id(tokenizer, IMAGE),
        pool=config.pool,
        class_token=config.class_token,
    )
    if config.projector_from is not None:
        _take_projector(model, config.projector_from)
    return model, tokenizer


def _check_parts(config: MMConfig, vision: PreTrainedConfig) -> None:
    """Check that the vision tower has what the configuration asks for."""
    key = "vision" if config.encoder is None else "encoder"
    tower = f"{key}: {getattr(config, key)}"
    check_layer(vision, config.vision_layer)
    if vision.image_size % vision.patch_size:
        raise UserError(
            f"{tower}: pictures of {vision.image_size} pixels cannot be cut into "
            f"{vision.patch_size}-pixel patches; set image_size to a multiple"
        )
    side = vision.image_size // vision.patch_size
    if side % config.pool:
        raise UserError(f"pool: {config.pool} must divide the {side} patches along a side")
    if config.class_token and not family_of(vision).n_class_tokens:
        raise UserError(f"class_token: {getattr(config, key)} has none; use class_token: false")
    if config.class_token and config.projector == "pixel-shuffle" and config.pool > 1:
        raise UserError("class_token: pixel-shuffle joins patches; a class token has no patches")


def _take_projector(model: GPT2vModel, path: str) -> None:
    """Copy the projector's weights from another GPT-2v."""
    _, other = load_gpt2v(path, "projector_from", for_inference=False)
    mine, theirs = model.projector, other.projector
    if type(mine) is not type(theirs):
        raise UserError(
            f"projector_from: {path}: its projector is {other.config.projector}, not "
            f"{model.config.projector}"
        )
    widths = [(p.d_vision, p.d_text) for p in (mine, theirs)]
    if widths[0] != widths[1]:
        raise UserError(
            f"projector_from: {path}: its projector maps width {widths[1][0]} to {widths[1][1]}, "
            f"but {widths[0][0]} to {widths[0][1]} is needed"
        )
    if _without_dropout(model) != _without_dropout(other):
        raise UserError(
            f"projector_from: {path}: its projector is {other.config.projector}, with other "
            f"options than {model.config.projector}"
        )
    mine.load_state_dict(theirs.state_dict())


def _without_dropout(model: GPT2vModel) -> Any:
    """The projector's name and options, but for the one that its weights do not depend on."""
    plain = choose(PROJECTORS, model.config.projector).plain()
    return {**plain, "dropout": 0} if "dropout" in plain else plain
