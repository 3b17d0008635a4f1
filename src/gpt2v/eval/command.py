"""`gpt2v eval MODEL`: a run or checkpoint of GPT-2v, or of a GPT-2 by itself."""

import json
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from gpt2v.config import EvalConfig
from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import PieceTable
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import HeldOut, evaluate
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader


def open_gpt2v(source: str, config: EvalConfig, bank: TileBank) -> tuple[GPT2vModel, HeldOut]:
    """A GPT-2v and the grids that it is measured on."""
    path = find_checkpoint(source, "model")
    model = place(load_pretrained(GPT2vModel, path, "model")).eval()
    table = PieceTable(load_tokenizer(path, "model"))
    render = Renderer(bank, table, model.geometry.image_size)
    return model, HeldOut(config, render, model.token_geometry)


def evaluate_model(source: str, config: EvalConfig, run: Path) -> dict[str, Any]:
    """Measure a saved model in the configured modalities."""
    path = find_checkpoint(source, "model")
    bank = load_bank(config.tiles)
    local = Path(path) / "config.json"
    if local.is_file() and json.loads(local.read_text()).get("model_type") == "gpt2v":
        model, held_out = open_gpt2v(path, config, bank)
        return evaluate({"gpt2v": (Reader.of(model), list(config.modalities))}, held_out, run)
    if "image" in config.modalities:
        raise UserError(f"modalities: {source} is a GPT-2 without eyes; use --modalities '[text]'")
    lm = place(load_pretrained(GPT2LMHeadModel, path, "model")).eval()
    table = PieceTable(load_tokenizer(path, "model"))
    held_out = HeldOut(config, Renderer(bank, table), None)
    return evaluate({"lm": (Reader(lm, table.image_id), ["text"])}, held_out, run)
