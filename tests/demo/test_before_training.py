"""A mistake anywhere in a demo is answered before its first training."""

import sys

import pytest

import helpers
from gpt2v.demo.config import demo_config

LONG = tuple(f"{letter}" + "-of-the-longest-possible-kind" * 3 for letter in "abcdef")


@pytest.fixture(scope="module")
def long_named(tmp_path_factory):
    return helpers.picture_folder(tmp_path_factory.mktemp("long") / "pictures", LONG)


def refused(capsys, tmp_path, *words):
    """The one line of a demo that must not begin to train."""
    out = tmp_path / "demo"
    line = helpers.refusal(capsys, "demo", "--preset", "smoke", "--out", out, *words)
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert not out.exists()
    return line


def test_class_names_too_long_for_captions(long_named, capsys, tmp_path):
    line = refused(capsys, tmp_path, "--tiles", "folder", "--tiles-path", long_named)
    assert "encoder.scenes.layouts: captions of up to 9 objects need" in line
    assert "the text tower takes 77" in line


def test_class_names_too_long_for_the_gpt2(long_named, capsys, tmp_path):
    """The captions fit, since a scene has one object."""
    argv = ("--tiles", "folder", "--tiles-path", long_named)
    scene = ("--encoder.scenes.layouts", "[{lattice: 1}]", "--encoder.tokenizer.vocab_size", 4096)
    line = refused(capsys, tmp_path, *argv, *scene)
    assert "lm.data.stages.0.mix.0.rows, cols: a 1x2 grid (text, independent) needs" in line
    assert "n_positions: 256" in line


@pytest.mark.parametrize("part", ["encoder", "lm", "mm"])
def test_a_logger_that_is_not_installed(capsys, tmp_path, monkeypatch, part):
    monkeypatch.setitem(sys.modules, "wandb", None)
    line = refused(capsys, tmp_path, f"--{part}.train.wandb", "project")
    assert f"{part}.train.wandb: Weights & Biases is not installed" in line


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("encoder.train.groups.0.pattern", "nothing", "encoder.train.groups: no pattern matches"),
        (
            "encoder.train.accumulate",
            100,
            "encoder.batch_size: a batch of 8 cannot be cut into 100",
        ),
        ("lm.train.groups.0.pattern", "nothing", "lm.train.groups: no pattern matches"),
        ("lm.data.stages.1.mix.1.patches", 6, "lm.data.stages.1.mix.1.rows, cols: a 3x3 grid"),
        ("lm.data.stages.1.mix.0.palette", 11, "lm.data.stages.1.mix.0.palette: 11"),
        ("lm.train.accumulate", 100, "lm.data.batch_size: a batch of 8 cannot be cut"),
        ("mm.train.groups.1.pattern", "nothing", "mm.train.groups: no pattern matches"),
        ("mm.data.stages.0.mix.0.rows", 4, "mm.data.stages.0.mix.0."),
        ("mm.vision_layer", 9, "mm.vision_layer: 9 must lie in -3..2"),
        ("mm.pool", 4, "mm.pool: 4 must divide the 6 patches"),
        ("mm.projector_from", "./none", "mm.projector_from: ./none: no such run"),
        ("eval.grid.rows", 5, "eval.grid."),
        ("eval.split", "train", "eval.split must be test or val"),
        ("eval.mode", "chained", "eval.mode must be independent"),
        ("eval.hf.prompt", "document", "eval.hf.prompt: document has no effect"),
        ("eval.grid.palette", 11, "eval.grid.palette: 11"),
        ("probe.grid", "{rows: 5, cols: 5}", "probe.grid: rows, cols"),
        ("probe.grid.palette", 11, "probe.grid.palette: 11"),
    ],
)
def test_a_mistake_in_any_part(capsys, tmp_path, option, value, says):
    line = refused(capsys, tmp_path, f"--{option}", value)
    assert line.startswith((f"gpt2v: --{says}", f"gpt2v: preset smoke: {says}"))


def test_a_corpus_of_a_later_part_that_is_not_there(capsys, tmp_path):
    mix = "[{corpus: ./none.txt, context: 32}]"
    line = refused(capsys, tmp_path, "--mm.data.stages.0.mix", mix)
    assert "mm." in line
    assert "corpus: none.txt: no such file or folder" in line or "./none.txt" in line


def test_a_demo_is_measured_on_the_grids_that_it_trains(tmp_path):
    mix = [{"rows": 2, "cols": 2, "palette": 3, "modality": "image"}, {"rows": 2, "cols": 2}]
    config = demo_config("smoke", {"mm.data.stages.0.mix": mix}, tmp_path)
    for grid in (config.eval.grid, config.probe.grid):
        assert (grid.rows, grid.cols, grid.palette) == (2, 2, 3)
    config = demo_config("smoke", {"mm.data.stages.0.mix": mix, "eval.grid.rows": 3}, tmp_path)
    for grid in (config.eval.grid, config.probe.grid):
        assert (grid.rows, grid.cols, grid.palette) == (3, 2, 3)
