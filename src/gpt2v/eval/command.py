"""`gpt2v eval MODEL`: a run or checkpoint of GPT-2v, or of a GPT-2 by itself."""

import json
from pathlib import Path
from typing import Any

from gpt2v.data.batches import Renderer
from gpt2v.data.pieces import PieceTable
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import HeldOut, Readers, evaluate
from gpt2v.experiments import EvalConfig, HeldOutConfig
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_gpt2, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader


def open_gpt2v(source: str, config: HeldOutConfig, bank: TileBank) -> tuple[GPT2vModel, HeldOut]:
    """A GPT-2v and the grids that it is measured on."""
    path = find_checkpoint(source, "model")
    model = place(load_pretrained(GPT2vModel, path, "model")).eval()
    table = PieceTable(load_tokenizer(path, "model"))
    render = Renderer(bank, table, model.geometry.image_size)
    return model, HeldOut(config, render, model.token_geometry)


def open_gpt2(source: str, config: HeldOutConfig, bank: TileBank) -> tuple[Reader, HeldOut]:
    """A GPT-2 by itself, as a reader, and the grids that it is measured on."""
    model, tokenizer = load_gpt2(find_checkpoint(source, "model"), "model")
    table = PieceTable(tokenizer)
    reader = Reader(place(model).eval(), table.image_id)
    return reader, HeldOut(config, Renderer(bank, table), None)


def evaluate_model(source: str, config: EvalConfig, run: Path) -> dict[str, Any]:
    """Measure a saved model in the configured modalities."""
    bank = load_bank(config.tiles)
    if _has_eyes(find_checkpoint(source, "model")):
        model, held_out = open_gpt2v(source, config, bank)
        readers: Readers = {"gpt2v": (Reader.of(model), list(config.modalities))}
    elif "image" in config.modalities:
        raise UserError(f"modalities: {source} is a GPT-2 without eyes; use --modalities '[text]'")
    else:
        reader, held_out = open_gpt2(source, config, bank)
        readers = {"lm": (reader, ["text"])}
    return evaluate(readers, held_out, config, run)


def _has_eyes(path: str) -> bool:
    local = Path(path) / "config.json"
    try:
        return local.is_file() and json.loads(local.read_text())["model_type"] == "gpt2v"
    except (ValueError, KeyError, TypeError):
        raise UserError(f"model: {local}: not the configuration of a model") from None
