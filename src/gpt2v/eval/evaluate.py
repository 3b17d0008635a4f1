"""`gpt2v eval MODEL`: a run, a checkpoint or a hub id is measured on held-out grids.

One packed pass per grid, one record per question.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.measuring import EvalConfig, SuiteEvalConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import Tally, tally
from gpt2v.data.suites.load import load_suite
from gpt2v.data.suites.samples import check_bank, part_data, suite_hash
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval.records import record_table
from gpt2v.features.sources import picture_source
from gpt2v.model.load import load_model
from gpt2v.model.scoring import Records, Scorer, score_all
from gpt2v.registry import METRICS, choose
from gpt2v.stats import paired_interval

Scorers = Mapping[str, tuple[Scorer, list[str]]]  # by name, each with its modalities


@dataclass(frozen=True)
class Part:
    """The grids of one evaluation, or of one part of a suite; every view shows the same samples."""

    data: GridDataset
    name: str | None = None  # within its suite
    modalities: Sequence[str] = ("text", "image")  # how they may be shown

    def shown(self, modalities: Sequence[str]) -> list[str]:
        """Those of some modalities in which it may be shown."""
        return [modality for modality in modalities if modality in self.modalities]


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
    scorers: Scorers = {name: (loaded.scorer(bank, picture), list(config.modalities))}
    return evaluate(scorers, parts, config, run)


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


def summarise(records: pa.Table, metrics: Sequence[str] = ("accuracy",)) -> dict[str, Any]:
    """What each metric gives for some records.

    Raises:
        UserError: two metrics give a value with the same key.
    """
    row: dict[str, Any] = {}
    for metric in metrics:
        values = choose(METRICS, metric).load()(records)
        if twice := row.keys() & values.keys():
            raise UserError(f"metrics: {metric}: another metric gives '{min(twice)}' too")
        row |= values
    return row


def evaluate(
    scorers: Scorers,
    parts: Sequence[Part],
    config: EvalConfig | SuiteEvalConfig,
    run: Path,
) -> dict[str, Any]:
    """Measure named models, each in its modalities; writes records, examples and results."""
    started = time.monotonic()
    runs.write_config(run, config)
    for scorer, modalities in scorers.values():
        for part in parts:
            for modality in part.shown(modalities):
                scorer.check(part.data, modality)
    known = [tally(part.data.samples()) for part in parts]
    rows, tables = [], []
    gap: dict[str, Any] = {}
    for model, (scorer, modalities) in scorers.items():
        pairs = []
        for number, part in enumerate(parts):
            by_modality: dict[str, Records] = {}
            for modality in part.shown(modalities):
                label = f"eval: {model}, {modality}" + (f", {part.name}" if part.name else "")
                records = score_all(scorer, part.data, modality, label)
                by_modality[modality] = records
                named = {"model": model, "modality": modality}
                if part.name is not None:
                    named["part"] = part.name
                table = record_table(records, **named)
                rows += _rows(named, part, table, known[number], config.metrics)
                tables.append(table)
            if {"text", "image"} <= set(by_modality):
                pairs.append((by_modality["text"], by_modality["image"]))
        if pairs:
            gap = gap_between(pairs)
    pq.write_table(pa.concat_tables(tables), run / "records.parquet")
    save_examples(parts[0].data, config.examples, run / "examples")
    hashed = [part.data.hash for part in parts]
    suite: dict[str, Any] = {}
    if isinstance(config, SuiteEvalConfig):
        whole = suite_hash(load_suite(config.suite), parts[0].data.bank)
        suite = {"suite": config.suite, "suite_hash": whole}
    return runs.write_results(
        run,
        "eval",
        started,
        seed=parts[0].data.seed,
        data_hash=hashed[0] if len(hashed) == 1 else hash_of(*hashed),
        results=rows,
        **suite,
        **gap,
    )


def _rows(
    named: Mapping[str, str], part: Part, table: pa.Table, known: Tally, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """A row of results for each instruction."""
    rows = []
    asked = table["instruction"].to_numpy()
    for instruction in dict.fromkeys(asked.tolist()):
        base = known[instruction][1]
        rows.append(
            {
                **named,
                "instruction": instruction,
                "questions": "independent",
                "split": part.data.split,
                **summarise(table.filter(pa.array(asked == instruction)), metrics),
                "chance": base.chance,
                "blind_accuracy": base.blind,
                "bag_accuracy": base.bag,
            }
        )
    return rows


def gap_between(pairs: Sequence[tuple[Records, Records]]) -> dict[str, Any]:
    """Text minus pictures on the same questions, part by part, with its paired interval."""
    right = [np.concatenate([pair[i]["exact"] for pair in pairs]) for i in (0, 1)]
    samples = [np.array(text["sample"]) for text, _ in pairs]
    after = np.cumsum([0, *(own.max() + 1 for own in samples[:-1])])
    cluster = np.concatenate([own + start for own, start in zip(samples, after, strict=True)])
    interval = paired_interval(right[0], right[1], cluster)
    return {"gap": float(right[0].mean() - right[1].mean()), "gap_ci95": list(interval)}


def save_examples(data: GridDataset, n: int, folder: Path) -> None:
    """The first few grids as pictures in their own size, named by sample index."""
    folder.mkdir(parents=True, exist_ok=True)
    for example in data.examples(np.arange(n)) if n else ():
        for place, png in enumerate(example.pngs):
            several = len(example.pictures) > 1
            name = f"{example.index}-{place}.png" if several else f"{example.index}.png"
            (folder / name).write_bytes(png)
