"""The functions of the front door: configurations, runs that are or are not kept, results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpt2v
from gpt2v.api.configs import config_of
from gpt2v.api.training import Training
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.training import LMConfig, MMConfig
from gpt2v.runs import command_line
from helpers import QUICK_PROBE, TINY_ENCODER, TINY_LM, TINY_MM, write_yaml


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def few(**more):
    """A training of two steps."""
    data = {**TINY_LM["data"], "stages": [{"steps": 2, "mix": [{"rows": 1, "cols": 2}]}]}
    train = {**TINY_LM["train"], "eval_grids": 4, "warmup": 0, "tensorboard": False}
    return {**TINY_LM, "data": data, "train": train, **more}


# ---- names -----------------------------------------------------------------------------------


def test_every_name_is_there_and_the_rest_is_not():
    for name in gpt2v.__all__:
        assert getattr(gpt2v, name).__doc__, name
    assert set(gpt2v.__all__) <= set(dir(gpt2v))
    with pytest.raises(AttributeError, match="module 'gpt2v' has no attribute 'evaluation'"):
        gpt2v.evaluation  # noqa: B018


def test_the_import_is_light_and_a_mistake_needs_no_torch():
    code = """
import sys, gpt2v
assert "pydantic" not in sys.modules and "numpy" not in sys.modules
try:
    gpt2v.evaluate("runs/none", n_images="many")
except gpt2v.UserError as error:
    assert str(error).startswith("n_images: "), error
assert callable(gpt2v.probe) and "torch" not in sys.modules
import gpt2v.probing.controls
assert callable(gpt2v.probe) and callable(gpt2v.ladder)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- configurations --------------------------------------------------------------------------


def test_a_mapping_changes_only_the_keys_that_it_holds(tmp_path):
    file = write_yaml(tmp_path / "c.yaml", {"n_images": 5, "grid": {"rows": 2, "cols": 4}})
    config = config_of(EvalConfig, file, {"grid": {"rows": 1, "picture": {"gap": 3}}})
    assert (config.n_images, config.grid.rows, config.grid.cols) == (5, 1, 4)
    assert config.grid.picture.gap == 3
    again = config_of(EvalConfig, config, {"n_images": 6})
    assert again == config.model_copy(update={"n_images": 6})
    assert "seed" not in again.model_fields_set


def test_lists_and_free_mappings_are_replaced_whole(tmp_path):
    grid = {"instructions": {"count": 1.0, "lookup": 1.0}}
    file = write_yaml(tmp_path / "c.yaml", {"grid": grid, "modalities": ["text", "image"]})
    fields = {"grid": {"instructions": {"exists": 2.0}}, "modalities": ("image",)}
    config = config_of(EvalConfig, file, fields)
    assert [str(name) for name in config.grid.instructions] == ["exists"]
    assert config.modalities == ["image"]


def test_paths_and_configurations_are_values(tmp_path):
    stages = TINY_MM["data"]["stages"]
    fields = {**TINY_MM, "lm": tmp_path / "lm", "data": {"stages": tuple(stages)}}
    assert config_of(MMConfig, None, fields).lm == str(tmp_path / "lm")
    given = config_of(EvalConfig, None, {"grid": HeldOutGridConfig(rows=2)})
    assert (given.grid.rows, given.grid.model_fields_set) == (2, {"rows"})


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        (EvalConfig, {"grids": {}}, "grids: unknown key"),
        (EvalConfig, {"grid": {"row": 1}}, "grid.row: unknown key"),
        (EvalConfig, {"grid": 3}, "grid: "),
        (LMConfig, {}, "data: "),
    ],
)
def test_a_wrong_field_is_named(kind, fields, says):
    with pytest.raises(gpt2v.UserError) as error:
        config_of(kind, None, fields)
    assert str(error.value).startswith(says)


# ---- trainings -------------------------------------------------------------------------------


def test_a_training_without_a_run_directory_leaves_nothing(temporary):
    lm = gpt2v.train_lm(**few())
    assert isinstance(lm, Training)
    assert (lm.steps, lm.checkpoint.parent.parent) == (2, lm.run)
    assert lm.results["command"] == "gpt2v.train_lm(...)"
    assert command_line() != lm.results["command"]
    mm = gpt2v.train_mm(**{**TINY_MM, "lm": lm})
    assert mm.model().ask("What objects are in row 0?", text="| cat | dog |")
    folders = [Path(os.fspath(one)).parent for one in (lm, mm)]
    assert sorted(temporary.iterdir()) == sorted(folders)
    del lm, mm
    assert list(temporary.iterdir()) == []


def test_a_run_is_refused_replaced_or_continued(tmp_path):
    out = tmp_path / "lm"
    first = gpt2v.train_lm(out=out, **few())
    assert first.run == out
    with pytest.raises(gpt2v.UserError, match=r"lm: .*--overwrite"):
        gpt2v.train_lm(out=out, **few())
    with pytest.raises(gpt2v.UserError, match="--resume needs the same configuration"):
        gpt2v.train_lm(out=out, resume=True, **few(model={**TINY_LM["model"], "n_layer": 1}))
    again = gpt2v.train_lm(out=out, resume=True, **few())
    assert again.results == first.results
    other = gpt2v.train_lm(out=out, overwrite=True, **few(model={**TINY_LM["model"], "n_layer": 1}))
    assert other.model().lm.config.n_layer == 1


def test_an_encoder_returns_its_test(temporary):
    encoder = gpt2v.train_encoder(**TINY_ENCODER)
    assert set(encoder.validation) == {"zero_shot_accuracy", "n_images", "split"}
    assert encoder.steps == 2


def test_a_file_and_a_field(tmp_path, temporary):
    file = write_yaml(tmp_path / "lm.yaml", few())
    assert gpt2v.train_lm(file, model={"n_layer": 1}).model().lm.config.n_layer == 1


# ---- measurements ----------------------------------------------------------------------------


def test_an_evaluation_returns_what_the_command_writes(mm_run, tmp_path, temporary):
    small = {"n_images": 4, "examples": 0}
    kept = gpt2v.evaluate(mm_run, out=tmp_path / "run", **small)
    passing = gpt2v.evaluate(gpt2v.load_model(mm_run), **small)
    assert list(temporary.iterdir()) == []
    assert (kept.run, passing.run) == (tmp_path / "run", None)
    assert kept.rows == passing.rows
    assert [row["modality"] for row in kept.rows] == ["text", "image"]
    assert passing.records.equals(kept.records)
    assert kept.records.equals(gpt2v.read_records(tmp_path / "run"))
    assert kept.results == gpt2v.read_results(tmp_path / "run")
    assert kept.results["command"] == "gpt2v.evaluate(...)"
    with pytest.raises(gpt2v.UserError, match="--overwrite"):
        gpt2v.evaluate(mm_run, out=tmp_path / "run", **small)


def test_an_evaluation_takes_a_file_or_a_suite(mm_run, tmp_path):
    file = write_yaml(tmp_path / "eval.yaml", {"n_images": 6, "modalities": ["image"]})
    (row,) = gpt2v.evaluate(mm_run, file, n_images=3).rows
    assert (row["modality"], row["n_images"]) == ("image", 3)
    with pytest.raises(gpt2v.UserError, match="parts: grid-3x3-v1 has no part none"):
        gpt2v.evaluate(mm_run, "grid-3x3-v1", parts=["none"])


def test_probe_and_ladder_take_a_model(mm_run):
    probed = gpt2v.probe(mm_run, **QUICK_PROBE)
    assert probed.rows[0]["n_train"] == 120
    assert probed.records.num_rows == 2 * 40
    climbed = gpt2v.ladder(mm_run, n_images=2, rungs=["R0", "R4"])
    assert [row["rung"] for row in climbed.rows] == ["R0", "R4"]
    assert climbed.records is None
    with pytest.raises(gpt2v.UserError, match="model: "):
        gpt2v.probe(n_train=20)


# ---- reading ---------------------------------------------------------------------------------


def test_runs_that_cannot_be_read_are_one_line(tmp_path, lm_run):
    with pytest.raises(gpt2v.UserError, match=r"none: no finished run: it has no results\.json"):
        gpt2v.read_results(tmp_path / "none")
    with pytest.raises(gpt2v.UserError, match=r"has no records\.parquet$"):
        gpt2v.read_records(lm_run)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "records.parquet").write_text("no table")
    with pytest.raises(gpt2v.UserError, match=r"its sub-runs have: .*eval"):
        gpt2v.read_records(tmp_path)
    with pytest.raises(gpt2v.UserError, match="cannot be read as parquet"):
        gpt2v.read_records(tmp_path / "eval")
    for text in ("{", json.dumps([1])):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(gpt2v.UserError, match=r"results\.json: "):
            gpt2v.read_results(tmp_path)
