"""`gpt2v eval MODEL`: a run or checkpoint of GPT-2v, or of a GPT-2 by itself."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2v.configfile import load
from gpt2v.data.batches import Renderer
from gpt2v.data.pictures import Pictures
from gpt2v.data.pieces import PieceTable
from gpt2v.data.suites import check_bank, load_suite, suite_names
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import HeldOut, Readers, evaluate
from gpt2v.measurements import EvalConfig, HeldOutConfig, SuiteEvalConfig
from gpt2v.mm_train.cached import picture_source
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_gpt2, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.reader import Reader
from gpt2v.model.sources import Picture


def eval_config(suite: str | None, overrides: dict[str, Any]) -> EvalConfig | SuiteEvalConfig:
    """The evaluation of a YAML file, or of a suite by its name."""
    if suite in suite_names():
        return load(SuiteEvalConfig, None, {**overrides, "suite": suite})
    if suite is not None and not Path(suite).exists():
        raise UserError(
            f"--suite: {suite}: no such file, and no suite; the suites are "
            f"{', '.join(suite_names())}"
        )
    return load(EvalConfig, suite, overrides)


def open_gpt2v(source: str, bank: TileBank) -> tuple[GPT2vModel, Renderer]:
    """A GPT-2v, and what renders grids for it."""
    path = find_checkpoint(source, "model")
    model = place(load_pretrained(GPT2vModel, path, "model")).eval()
    table = PieceTable(load_tokenizer(path, "model"))
    return model, Renderer(bank, table, model.geometry.image_size)


def open_gpt2(source: str, bank: TileBank) -> tuple[Reader, Renderer]:
    """A GPT-2 by itself, as a reader, and what renders grids for it."""
    model, tokenizer = load_gpt2(find_checkpoint(source, "model"), "model")
    table = PieceTable(tokenizer)
    return Reader(place(model).eval(), table.image_id), Renderer(bank, table)


def picture_of(model: GPT2vModel, parts: Sequence[HeldOut]) -> Picture:
    """What the parts' pictures are read with: the vision tower, or a cache of its features."""
    parts = [part for part in parts if "image" in part.modalities]
    if not parts:
        return Picture(model)

    def listing() -> Iterator[Pictures]:
        for part in parts:
            yield from part.pictures()

    return picture_source(model, parts[0].render.bank, listing, parts[0].config.features)


def evaluate_model(source: str, config: EvalConfig | SuiteEvalConfig, run: Path) -> dict[str, Any]:
    """Measure a saved model in the configured modalities."""
    has_eyes = _has_eyes(find_checkpoint(source, "model"))
    if set(config.modalities) != {"text"} and not has_eyes:
        raise UserError(f"modalities: {source} is a GPT-2 without eyes; use --modalities '[text]'")
    parts = held_out_parts(config)
    bank = load_bank(config.tiles)
    if isinstance(config, SuiteEvalConfig):
        check_bank(load_suite(config.suite), config.suite, bank)
    geometry = None
    if has_eyes:
        model, render = open_gpt2v(source, bank)
        geometry = model.token_geometry
    else:
        reader, render = open_gpt2(source, bank)
    held_out = [
        HeldOut(part, render, geometry, name, modalities) for part, name, modalities in parts
    ]
    if has_eyes:
        seen = picture_of(model, held_out)
        readers: Readers = {"gpt2v": (Reader.of(model, seen), list(config.modalities))}
    else:
        readers = {"lm": (reader, ["text"])}
    return evaluate(readers, held_out, config, run)


def held_out_parts(
    config: EvalConfig | SuiteEvalConfig,
) -> list[tuple[HeldOutConfig, str | None, list[str]]]:
    """The grids of an evaluation, or of each part of a suite, with its name and modalities.

    Raises:
        UserError: there is no such suite or part, or nothing is left to measure.
    """
    if isinstance(config, EvalConfig):
        return [(config, None, list(config.modalities))]
    suite = load_suite(config.suite)
    known = [part.name for part in suite.parts]
    for name in config.parts or []:
        if name not in known:
            raise UserError(f"parts: {config.suite} has no part {name}, but {', '.join(known)}")
    found: list[tuple[HeldOutConfig, str | None, list[str]]] = []
    for part in suite.parts:
        modalities: list[str] = [m for m in part.modalities if m in config.modalities]
        if modalities and part.name in (config.parts or known):
            grids = HeldOutConfig(
                tiles=config.tiles,
                grid=part.grid,
                split=suite.split,
                n_images=part.n_images,
                seed=suite.seed,
                features=config.features,
            )
            found.append((grids, part.name, modalities))
    if not found:
        raise UserError(f"modalities: no part of {config.suite} is shown as {config.modalities}")
    return found


def _has_eyes(path: str) -> bool:
    local = Path(path) / "config.json"
    try:
        return local.is_file() and json.loads(local.read_text())["model_type"] == "gpt2v"
    except (ValueError, KeyError, TypeError):
        raise UserError(f"model: {local}: not the configuration of a model") from None
