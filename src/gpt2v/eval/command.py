"""`gpt2v eval MODEL`: a run or checkpoint of GPT-2v, or of a GPT-2 by itself."""

from pathlib import Path
from typing import Any

from gpt2v.config.measuring import EvalConfig, SuiteEvalConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.suites.load import load_suite
from gpt2v.data.suites.samples import check_bank, part_data
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import Part, Readers, evaluate
from gpt2v.features.sources import picture_source
from gpt2v.model.load import load_model


def evaluate_model(source: str, config: EvalConfig | SuiteEvalConfig, run: Path) -> dict[str, Any]:
    """Measure a saved model in the configured modalities."""
    loaded = load_model(source)
    if set(config.modalities) != {"text"} and loaded.gpt2v is None:
        raise UserError(f"modalities: {source} is a GPT-2 without eyes; use --modalities '[text]'")
    bank = load_bank(config.tiles)
    parts = parts_of(config, bank)
    picture = None
    if loaded.gpt2v is not None:
        shown = [part.data for part in parts if set(part.modalities) != {"text"}]
        picture = picture_source(loaded.gpt2v, shown, config.features)
    name = "lm" if loaded.gpt2v is None else "gpt2v"
    readers: Readers = {name: (loaded.reader(picture), list(config.modalities))}
    return evaluate(readers, parts, loaded.renderer(bank), config, run)


def parts_of(config: EvalConfig | SuiteEvalConfig, bank: TileBank) -> list[Part]:
    """The grids of an evaluation, or of each part of a suite.

    Raises:
        UserError: there is no such suite or part, its tiles are too few, or nothing is left to
            measure.
    """
    if isinstance(config, EvalConfig):
        return [Part(held_out(config, bank), modalities=list(config.modalities))]
    suite = load_suite(config.suite)
    known = [part.name for part in suite.parts]
    for name in config.parts or []:
        if name not in known:
            raise UserError(f"parts: {config.suite} has no part {name}, but {', '.join(known)}")
    found = []
    for part in suite.parts:
        modalities: list[str] = [m for m in part.modalities if m in config.modalities]
        if modalities and part.name in (config.parts or known):
            found.append(Part(part_data(suite, part, bank), part.name, modalities))
    if not found:
        raise UserError(f"modalities: no part of {config.suite} is shown as {config.modalities}")
    check_bank(suite, config.suite, bank)
    return found


def held_out(config: EvalConfig, bank: TileBank) -> GridDataset:
    """The grids that a configuration describes."""
    c = config
    return GridDataset(c.grid, bank, c.seed, c.split, c.n_images, "grid.")
