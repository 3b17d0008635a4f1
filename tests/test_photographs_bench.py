"""bench/photographs.py: configurations of its arms, and curves of runs."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import validate
from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.config.yaml12 import dump_yaml
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

import photographs as bench
from photograph_curves import read_curve, table, trained_seconds

TILES = {"source": "cifar10", "path": "photos"}


@pytest.mark.parametrize("arm", ["vit", "conv"])
def test_an_arm_is_a_configuration_with_as_many_steps_as_fit(arm):
    content = bench.encoder_of(arm, TILES, "")
    config = validate(EncoderConfig, bench.with_steps(content, 80, {"eval_every": 10}), arm)
    assert (config.steps, config.train.eval_every) == (80, 10)
    assert config.tiles.path == "photos"
    assert config.tiles.augment != TileAugmentConfig()


def test_what_is_said_in_steps_keeps_its_share():
    groups = [{"name": "a", "pattern": "", "warmup": 30}, {"name": "b", "pattern": ""}]
    content = {"steps": 200, "supervised_start": 50, "train": {"warmup": 10, "groups": groups}}
    changed = bench.with_steps(content, 400, {})
    assert (changed["steps"], changed["supervised_start"]) == (400, 100)
    assert changed["train"]["warmup"] == 20
    assert [group.get("warmup") for group in changed["train"]["groups"]] == [60, None]
    assert content["supervised_start"] == 50


def test_steps_fill_the_minutes_and_are_divided_by_the_validations():
    assert bench.steps_for(10, 0.5) == 1200
    assert bench.steps_for(1, 0.7) % 8 == 0
    assert abs(bench.steps_for(1, 0.7) - 60 / 0.7) <= 4
    assert bench.steps_for(0.001, 5) == 8


def test_the_distilled_arm_is_the_transformer_with_a_teacher():
    content = bench.encoder_of("distilled", TILES, "runs/conv")
    assert content["teacher"] == "runs/conv"
    assert content["vision"] == bench.VIT["vision"]
    assert content["tiles"]["path"] == "photos"


def test_seconds_are_those_of_training_only():
    """Two steps of 32 in a second, then four of 32 in another; validations have no rate."""
    rows = [
        {"step": 2, "samples_per_s": 64.0},
        {"step": 2, "val/cell_accuracy": 0.1, "time": 900.0},
        {"step": 6, "samples_per_s": 128.0},
    ]
    np.testing.assert_allclose(trained_seconds(rows, 32, [2, 4, 6]), [1, 1.5, 2])


def _run(path, rows):
    path.mkdir()
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def encoder(tmp_path):
    """A run of 8 steps of 32 scenes: two minutes of training, four with validations."""
    rows = [
        {"step": 4, "time": 1000.0, "samples_per_s": 32 * 4 / 60},
        {"step": 4, "time": 1060.0, "val/cell_accuracy": 0.25},
        {"step": 8, "time": 1120.0, "samples_per_s": 32 * 4 / 60},
        {"step": 8, "time": 1180.0, "val/cell_accuracy": 0.5},
    ]
    run = _run(tmp_path / "encoder", rows)
    content = {"batch_size": 32, "train": {"groups": [{"name": "a", "pattern": ""}]}}
    (run / "config.yaml").write_text(dump_yaml(content | {"vision": {"image_size": 96}}))
    kept = run / "checkpoints" / "step-8"
    kept.mkdir(parents=True)
    names = {"vision_model.a": 5, "vision_model.norm.running_mean": 7, "text_model.a": 11}
    save_file({n: torch.zeros(2, k) for n, k in names.items()}, kept / "model.safetensors")
    return run


@pytest.fixture
def recipe(tmp_path):
    rates = {"samples_per_s": 512.0, "time": 0.0}
    rows = [{"step": i, "seconds": 30.0 * i, "val/cell_accuracy": i / 10, **rates} for i in (1, 9)]
    run = _run(tmp_path / "recipe", rows)
    (run / "recipe.json").write_text(json.dumps({"batch": 1024, "parameters": 2_000_000}))
    return run


def test_a_curve_of_an_encoder(encoder):
    curve = read_curve("conv", encoder)
    assert curve.parameters == 10
    assert curve.minutes == pytest.approx([1, 2])
    assert curve.accuracy == [0.25, 0.5]
    assert curve.step_seconds == pytest.approx(15)
    assert curve.tiles_per_s == pytest.approx(9 * 32 / 15)  # nine tiles of 32 in 96 pixels
    assert curve.wall_minutes == pytest.approx(3)
    assert curve.at(1.5) == pytest.approx(0.375)
    assert curve.at(0.5) is None
    assert curve.at(3) is None


def test_finished_runs_become_a_table_results_and_a_chart(encoder, recipe, tmp_path, capsys):
    out = tmp_path / "out"
    bench.main(["--runs", f"conv={encoder}", f"recipe={recipe}", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == table([read_curve("conv", encoder), read_curve("recipe", recipe)])
    assert lines[0].split()[:3] == ["parameters", "1", "min"]
    assert "50.0% (2.0 min)" in lines[1]
    assert "2.00M" in lines[2]
    assert "90.0% (4.5 min)" in lines[2]
    content = json.loads((out / "results.json").read_text())
    assert content["kind"] == "bench"
    assert [row["name"] for row in content["results"]] == ["conv", "recipe"]
    assert (out / "photographs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sprites"], "--minutes: required"),
        (["--sprites", "--minutes", "nan"], "--minutes: required"),
        (["--sprites", "--minutes", "inf"], "--minutes: required"),
        (["--minutes", "1"], "one of --tiles-path and --sprites"),
        (["--minutes", "1", "--sprites", "--arms", "distilled"], "--teacher: the arm distilled"),
        (["--runs", "a=b", "--minutes", "1"], "--minutes: --runs trains nothing"),
        (["--runs", "lonely"], "--runs: lonely: expected NAME=RUN"),
        (["--runs", "a=missing"], "metrics.jsonl: cannot be read"),
    ],
)
def test_a_mistake_is_told_in_a_line_with_status_2(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        bench.main(words)
    assert end.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_run_without_a_validation_or_a_rate_and_a_taken_folder(tmp_path, capsys):
    run = _run(tmp_path / "vit", [{"step": 1, "samples_per_s": 1.0}])
    late = [{"step": 2, "val/cell_accuracy": 0.5, "time": 0.0}, {"step": 3, "samples_per_s": 1.0}]
    late = _run(tmp_path / "late", late)
    for words, told in (
        (["--runs", f"a={run}"], "no line has val/cell_accuracy"),
        (["--runs", f"a={late}"], "no line has samples_per_s before the first validation"),
        (["--sprites", "--minutes", "1", "--arms", "vit"], "vit: exists; choose another --out"),
    ):
        with pytest.raises(SystemExit):
            bench.main([*words, "--out", str(tmp_path)])
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bench.main(["--runs", f"a={run}", "--out", str(run / "metrics.jsonl")])
    assert "is a file; choose a folder" in capsys.readouterr().err
