"""One ridge probe per cell on the patch embeddings before the projector.

The ten-way accuracy measures what a probe reads from the embeddings alone. The palette-restricted
accuracy can be compared with a model, which is given the palette. A probe that is trained on a
control's labels shows the accuracy without any information.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from gpt2v import runs
from gpt2v.config.base import hash_of
from gpt2v.config.choice import choose
from gpt2v.config.measuring import ProbeConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.cells import Grids
from gpt2v.data.render.spans import ImageSpan
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError, within
from gpt2v.features.sources import picture_source
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import load_gpt2v
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.ridge import RidgeProblem
from gpt2v.progress import progress, waited
from gpt2v.registry import CONTROLS
from gpt2v.run_layout import RECORDS
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Shared
from gpt2v.storage.files import write_parquet
from gpt2v.train.finite import OVERFLOW, check_finite
from gpt2v.trained.compare import NOT_COMPARED, Comparison, Measured
from gpt2v.trained.defaults import as_trained


@torch.no_grad()
def collect(
    model: GPT2vModel, source: ProjectedPatches, data: GridDataset
) -> tuple[NDArray[np.float32], Grids]:
    """Patch embeddings (P, N, D) of a data set's pictures, and its grids.

    Raises:
        UserError: an embedding is NaN or infinite.
    """
    features = []
    with progress(f"probe: {data.split} embeddings", data.n_portions()) as report:
        for pictures in data.pictures(model.geometry.image_size):
            patches = source.features(pictures)[:, : model.geometry.n_patches]  # no class token
            check_finite({"patch embeddings": patches}, "model", OVERFLOW)
            features.append(patches.float().cpu().numpy())
            report()
    return np.concatenate(features), data.grids(np.arange(len(data)))


def check_probe(model: GPT2vModel, bank: TileBank, config: ProbeConfig) -> ImageSpan:
    """The map from the patches of a picture to its cells; refuses grids that cannot be probed.

    Raises:
        UserError: some cell has no patch, a grid does not fit the pictures, or it cannot be drawn
            with these tiles.
    """
    spec = config.grid
    n_rows, n_cols = spec.largest_shape
    with within("grid."):
        GridDataset(spec, bank, config.seed).first()
        span = model.geometry.span(n_rows, n_cols, bank.size, spec.picture)
        if len(set(span.cell.tolist())) < n_rows * n_cols:
            raise UserError(f"rows, cols: some cells of a {spec.size} grid have no patch")
    return span


def probe(
    model: GPT2vModel,
    bank: TileBank,
    config: ProbeConfig,
    run: Path,
    comparison: Comparison = NOT_COMPARED,
) -> dict[str, Any]:
    """Fit and test one probe per cell; writes records and results.

    Args:
        comparison: of what is measured with the training.

    Returns:
        The content of results.json.

    Raises:
        UserError: some cell has no patch, or a grid does not fit the pictures.
    """
    started = time.monotonic()
    spec, n_classes = config.grid, len(bank.class_names)
    span = check_probe(model, bank, config)
    runs.write_config(run, config)
    n_rows, n_cols = spec.largest_shape
    sets = [probe_data(config, bank, split) for split in ("train", "test")]
    sources = [picture_source(model, [data], config.features) for data in sets]
    (train_x, train), (test_x, test) = (
        collect(model, source, data) for source, data in zip(sources, sets, strict=True)
    )
    allowed = np.zeros((config.n_test, n_classes), bool)
    np.put_along_axis(allowed, test.palette, True, axis=1)
    controls = {str(name): choose(CONTROLS, name).load() for name in config.controls}

    n_cells = n_rows * n_cols
    truth = test.classes.reshape(-1, n_cells)
    ten_way = {control: np.empty_like(truth) for control in ("none", *controls)}
    in_palette = {control: np.empty_like(truth) for control in ten_way}
    with progress("probe: ridge fits", n_cells) as report:
        for cell in range(n_cells):
            patches = span.patch[span.cell == cell]
            x = train_x[:, patches].reshape(config.n_train, -1).astype(np.float64)
            x_test = test_x[:, patches].reshape(config.n_test, -1).astype(np.float64)
            problem = waited("probe: ridge factorisation", partial(RidgeProblem, x))
            labels = train.classes.reshape(-1, n_cells)[:, cell]
            for control in ten_way:
                y = labels
                if control in controls:
                    generator = np.random.Generator(np.random.PCG64(config.seed))
                    y = controls[control](labels.copy(), generator)
                scores = problem.fit(y, n_classes).scores(x_test)
                ten_way[control][:, cell] = scores.argmax(1)
                in_palette[control][:, cell] = np.where(allowed, scores, -np.inf).argmax(1)
            report()

    rows, tiles = [], test.tiles.reshape(truth.shape)
    for control in ten_way:
        right, palette_right = ten_way[control] == truth, in_palette[control] == truth
        rates = _rates(right, palette_right, test.index, tiles)
        rows.append({"cell": "all", "control": control, **rates})
    for cell in range(n_cells):
        right, palette_right = ten_way["none"] == truth, in_palette["none"] == truth
        column = slice(cell, cell + 1)
        rates = _rates(right[:, column], palette_right[:, column], test.index, tiles[:, column])
        rows.append({"cell": list(divmod(cell, n_cols)), "control": "none", **rates})
    site = {"site": "pre-projector", "layer": model.config.vision_layer}
    names = np.array(bank.class_names, dtype=object)
    records = {
        "sample": np.repeat(test.index, n_cells),
        "row": np.tile(np.arange(n_cells) // n_cols, config.n_test),
        "col": np.tile(np.arange(n_cells) % n_cols, config.n_test),
        "truth": names[truth.reshape(-1)].tolist(),
        "prediction": names[ten_way["none"].reshape(-1)].tolist(),
        "palette_prediction": names[in_palette["none"].reshape(-1)].tolist(),
    }
    write_parquet(run / RECORDS, [pa.table(records)])
    comparison.say()
    return runs.write_results(
        run,
        "probe",
        started,
        hardware=hardware_facts(),
        seed=config.seed,
        data_hash=hash_of(*(data.hash for data in sets)),
        results=[{**site, **row, "n_train": config.n_train} for row in rows],
        **comparison.results,
    )


def probe_model(config: ProbeConfig, run: Path) -> dict[str, Any]:
    """`gpt2v probe`: probe a saved GPT-2v.

    Args:
        config: what is not given in it is taken from the model's run.
    """
    loaded, model = load_gpt2v(config.model)
    filled = as_trained(config, config.model)
    config = filled.config
    bank = filled.bank(config.tiles)
    measured = Measured(bank, [(probe_data(config, bank, "test"), ["image"])])
    comparison = loaded.compared(measured, config.allow, filled.said)
    return probe(model, bank, config, run, comparison)


def probe_data(config: ProbeConfig, bank: TileBank, split: str) -> GridDataset:
    """The pictures that probes are trained on (`train`) or tested on (`test`)."""
    n = config.n_train if split == "train" else config.n_test
    return GridDataset(config.grid, bank, config.seed, split, n)


def _rates(
    right: NDArray[np.bool_], palette_right: NDArray[np.bool_], index: Ints, tiles: Ints
) -> dict[str, Any]:
    """Both accuracies with their intervals over new grids of new tiles.

    Args:
        right: (P, n_cells) whether each ten-way prediction is right.
        palette_right: (P, n_cells) whether each palette-restricted prediction is right.
        index: (P,) sample index of each picture.
        tiles: (P, n_cells) tile that each prediction is about.
    """
    shared = Shared(np.repeat(index, right.shape[1]), tiles.reshape(-1, 1))
    return {
        "accuracy": float(right.mean()),
        "ci95": list(rate_interval(right.reshape(-1), shared)),
        "palette_accuracy": float(palette_right.mean()),
        "palette_ci95": list(rate_interval(palette_right.reshape(-1), shared)),
        "n_images": len(index),
    }
