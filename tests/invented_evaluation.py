"""Invented run directories of evaluations, with answers that a test chooses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import gpt2v
from gpt2v.config.load import dump
from gpt2v.config.measuring import EvalConfig
from gpt2v.run_layout import mark

CLASSES = ("bird", "cat", "dog", "frog")
N = 400  # grids of 3x3


def drawn(seed: int = 0) -> dict[str, np.ndarray]:
    """Questions: sample, row, col, truth and tile of each, and answers that are 95% right."""
    rng = np.random.default_rng(seed)
    sample, cell = np.divmod(np.arange(9 * N), 9)
    truth = rng.integers(len(CLASSES), size=9 * N)
    tiles = 300 * truth + rng.integers(300, size=9 * N)
    return {
        "sample": sample,
        "row": cell // 3,
        "col": cell % 3,
        "truth": np.array(CLASSES)[truth],
        "tiles": tiles,
        "right": rng.random(9 * N) < 0.95,
    }


def evaluation(
    folder: Path,
    right: np.ndarray,
    modality: str = "image",
    model: str = "gpt2v",
    parts: np.ndarray | None = None,
    **changed: Any,
) -> Path:
    """A run directory of an evaluation whose answers are right or not, (9 * N,)."""
    asked = drawn()
    records = {
        "model": [model] * len(right),
        "modality": [modality] * len(right),
        **({} if parts is None else {"part": parts}),
        "sample": asked["sample"],
        "mode": ["independent"] * len(right),
        "content": asked["sample"],
        "instruction": ["lookup"] * len(right),
        "question": [
            f"What object is in row {row}, column {col}? A:"
            for row, col in zip(asked["row"], asked["col"], strict=True)
        ],
        **{key: asked[key] for key in ("row", "col", "truth")},
        "prediction": asked["truth"],
        "exact": right,
        "tiles": pa.array([[tile] for tile in asked["tiles"]], pa.list_(pa.int64())),
    }
    folder.mkdir()
    pq.write_table(pa.table(records), folder / "records.parquet")
    results = {
        "kind": "eval",
        "versions": {"gpt2v": gpt2v.__version__},
        "seed": 1,
        "data_hash": "5f2c9a0e",
        "results": [],
        **changed,
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text(dump(EvalConfig()))
    mark(folder)
    return folder


def planted(where: np.ndarray, share: float = 0.4, seed: int = 1) -> np.ndarray:
    """The answers of `drawn`, of which some where `where` (9 * N,) holds are wrong instead."""
    spoilt = np.random.default_rng(seed).random(9 * N) < share
    return drawn()["right"] & ~(where & spoilt)
