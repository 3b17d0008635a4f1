"""A mistake in a later stage, or in a measurement, is answered before the first step."""

import pytest

import helpers
from gpt2v.ablate.ladder import climb_model
from gpt2v.config.measuring import LadderConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.errors import UserError
from gpt2v.probing import probe as probes

GRID = {"rows": 1, "cols": 2}
PICTURE = {**GRID, "modality": "image"}
FIRST = {"name": "one", "steps": 3, "mix": [GRID]}


def refused(capsys, tmp_path, kind, values):
    """The one line of a training that must not begin."""
    file = helpers.write_yaml(tmp_path / "c.yaml", values)
    line = helpers.refusal(capsys, kind, "train", file, "--out", tmp_path / "run")
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert not (tmp_path / "run").exists()
    return line


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ([{"rows": 16, "cols": 16}], "data.stages.1.mix.0.rows, cols: a 16x16 grid"),
        ([GRID, {"rows": [1, 16], "cols": [1, 16]}], "data.stages.1.mix.1.rows, cols: a 1-16x1-16"),
        ([{**GRID, "palette": [2, 11]}], "data.stages.1.mix.0.palette: 11"),
        ([{**GRID, "questions": 3}], "data.stages.1.mix.0.questions: 3"),
        ([{**GRID, "instructions": {"neighbour": 1.0}, "cols": 1}], "data.stages.1.mix.0.rows"),
        ([{"corpus": "./none.txt", "context": 16}], "none.txt: no such file"),
        ([{"corpus": "c.txt", "context": 999}], "data.stages.1.mix.0.context: 999 tokens"),
        ([{"corpus": "c.txt", "context": 200}], "too few for one window of context: 200"),
        (
            [{"corpus": "c.txt", "context": 8, "windows": 1}],
            "data.stages.1.mix.0.windows: a batch of 1 cannot be cut into 2 parts",
        ),
    ],
)
def test_a_mistake_in_the_second_stage_of_a_gpt2(capsys, tmp_path, monkeypatch, mix, says):
    monkeypatch.chdir(tmp_path)
    for name, words in (("c.txt", "a b c"), ("v.txt", "g h i")):
        (tmp_path / name).write_text(f"{words}\n<|endoftext|>\n" * 3 + f"{words} d e f\n")
    data = {"batch_size": 4, "stages": [FIRST, {"steps": 1, "mix": mix}]}
    train = {**helpers.TINY_LM["train"], "accumulate": 2}
    values = {**helpers.TINY_LM, "data": data, "train": train}
    if "c.txt" in str(mix):
        for spec in mix:
            spec["valid"] = "v.txt"
            spec["clean"] = False
    assert says in refused(capsys, tmp_path, "lm", values)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"mix": [{**PICTURE, "rows": 3}]}, "data.stages.1.mix.0."),
        ({"mix": [{**PICTURE, "rows": [1, 3]}]}, "data.stages.1.mix.0."),
        ({"mix": [{"rows": 16, "cols": 16}]}, "mix.0.rows, cols: a 16x16 grid (text"),
        (
            {"mix": [{**PICTURE, "rows": 8, "cols": 16, "picture": {"layout": "multi"}}]},
            "data.stages.1.mix.0.rows, cols: a 8x16 grid (image",
        ),
        ({"mix": [{"corpus": "./none.txt", "context": 16}]}, "none.txt: no such file"),
    ],
)
def test_a_mistake_in_the_second_stage_of_a_gpt2v(capsys, tmp_path, lm_run, stage, says):
    data = {"batch_size": 4, "stages": [FIRST, {"steps": 1, **stage}]}
    values = {**helpers.TINY_MM, "lm": str(lm_run), "data": data}
    assert says in refused(capsys, tmp_path, "mm", values)


def test_groups_of_a_later_stage(capsys, tmp_path, lm_run):
    stages = [{**FIRST, "mix": [PICTURE]}, {"name": "two", "steps": 1, "mix": [PICTURE]}]
    two = [{"name": "x", "pattern": "^nothing", "lr": 0.1}]
    train = {**helpers.TINY_MM["train"], "stage_groups": {"two": two}}
    values = {**helpers.TINY_MM, "lm": str(lm_run), "train": train}
    values["data"] = {"batch_size": 4, "stages": stages}
    assert "train.stage_groups.two: no pattern matches" in refused(capsys, tmp_path, "mm", values)


@pytest.mark.parametrize("max_gb", [4.0, 1e-9])
def test_a_cache_that_only_a_later_stage_needs(capsys, tmp_path, lm_run, max_gb):
    """The tower trains in the second stage, or the cache is too large."""
    fixed = {**PICTURE, "n_images": 8}
    frozen = [{"name": "f", "pattern": "^vision_tower", "lr": 0.0}]
    frozen += [{"name": "rest", "pattern": "", "lr": 0.001}]
    stages = [{**FIRST, "mix": [GRID]}, {"name": "two", "steps": 1, "mix": [fixed]}]
    own = helpers.TINY_MM["train"]["groups"] if max_gb > 1 else frozen
    train = {"warmup": 0, "eval_grids": 5, "stage_groups": {"one": frozen, "two": own}}
    values = {**helpers.TINY_MM, "lm": str(lm_run), "train": train}
    values["data"] = {"batch_size": 4, "stages": stages}
    values["features"] = {"mode": "require", "path": str(tmp_path / "cache"), "max_gb": max_gb}
    line = refused(capsys, tmp_path, "mm", values)
    assert "features.mode: require, but" in line
    assert ("the vision tower trains" in line) == (max_gb > 1)


def test_names_that_are_long_in_tokens_only(capsys, tmp_path):
    """Short in letters, but many bytes: the longest caption is counted with the tokenizer."""
    names = tuple("日本語中文字"[i] * 9 for i in range(6))
    plain = tuple(f"{letter}aaaaaaaaaaaaaa" for letter in "bcdefghi")
    pictures = helpers.picture_folder(tmp_path / "p", (*names, *plain))
    tiles = {"source": "folder", "path": str(pictures), "size": 16}
    values = {**helpers.TINY_ENCODER, "tiles": tiles, "tokenizer": {"vocab_size": 259}}
    line = refused(capsys, tmp_path, "encoder", values)
    assert "captions of up to 4 objects need" in line
    count = int(line.split(" need ")[1].split()[0])
    assert count >= 4 * 27


def test_a_batch_of_scenes_that_cannot_be_cut(capsys, tmp_path):
    values = {**helpers.TINY_ENCODER}
    values["train"] = {**values["train"], "accumulate": 5}
    line = refused(capsys, tmp_path, "encoder", values)
    assert "a batch of 4 cannot be cut into 5 parts" in line


def test_a_probe_draws_nothing_before_it_is_checked(mm_run, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "Collection", None)  # would fail with another error
    values = {"tiles": helpers.TINY_TILES, "model": str(mm_run), **helpers.QUICK_PROBE}
    for grid, says in (
        ({**GRID, "palette": 11}, "grid.palette: 11"),
        ({**GRID, "rows": 3}, "grid."),
    ):
        with pytest.raises(UserError) as caught:
            probes.probe_model(ProbeConfig.model_validate({**values, "grid": grid}), tmp_path)
        assert str(caught.value).startswith(says)


def test_a_ladder_checks_every_rung_first(mm_run, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2v.ablate.ladder.score_all", None)
    values = {"tiles": helpers.TINY_TILES, "model": str(mm_run), "n_images": 4}
    grid = {"rows": 2, "cols": 2, "questions": 4, "palette": 11}
    with pytest.raises(UserError, match=r"^grid\.palette: 11"):
        climb_model(LadderConfig.model_validate({**values, "grid": grid}), tmp_path)
