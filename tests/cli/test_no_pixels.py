"""What shows no picture draws no tile, and what shows one split draws no other."""

import dataclasses
import json

import pytest

from gpt2v.cli.main import main
from gpt2v.data.tiles import load as load_module
from helpers import TINY_LM, write_yaml

SHORT = {"data.stages.0.steps": "2", "train.eval_grids": "4"}


@pytest.fixture
def drawn(monkeypatch):
    """The splits of sprites that have been drawn, in order."""
    splits = []
    original = load_module._sprites

    def watched(config, split, variants):
        own = original(config, split, variants)

        def draw():
            splits.append(split)
            return own.draw()

        return dataclasses.replace(own, draw=draw)

    monkeypatch.setattr(load_module, "_sprites", watched)
    return splits


def run(*argv):
    assert main([str(word) for word in argv]) == 0


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_training_on_tables_draws_nothing(drawn, tmp_path):
    config = write_yaml(tmp_path / "c.yaml", TINY_LM)
    short = [f"--{key}={value}" for key, value in SHORT.items()]
    run("lm", "train", config, "--out", tmp_path / "lm", *short)
    assert results(tmp_path / "lm")["data_hash"]
    assert drawn == []


def test_an_evaluation_of_text_draws_nothing_and_saves_no_pictures(drawn, lm_run, tmp_path):
    run("eval", lm_run, "--modalities", "[text]", "--n_images", "4", "--out", tmp_path / "a")
    suite = ["--suite", "multi-image-v1", "--tiles.per_class", "100", "--modalities", "[text]"]
    run("eval", lm_run, *suite, "--allow", "[]", "--out", tmp_path / "b")
    for name in ("a", "b"):
        assert results(tmp_path / name)["results"][0]["modality"] == "text"
        assert not (tmp_path / name / "examples").exists()
    assert drawn == []


def test_an_evaluation_of_pictures_draws_their_split_only(drawn, mm_run, tmp_path):
    for split in ("test", "val"):
        where = ["--split", split, "--out", tmp_path / split]
        run("eval", mm_run, "--n_images", "4", "--examples", "2", *where)
        assert (tmp_path / split / "examples").is_dir()
    assert drawn == ["test", "val"]
