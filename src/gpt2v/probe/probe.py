"""One ridge probe per cell on the patch embeddings before the projector.

The ten-way accuracy says what the embeddings tell; the palette-restricted one is on the terms of a
model that is told the palette. A probe of shuffled labels shows what such a probe finds in nothing.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from gpt2v import runs
from gpt2v.data.pictures import Pictures
from gpt2v.data.rng import Ints
from gpt2v.data.samples import Samples, draw_samples
from gpt2v.data.stream import EVAL_BATCH, data_hash, listed_pictures
from gpt2v.data.tiles import TileBank, load_bank
from gpt2v.errors import UserError
from gpt2v.measurements import ProbeConfig
from gpt2v.mm_train.cached import picture_source
from gpt2v.model.device import place
from gpt2v.model.files import find_checkpoint, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.probe.ridge import RidgeProblem
from gpt2v.progress import progress
from gpt2v.stats import cluster_interval


@torch.no_grad()
def collect(
    model: GPT2vModel, bank: TileBank, config: ProbeConfig, split: str, n: int
) -> tuple[NDArray[np.float32], Samples]:
    """Patch embeddings (n, patches, D) of n pictures, with their samples."""
    size, n_patches = model.geometry.image_size, model.geometry.n_patches
    samples = draw_samples(config.grid, bank, config.seed, split, np.arange(n))

    def listing() -> Iterator[Pictures]:
        return listed_pictures(config.grid, bank, size, config.seed, split, n)

    source = picture_source(model, bank, listing, config.features)
    features = []
    with progress(f"probe: {split} embeddings", -(-n // EVAL_BATCH)) as report:
        for pictures in listing():
            found = source.features(pictures)[:, :n_patches]  # without the class token
            features.append(found.float().cpu().numpy())
            report()
    return np.concatenate(features), samples


def probe(model: GPT2vModel, bank: TileBank, config: ProbeConfig, run: Path) -> dict[str, Any]:
    """Fit and test one probe per cell; writes records and results."""
    started = time.monotonic()
    runs.write_config(run, config)
    spec, n_classes = config.grid, len(bank.class_names)
    n_rows, n_cols = spec.largest_shape
    span = model.geometry.span(n_rows, n_cols, bank.size, spec.picture)
    if len(set(span.cell.tolist())) < n_rows * n_cols:
        raise UserError(f"grid: some cells of a {spec.size} grid have no patch of their own")
    train_x, train = collect(model, bank, config, "train", config.n_train)
    test_x, test = collect(model, bank, config, "test", config.n_test)
    allowed = np.zeros((config.n_test, n_classes), bool)
    np.put_along_axis(allowed, test.palette, True, axis=1)
    shuffle = np.random.Generator(np.random.PCG64(config.seed)).permutation(config.n_train)

    n_cells = n_rows * n_cols
    truth = test.classes.reshape(-1, n_cells)
    found = {"none": np.empty_like(truth), "shuffled-labels": np.empty_like(truth)}
    in_palette = {control: np.empty_like(truth) for control in found}
    with progress("probe: ridge fits", n_cells) as report:
        for cell in range(n_cells):
            patches = span.patch[span.cell == cell]
            x = train_x[:, patches].reshape(config.n_train, -1).astype(np.float64)
            x_test = test_x[:, patches].reshape(config.n_test, -1).astype(np.float64)
            problem = RidgeProblem(x)
            labels = train.classes.reshape(-1, n_cells)[:, cell]
            for control, y in (("none", labels), ("shuffled-labels", labels[shuffle])):
                scores = problem.fit(y, n_classes).scores(x_test)
                found[control][:, cell] = scores.argmax(1)
                in_palette[control][:, cell] = np.where(allowed, scores, -np.inf).argmax(1)
            report()

    rows = []
    for control in found:
        ten_way, palette = found[control] == truth, in_palette[control] == truth
        rows.append({"cell": "all", "control": control, **_rates(ten_way, palette, test.index)})
    for cell in range(n_cells):
        ten_way, palette = found["none"] == truth, in_palette["none"] == truth
        column = slice(cell, cell + 1)
        rates = _rates(ten_way[:, column], palette[:, column], test.index)
        rows.append({"cell": list(divmod(cell, n_cols)), "control": "none", **rates})
    site = {"site": "pre-projector", "layer": model.config.vision_layer}
    names = np.array(bank.class_names, dtype=object)
    records = {
        "sample": np.repeat(test.index, n_cells),
        "row": np.tile(np.arange(n_cells) // n_cols, config.n_test),
        "col": np.tile(np.arange(n_cells) % n_cols, config.n_test),
        "truth": names[truth.reshape(-1)].tolist(),
        "prediction": names[found["none"].reshape(-1)].tolist(),
        "palette_prediction": names[in_palette["none"].reshape(-1)].tolist(),
    }
    pq.write_table(pa.table(records), run / "records.parquet")
    return runs.write_results(
        run,
        "probe",
        started,
        seed=config.seed,
        data_hash=data_hash(bank, spec, config.n_train, config.n_test, config.seed),
        results=[{**site, **row, "n_train": config.n_train} for row in rows],
    )


def probe_model(config: ProbeConfig, run: Path) -> dict[str, Any]:
    """`gpt2v probe`: probe a saved GPT-2v."""
    path = find_checkpoint(config.model, "model")
    model = place(load_pretrained(GPT2vModel, path, "model")).eval()
    return probe(model, load_bank(config.tiles), config, run)


def _rates(ten_way: NDArray[np.bool_], palette: NDArray[np.bool_], index: Ints) -> dict[str, Any]:
    """Both accuracies (n, cells) with intervals clustered by picture."""
    picture = np.repeat(index, ten_way.shape[1])
    return {
        "accuracy": float(ten_way.mean()),
        "ci95": list(cluster_interval(ten_way.reshape(-1), picture)),
        "palette_accuracy": float(palette.mean()),
        "palette_ci95": list(cluster_interval(palette.reshape(-1), picture)),
        "n_images": len(index),
    }
