"""`gpt2v eval MODEL`: measure a run, a checkpoint or a hub id on held-out grids.

The model reads each grid once, in a packed pass with all questions. Each question gives one record.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.hf import check_asked, is_hf
from gpt2v.config.measuring import EvalConfig, SuiteEvalConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import pooled
from gpt2v.data.suites.load import as_suited, chosen_parts, load_suite, with_tiles
from gpt2v.data.suites.samples import check_bank, part_data, suite_hash
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval import agreement, attention, patch_borders
from gpt2v.eval.facts import Facts
from gpt2v.eval.gap import gap_of
from gpt2v.eval.metrics import columns_read
from gpt2v.eval.renderings import spread_of
from gpt2v.eval.rows import rows_of
from gpt2v.eval.series import Part, ScoredModel, Series
from gpt2v.eval.shards import EvaluationJob
from gpt2v.execute.executors import serial
from gpt2v.execute.job import do_all
from gpt2v.features.sources import picture_source
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.load import load_model
from gpt2v.results import read_results
from gpt2v.run_layout import RECORDS, is_finished
from gpt2v.storage.files import write_bytes, writing
from gpt2v.trained.compare import NOT_COMPARED, Comparison, Measured
from gpt2v.trained.defaults import as_trained

C = TypeVar("C", bound=EvalConfig | SuiteEvalConfig)


def evaluate_model(model: str, config: EvalConfig | SuiteEvalConfig, run: Path) -> dict[str, Any]:
    """Measure a saved model in the configured modalities; returns the content of results.json.

    Args:
        model: a run, a checkpoint directory or a hub id; or `hf:` and one of any other project.
        config: what is not given in it is taken from the model's run.
        run: the run directory of the evaluation.

    Raises:
        UserError: the model cannot be loaded, or it cannot be measured as configured.
    """
    check_asked(config, model)
    if isinstance(config, SuiteEvalConfig):
        config = as_suited(config)
    if is_hf(model):
        return _evaluate_hf(model, config, run)
    loaded = load_model(model)
    filled = as_trained(config, model)
    config = _with_tiles(filled.config, config)
    if set(config.modalities) != {"text"} and loaded.gpt2v is None:
        raise UserError(
            f"modalities: {model} is a GPT-2 without vision tower; use --modalities text"
        )
    bank = filled.bank(config.tiles)
    parts = parts_of(config, bank)
    shown_as = [(part.data, part.shown(config.modalities)) for part in parts]
    measured = Measured(bank, shown_as, config.mode)
    comparison = loaded.compared(measured, config.allow, filled.said)
    patches = None
    if loaded.gpt2v is not None:
        shown = [part.data for part in parts if set(part.modalities) != {"text"}]
        patches = picture_source(loaded.gpt2v, shown, config.features)
    name = "lm" if loaded.gpt2v is None else "gpt2v"
    scorer = loaded.scorer(bank, patches)
    modalities = list(config.modalities)
    models = [ScoredModel(name, scorer, modalities, loaded.identity, loaded.geometry)]
    return evaluate(models, parts, config, run, comparison)


def _evaluate_hf(model: str, config: EvalConfig | SuiteEvalConfig, run: Path) -> dict[str, Any]:
    """`evaluate_model` of any Hugging Face model."""
    from gpt2v.eval.hf.load import load_hf  # all of transformers
    from gpt2v.eval.hf.scorer import HFScorer

    loaded = load_hf(model, config.hf, pictures=set(config.modalities) != {"text"})
    config = _with_tiles(as_trained(config, model).config, config)
    parts = parts_of(config, load_bank(config.tiles))
    scorer = HFScorer(loaded, config.hf.prompt, config.hf.batch_size)
    modalities = list(config.modalities)
    models = [ScoredModel("hf", scorer, modalities, loaded.identity, loaded.geometry, scorer.fills)]
    prompt = scorer.try_out(parts, config.modalities)
    facts = {"checkpoint": loaded.identity, "prompt": prompt}
    return evaluate(models, parts, config, run, Comparison(results=facts))


def _with_tiles(config: C, given: C) -> C:
    """A configuration with as many sprites as its suite asks for, unless the user gave a number."""
    if isinstance(config, SuiteEvalConfig):
        return with_tiles(config, given.tiles.test_per_class)
    return config


def parts_of(config: EvalConfig | SuiteEvalConfig, bank: TileBank) -> list[Part]:
    """The grids of an evaluation, or of each part of a suite.

    Raises:
        UserError: there is no such suite or part, there are too few tiles, or no part is left to
            measure.
    """
    if isinstance(config, EvalConfig):
        data = evaluation_data(config, bank)
        return [Part(data, modalities=list(config.modalities), mode=config.mode)]
    suite = load_suite(config.suite)
    parts = [
        Part(part_data(suite, part, bank, config.limit), part.name, modalities, config.mode)
        for part, modalities in chosen_parts(config)
    ]
    check_bank(suite, config.suite, bank)
    return parts


def evaluation_data(config: EvalConfig, bank: TileBank) -> GridDataset:
    """The data set that a configuration describes."""
    c = config
    return GridDataset(c.grid, bank, c.seed, c.split, c.n_images, "grid.")


def evaluate(
    models: Sequence[ScoredModel],
    parts: Sequence[Part],
    config: EvalConfig | SuiteEvalConfig,
    run: Path,
    comparison: Comparison = NOT_COMPARED,
) -> dict[str, Any]:
    """Measure models, each in its modalities; writes records, examples and results.

    Args:
        comparison: of what is measured with the training.

    Returns:
        The content of results.json.
    """
    started = time.monotonic()
    for model in models:
        for part in parts:
            for modality in part.shown(model.modalities):
                model.scorer.check(part.data, modality, part.mode)
    series = [
        Series(model, part, modality)
        for model in models
        for part in parts
        for modality in part.shown(model.modalities)
    ]
    pictured = attention.shown(series) if config.attention else []
    runs.write_config(run, config)
    job = EvaluationJob(series, run)
    if is_finished(run):  # it is resumed
        job.remove()
        return _kept(run, models)
    job.check_begun()
    do_all(job, "eval", lambda job, missing: serial(job, missing, None))
    columns = columns_read(config.metrics)
    is_across = len({(one.model.name, one.part.name) for one in series}) < len(series)
    if columns is not None and is_across:  # some model is asked in several modalities
        columns = list(dict.fromkeys([*columns, *agreement.COLUMNS]))
    if columns is not None and patch_borders.seen_parts(series):
        columns = list(dict.fromkeys([*columns, *patch_borders.COLUMNS]))
    tables = [job.table(one, columns) for one in series]
    facts = {part.name: Facts.of(part.data, part.mode) for part in parts}
    try:
        rows = [
            row
            for one, table in zip(series, tables, strict=True)
            for row in rows_of(one, table, facts[one.part.name], config.metrics)
        ]
    except UserError:  # of a user's own metric: with --resume it would be the same
        job.remove()
        raise
    if pictured:
        attention.write_attention(run, pictured, config.attention)
    job.write(run / RECORDS)
    if set(config.modalities) != {"text"}:
        save_examples(parts[0].data, config.examples, run / "examples")
    comparison.say()
    hashes = [part.data.hash for part in parts]
    suite: dict[str, Any] = {}
    if isinstance(config, SuiteEvalConfig):
        loaded = load_suite(config.suite)
        suite = {"suite": config.suite, "suite_hash": suite_hash(loaded, parts[0].data.bank)}
        if loaded.renderings:
            suite["renderings"] = spread_of(series, tables)
    results = runs.write_results(
        run,
        "eval",
        started,
        hardware=hardware_facts(),
        seed=parts[0].data.seed,
        data_hash=hashes[0] if len(hashes) == 1 else hash_of(*hashes),
        results=rows,
        **comparison.results,
        **suite,
        **gap_of(series, tables),
        **patch_borders.borders_of(series, tables),
        **({"agreement": _agreement(series, tables, facts)} if is_across else {}),
    )
    job.remove()
    return results


def _kept(run: Path, models: Sequence[ScoredModel]) -> dict[str, Any]:
    """The results of a finished run.

    Raises:
        UserError: they are those of other weights.
    """
    results = read_results(run)
    before = results.get("checkpoint", {}).get("weights")
    if before not in (None, *(model.identity.get("weights") for model in models)):
        raise UserError(f"{run}: is finished, with other weights ({before}); choose another --out")
    return results


def _agreement(
    series: Sequence[Series], tables: Sequence[pa.Table], facts: Mapping[str | None, Facts]
) -> list[dict[str, Any]]:
    """The rows of `agreement`."""
    found = {
        (one.model.name, one.part.name, one.modality): table
        for one, table in zip(series, tables, strict=True)
    }
    chance = pooled(fact.baselines for fact in facts.values())
    rates = {instruction: own.chance for instruction, (_, own) in chance.items()}
    return agreement.agreement_of(found, rates)


def save_examples(data: GridDataset, n: int, folder: Path) -> None:
    """Write the pictures of the first `n` grids in their natural size, named by sample index."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for example in data.examples(np.arange(n)) if n else ():
        for number, png in enumerate(example.pngs):
            several = len(example.pictures) > 1
            name = f"{example.index}-{number}.png" if several else f"{example.index}.png"
            write_bytes(folder / name, png)
