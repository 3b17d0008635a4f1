"""`gpt2v mm train`: a vision tower and a projector in front of a trained GPT-2."""

import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, CLIPVisionModel

from gpt2v.config import VisionConfig
from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import IMAGE, PieceTable, special_id
from gpt2v.data.stream import Stream, open_corpora
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.errors import UserError
from gpt2v.experiments import MMConfig
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_gpt2, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader
from gpt2v.model.task import fit_stream
from gpt2v.train.distributed import rank_0_first


def train_mm(config: MMConfig, run: Path, bank: TileBank | None = None) -> None:
    """Train into the run directory; `bank` saves loading the tiles twice."""
    started = time.monotonic()
    bank = bank or load_bank(config.tiles)
    torch.manual_seed(config.train.seed)
    model, tokenizer = build_gpt2v(config)
    model = place(model)
    table = PieceTable(tokenizer)
    renderer = Renderer(bank, table, model.geometry.image_size)
    corpora = rank_0_first(lambda: open_corpora(config.data, tokenizer))
    stream = Stream(config.data, renderer, model.token_geometry, corpora)
    stream.check(model.config.text_config.n_positions)
    reader = Reader.of(model)
    fit_stream("mm", model, tokenizer, reader, stream, config, run, started)


def build_gpt2v(config: MMConfig) -> tuple[GPT2vModel, Tokenizer]:
    """The model before training: a trained GPT-2, a trained or a random vision tower."""
    path = find_checkpoint(config.lm, "lm")
    lm, tokenizer = load_gpt2(path, "lm")
    if config.encoder is None:
        tower = new_vision_tower(config.vision)
    else:
        source = find_checkpoint(config.encoder, "encoder")
        tower = load_pretrained(CLIPVisionModel, source, "encoder")
    depth = tower.config.num_hidden_layers
    if not -depth - 1 <= config.vision_layer <= depth:
        raise UserError(f"vision_layer: {config.vision_layer} must lie in {-depth - 1}..{depth}")
    side = tower.config.image_size // tower.config.patch_size
    if side % config.pool:
        raise UserError(f"pool: {config.pool} must divide the {side} patches along a side")
    image_id = special_id(tokenizer, IMAGE)
    model = GPT2vModel.from_parts(
        tower, lm, config.projector, config.vision_layer, image_id, config.pool
    )
    return model, tokenizer


def new_vision_tower(config: VisionConfig) -> CLIPVisionModel:
    """A CLIP vision tower from random weights."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            **config.model_dump(), intermediate_size=4 * config.hidden_size, hidden_act="gelu"
        )
    )
