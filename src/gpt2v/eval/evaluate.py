"""Measure readers on held-out grids: one packed pass per grid, one record per question."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gpt2v import runs
from gpt2v.data.baselines import Tally, tally
from gpt2v.data.batches import Batch, Renderer
from gpt2v.data.images import PictureGeometry
from gpt2v.data.pictures import Pictures, natural_pictures
from gpt2v.data.rng import Ints
from gpt2v.data.samples import Samples, draw_samples
from gpt2v.data.stream import EVAL_BATCH, check_spec, data_hash, hash_of, listed_pictures, view_of
from gpt2v.data.suites import load_suite, suite_hash
from gpt2v.data.text import View
from gpt2v.errors import within
from gpt2v.measurements import EvalConfig, HeldOutConfig, SuiteEvalConfig
from gpt2v.model.reader import Reader
from gpt2v.model.scoring import Records, score
from gpt2v.progress import progress
from gpt2v.stats import cluster_interval, paired_interval

Readers = Mapping[str, tuple[Reader, list[str]]]  # by name, each with its modalities


@dataclass(frozen=True)
class HeldOut:
    """The grids of one evaluation, or of one part of a suite; every view shows the same samples."""

    config: HeldOutConfig
    render: Renderer
    geometry: PictureGeometry | None
    part: str | None = None  # its name within a suite
    modalities: Sequence[str] = ("text", "image")  # how they may be shown

    @property
    def data_hash(self) -> str:
        """Equal where the same grids of the same tiles are asked about."""
        c = self.config
        return data_hash(self.render.bank, c.grid, c.split, c.n_images, c.seed)

    def samples(self, index: Ints) -> Samples:
        c = self.config
        with within(self._place):
            return draw_samples(c.grid, self.render.bank, c.seed, c.split, index)

    def batches(self, view: View) -> Iterator[Batch]:
        """All grids in one view, EVAL_BATCH at a time."""
        for start in range(0, self.config.n_images, EVAL_BATCH):
            index = np.arange(start, min(start + EVAL_BATCH, self.config.n_images))
            yield self.render(self.samples(index), view, "independent", with_choices=True)

    def pictures(self) -> Iterator[Pictures]:
        """Those of all grids, in the same portions."""
        c, size = self.config, self.render.image_size
        assert size is not None, "pictures need a vision tower's image size"
        with within(self._place):
            yield from listed_pictures(c.grid, self.render.bank, size, c.seed, c.split, c.n_images)

    def view(self, modality: str) -> View:
        spec = self.config.grid.model_copy(update={"modality": modality})
        with within(self._place):
            return view_of(spec, self.render.bank.size, self.geometry)

    def check(self, modality: str, n_positions: int) -> None:
        """Refuse grids that a model has no room for, before anything is measured."""
        spec = self.config.grid.model_copy(update={"modality": modality})
        with within(self._place):
            check_spec(spec, self.render, self.geometry, n_positions)

    @property
    def n_batches(self) -> int:
        return -(-self.config.n_images // EVAL_BATCH)

    @property
    def _place(self) -> str:
        return "grid." if self.part is None else f"part {self.part}: "


def score_view(reader: Reader, held_out: HeldOut, view: View, label: str) -> Records:
    """Records of one reader on one view of all grids."""
    columns: Records = {}
    with progress(label, held_out.n_batches) as report:
        for batch in held_out.batches(view):
            for key, values in score(reader, batch, held_out.render).items():
                columns.setdefault(key, []).extend(values)
            report()
    return columns


def summarise(records: Records, instruction: str | None = None) -> dict[str, Any]:
    """Accuracy with its clustered interval, over all questions or those of one instruction."""
    chosen = np.full(len(records["exact"]), True)
    if instruction is not None:
        chosen = np.array(records["instruction"]) == instruction
    right = np.array(records["exact"])[chosen]
    pictures = np.array(records["sample"])[chosen]
    return {
        "accuracy": float(right.mean()),
        "ci95": list(cluster_interval(right, pictures)),
        "n_images": len(np.unique(pictures)),
        "n_questions": len(right),
    }


def evaluate(
    readers: Readers, parts: Sequence[HeldOut], config: EvalConfig | SuiteEvalConfig, run: Path
) -> dict[str, Any]:
    """Measure named readers, each in its modalities; writes records, examples and results."""
    started = time.monotonic()
    runs.write_config(run, config)
    for reader, modalities in readers.values():
        for part in parts:
            for modality in _shown(part, modalities):
                part.check(modality, reader.n_positions)
    known = [tally(part.samples(np.arange(part.config.n_images))) for part in parts]
    rows, tables = [], []
    gap: dict[str, Any] = {}
    for model, (reader, modalities) in readers.items():
        pairs = []
        for number, part in enumerate(parts):
            by_modality: dict[str, Records] = {}
            for modality in _shown(part, modalities):
                label = f"eval: {model}, {modality}" + (f", {part.part}" if part.part else "")
                records = score_view(reader, part, part.view(modality), label)
                by_modality[modality] = records
                rows += _rows(model, modality, part, records, known[number])
                tables.append(_table(model, modality, part, records))
            if {"text", "image"} <= set(by_modality):
                pairs.append((by_modality["text"], by_modality["image"]))
        if pairs:
            gap = gap_between(pairs)
    pq.write_table(pa.concat_tables(tables), run / "records.parquet")
    save_examples(parts[0], config.examples, run / "examples")
    hashed = [part.data_hash for part in parts]
    suite: dict[str, Any] = {}
    if isinstance(config, SuiteEvalConfig):
        whole = suite_hash(load_suite(config.suite), parts[0].render.bank)
        suite = {"suite": config.suite, "suite_hash": whole}
    return runs.write_results(
        run,
        "eval",
        started,
        seed=parts[0].config.seed,
        data_hash=hashed[0] if len(hashed) == 1 else hash_of(*hashed),
        results=rows,
        **suite,
        **gap,
    )


def _shown(part: HeldOut, modalities: Sequence[str]) -> list[str]:
    return [modality for modality in modalities if modality in part.modalities]


def _rows(
    model: str, modality: str, part: HeldOut, records: Records, known: Tally
) -> list[dict[str, Any]]:
    """A row of results for each instruction."""
    found = []
    for instruction in dict.fromkeys(records["instruction"]):
        base = known[instruction][1]
        found.append(
            {
                "model": model,
                **({} if part.part is None else {"part": part.part}),
                "modality": modality,
                "instruction": instruction,
                "questions": "independent",
                "split": part.config.split,
                **summarise(records, instruction),
                "chance": base.chance,
                "blind_accuracy": base.blind,
                "bag_accuracy": base.bag,
            }
        )
    return found


def _table(model: str, modality: str, part: HeldOut, records: Records) -> pa.Table:
    n = len(records["exact"])
    named = {"model": [model] * n, "modality": [modality] * n}
    if part.part is not None:
        named["part"] = [part.part] * n
    strings = {name: pa.array(records[name], pa.string()) for name in ("truth", "prediction")}
    lists = {
        "choices": pa.array(records["choices"], pa.list_(pa.string())),
        "logprobs": pa.array(records["logprobs"], pa.list_(pa.float64())),
    }
    return pa.table({**named, **records, **strings, **lists})


def gap_between(pairs: Sequence[tuple[Records, Records]]) -> dict[str, Any]:
    """Text minus pictures on the same questions, part by part, with its paired interval."""
    right = [np.concatenate([pair[i]["exact"] for pair in pairs]) for i in (0, 1)]
    samples = [np.array(text["sample"]) for text, _ in pairs]
    after = np.cumsum([0, *(own.max() + 1 for own in samples[:-1])])
    cluster = np.concatenate([own + start for own, start in zip(samples, after, strict=True)])
    interval = paired_interval(right[0], right[1], cluster)
    return {"gap": float(right[0].mean() - right[1].mean()), "gap_ci95": list(interval)}


def save_examples(held_out: HeldOut, n: int, folder: Path) -> None:
    """The first few grids as pictures in their own size, named by sample index."""
    folder.mkdir(parents=True, exist_ok=True)
    if n == 0:
        return
    samples = held_out.samples(np.arange(n))
    pictures = natural_pictures(samples, held_out.render.bank, held_out.config.grid.picture)
    for index, own in zip(samples.index, pictures, strict=True):
        for place, pixels in enumerate(own):
            name = f"{index}.png" if len(own) == 1 else f"{index}-{place}.png"
            Image.fromarray(pixels).save(folder / name)
