"""A rung of the ladder, retrained: MM-Train with another token source instead of pictures."""

import dataclasses
import json

import numpy as np
import pytest

import helpers
from gpt2v.data.tiles.bank import TileBank
from gpt2v.mm_train.train import train_mm


class Unseen(TileBank):
    """Tiles from which no picture may be drawn."""

    def take(self, tiles, keys=None):
        pytest.fail("a picture was drawn")

    mosaic = take


def unseen(bank):
    """The same tiles; drawing a picture of them fails, and so does making held-out tiles."""

    def never():
        pytest.fail("tiles were drawn")

    splits = {
        name: own if name == "train" else dataclasses.replace(own, draw=never)
        for name, own in bank.splits.items()
    }
    return Unseen(bank.name, bank.class_names, bank.size, splits, bank.augment)


def test_a_rung_is_trained_without_a_picture(bank, lm_run, tmp_path):
    mix = [{"rows": 1, "cols": 2, "modality": "image"}]
    config = helpers.mm_config(
        lm_run,
        vision_tokens="cell-embeddings",
        data={"batch_size": 16, "stages": [{"steps": 30, "mix": mix}]},
        train={
            "groups": [{"name": "language_model", "pattern": "^language_model", "lr": 0.003},
                       {"name": "rest", "pattern": "", "lr": 0}],
            "warmup": 0,
            "log_every": 1,
            "eval_grids": 20,
        },
    )  # fmt: skip
    train_mm(config, tmp_path, unseen(bank))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 30
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    (row,) = json.loads((tmp_path / "results.json").read_text())["results"]
    assert 0 <= row["image 1x2_accuracy"] <= 1
