"""Measure readers on held-out grids: one packed pass per grid, one record per question."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gpt2v import runs
from gpt2v.data.batches import Batch, Renderer
from gpt2v.data.grids import Samples, draw_samples
from gpt2v.data.images import PictureGeometry, compose
from gpt2v.data.rng import Ints
from gpt2v.data.stream import EVAL_BATCH, check_length, data_hash, view_of
from gpt2v.data.text import View
from gpt2v.errors import within
from gpt2v.experiments import EvalConfig, HeldOutConfig
from gpt2v.model.reader import Reader
from gpt2v.model.scoring import Records, accuracy, score
from gpt2v.progress import progress
from gpt2v.stats import cluster_interval, paired_interval

Readers = Mapping[str, tuple[Reader, list[str]]]  # by name, each with its modalities


@dataclass(frozen=True)
class HeldOut:
    """The grids of one evaluation; every view of them shows the same samples."""

    config: HeldOutConfig
    render: Renderer
    geometry: PictureGeometry | None

    @property
    def data_hash(self) -> str:
        """Equal where the same grids of the same tiles are asked about."""
        c = self.config
        return data_hash(self.render.bank, c.grid, c.split, c.n_images, c.seed)

    def samples(self, index: Ints) -> Samples:
        c = self.config
        with within("grid."):
            return draw_samples(c.grid, self.render.bank, c.seed, c.split, index)

    def batches(self, view: View) -> Iterator[Batch]:
        """All grids in one view, EVAL_BATCH at a time."""
        for start in range(0, self.config.n_images, EVAL_BATCH):
            index = np.arange(start, min(start + EVAL_BATCH, self.config.n_images))
            yield self.render(self.samples(index), view, "independent", with_choices=True)

    def view(self, modality: str) -> View:
        spec = self.config.grid.model_copy(update={"modality": modality})
        with within("grid."):
            return view_of(spec, self.render.bank.size, self.geometry)

    @property
    def n_batches(self) -> int:
        return -(-self.config.n_images // EVAL_BATCH)


def score_view(reader: Reader, held_out: HeldOut, view: View, label: str) -> Records:
    """Records of one reader on one view of all grids."""
    columns: Records = {}
    names = held_out.render.bank.class_names
    with progress(label, held_out.n_batches) as report:
        for batch in held_out.batches(view):
            check_length(batch, held_out.config.grid, reader.n_positions)
            for key, values in score(reader, batch, names).items():
                columns.setdefault(key, []).extend(values)
            report()
    return columns


def summarise(records: Records) -> dict[str, Any]:
    """Accuracy with its clustered interval."""
    right = np.array(records["exact"])
    pictures = np.array(records["sample"])
    return {
        "accuracy": accuracy(records),
        "ci95": list(cluster_interval(right, pictures)),
        "n_images": len(set(records["sample"])),
        "n_questions": len(right),
    }


def baselines(held_out: HeldOut) -> dict[str, float]:
    """Chance (any listed object), blind (no grid) and bag (which objects, but not where)."""
    everything = held_out.samples(np.arange(held_out.config.n_images))
    chance = 1 / held_out.config.grid.palette
    # Cells are i.i.d. uniform over the palette: without the grid no rule beats a guess.
    return {
        "chance": chance,
        "blind_accuracy": chance,
        "bag_accuracy": bag_accuracy(everything.classes),
    }


def bag_accuracy(classes: Ints) -> float:
    """Accuracy of always answering the grid's most frequent object, over every cell.

    This is the best that knowing which objects are there, but not where, can do on independent
    questions. classes: (B, R, C).
    """
    flat = np.sort(classes.reshape(len(classes), -1), axis=1)
    counts = (flat[:, :, None] == flat[:, None, :]).sum(-1)
    return float(counts.max(1).mean() / flat.shape[1])


def evaluate(readers: Readers, held_out: HeldOut, config: EvalConfig, run: Path) -> dict[str, Any]:
    """Measure named readers, each in its modalities; writes records, examples and results."""
    started = time.monotonic()
    runs.write_config(run, config)
    base = baselines(held_out)
    rows, tables = [], []
    gap: dict[str, Any] = {}
    for model, (reader, modalities) in readers.items():
        by_modality: dict[str, Records] = {}
        for modality in modalities:
            label = f"eval: {model}, {modality}"
            records = score_view(reader, held_out, held_out.view(modality), label)
            by_modality[modality] = records
            rows.append(
                {
                    "model": model,
                    "modality": modality,
                    "instruction": "lookup",
                    "questions": "independent",
                    "split": config.split,
                    **summarise(records),
                    **base,
                }
            )
            n = len(records["exact"])
            tables.append(pa.table({"model": [model] * n, "modality": [modality] * n, **records}))
        if {"text", "image"} <= set(by_modality):
            gap = gap_between(by_modality["text"], by_modality["image"])
    pq.write_table(pa.concat_tables(tables), run / "records.parquet")
    if held_out.geometry is not None:
        save_examples(held_out, config.examples, held_out.geometry.image_size, run / "examples")
    return runs.write_results(
        run,
        "eval",
        started,
        seed=config.seed,
        data_hash=held_out.data_hash,
        results=rows,
        **gap,
    )


def gap_between(text: Records, image: Records) -> dict[str, Any]:
    """Text minus pictures on the same questions, with its paired interval."""
    right = [np.array(records["exact"]) for records in (text, image)]
    interval = paired_interval(right[0], right[1], np.array(text["sample"]))
    return {"gap": accuracy(text) - accuracy(image), "gap_ci95": list(interval)}


def save_examples(held_out: HeldOut, n: int, image_size: int, folder: Path) -> None:
    """The pictures of the first few grids, named by sample index."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = held_out.samples(np.arange(n))
    for index, pixels in zip(
        samples.index, compose(samples, held_out.render.bank, image_size), strict=True
    ):
        Image.fromarray(pixels).save(folder / f"{index}.png")
