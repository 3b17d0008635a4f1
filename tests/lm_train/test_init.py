"""Training that starts from a checkpoint: what the checkpoint decides is kept, and recorded."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

import helpers
from gpt2v.cli.main import main
from gpt2v.config.training import GenerateConfig
from gpt2v.lm_train.sample import generate
from gpt2v.lm_train.train import new_gpt2
from gpt2v.model.files import load_gpt2, save_tokenizer
from gpt2v.run_layout import checkpoints_of
from helpers import refusal, write_yaml

SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 128}
HEAD, WTE = "lm_head.weight", "transformer.wte.weight"


def gpt2(folder, tokenizer, **fields):
    torch.manual_seed(3)
    rates = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    size = tokenizer.get_vocab_size()
    GPT2LMHeadModel(GPT2Config(**{**SHAPE, **rates, "vocab_size": size, **fields})).save_pretrained(
        folder
    )
    save_tokenizer(folder, tokenizer)
    return str(folder)


@pytest.fixture
def config(tmp_path):
    """Writes a configuration that starts from a checkpoint; returns its path."""

    def write(init, **changes):
        content = {
            "tiles": helpers.TINY_TILES,
            "init": init,
            "data": {"batch_size": 4, "stages": [{"steps": 3, "mix": [{"rows": 1, "cols": 2}]}]},
            "train": {
                "groups": [{"name": "lm", "pattern": "", "lr": 0.01}],
                "warmup": 0, "eval_grids": 3, "save_every": 1, "tensorboard": False,
            },
            **changes,
        }  # fmt: skip
        return write_yaml(tmp_path / "c.yaml", content)

    return write


def weights(run):
    return load_file(checkpoints_of(run)[-1] / "model.safetensors")


def test_the_shape_of_the_checkpoint_is_recorded_and_taken_back(config, tokenizer, tmp_path):
    init = gpt2(tmp_path / "init", tokenizer)
    assert main(["lm", "train", str(config(init)), "--out", str(tmp_path / "one")]) == 0
    recorded = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    assert recorded["model"] == {**SHAPE, "dropout": 0.1}
    assert recorded["tokenizer"] == {"source": init, "vocab_size": tokenizer.get_vocab_size()}
    again = str(tmp_path / "one" / "config.yaml")
    assert main(["lm", "train", again, "--out", str(tmp_path / "two")]) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert main(["lm", "train", str(config(init)), "--out", str(tmp_path / "one"), "--resume"]) == 0


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [
        ("model.n_layer", 3, 1),
        ("model.n_embd", 32, 16),
        ("model.n_positions", 64, 128),
        ("model.dropout", 0.2, 0.1),
        ("tokenizer.source", "elsewhere", None),
        ("tokenizer.vocab_size", 300, None),
    ],
)
def test_another_value_is_refused(key, value, there, config, tokenizer, tmp_path, capsys):
    init = gpt2(tmp_path / "init", tokenizer)
    there = there or {"source": init, "vocab_size": tokenizer.get_vocab_size()}[key.split(".")[1]]
    expected = f"{key}: {value} has no effect: it is {there} in init: {init}; leave it out"
    run = ["--out", tmp_path / "r"]
    assert expected in refusal(capsys, "lm", "train", config(init), f"--{key}", value, *run)
    part, name = key.split(".")
    path = config(init, **{part: {name: value}})
    assert expected in refusal(capsys, "lm", "train", path, *run)
    assert not (tmp_path / "r").exists()


def test_different_rates_of_dropout_are_recorded_as_none(config, tokenizer, tmp_path, capsys):
    init = gpt2(tmp_path / "init", tokenizer, attn_pdrop=0.0)
    assert main(["lm", "train", str(config(init)), "--out", str(tmp_path / "r")]) == 0
    recorded = tmp_path / "r" / "config.yaml"
    assert yaml.safe_load(recorded.read_text())["model"]["dropout"] is None
    line = refusal(capsys, "lm", "train", recorded, "--init", "null", "--out", tmp_path / "x")
    assert "model.dropout: none needs init" in line


def test_an_unused_size_of_an_existing_tokenizer_is_refused(config, tokenizer, tmp_path, capsys):
    init = gpt2(tmp_path / "init", tokenizer)
    tokens = {"source": init, "vocab_size": 300}
    path = config(None, tokenizer=tokens, model=SHAPE)
    line = refusal(capsys, "lm", "train", path, "--out", tmp_path / "r")
    assert f"tokenizer.vocab_size: 300 has no effect: it is {tokenizer.get_vocab_size()}" in line


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_head_of_its_own_trains_and_resumes(ema, config, tokenizer, tmp_path):
    """Bit for bit, also with moving averages."""
    init = gpt2(tmp_path / "init", tokenizer, tie_word_embeddings=False)
    before = load_file(tmp_path / "init" / "model.safetensors")
    path = config(init)
    options = [f"--train.ema={ema}"] if ema else []
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert main(["lm", "train", str(path), "--out", str(whole), *options]) == 0
    after = weights(whole)
    assert not torch.equal(after[HEAD], before[HEAD])
    assert not torch.equal(after[HEAD], after[WTE])
    settings = json.loads((checkpoints_of(whole)[-1] / "config.json").read_text())
    assert settings["tie_word_embeddings"] is False

    assert main(["lm", "train", str(path), "--out", str(part), *options]) == 0
    (part / "results.json").unlink()
    for folder in checkpoints_of(part)[-1:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert main(["lm", "train", str(path), "--out", str(part), "--resume", *options]) == 0
    resumed = weights(part)
    assert all(torch.equal(after[name], resumed[name]) for name in after)


def test_a_frozen_language_model_with_a_head_of_its_own_stays_as_it_is(tokenizer, tmp_path):
    init = gpt2(tmp_path / "init", tokenizer, tie_word_embeddings=False)
    groups = [
        {"name": "frozen", "pattern": "^language_model", "lr": 0},
        {"name": "rest", "pattern": "", "lr": 0.01},
    ]
    path = write_yaml(
        tmp_path / "mm.yaml",
        {**helpers.TINY_MM, "lm": init, "train": {**helpers.TINY_MM["train"], "groups": groups}},
    )
    assert main(["mm", "train", str(path), "--out", str(tmp_path / "mm")]) == 0
    before, after = load_file(tmp_path / "init" / "model.safetensors"), weights(tmp_path / "mm")
    for name, value in before.items():
        assert torch.equal(after[f"language_model.{name}"], value), name


def test_a_checkpoint_s_own_way_to_generate_is_not_used(tokenizer, tmp_path):
    """Only the settings of the command are."""
    path = gpt2(tmp_path, tokenizer)
    settings = GenerateConfig(temperature=0, max_new_tokens=6)
    plain, _ = load_gpt2(path, "model")
    expected = [c.text for c in generate(plain.eval(), tokenizer, ["| cat"], settings)]
    GenerationConfig(repetition_penalty=50.0, no_repeat_ngram_size=1).save_pretrained(path)
    other, _ = load_gpt2(path, "model")
    assert other.generation_config.repetition_penalty == 50.0
    assert [c.text for c in generate(other.eval(), tokenizer, ["| cat"], settings)] == expected


def test_the_shape_of_an_encoder_is_recorded_and_taken_back(lm_run, tmp_path, capsys):
    clip = helpers.tower_checkpoint("clip", tmp_path / "clip")
    content = {**helpers.TINY_MM, "lm": str(lm_run), "encoder": clip, "vision": {}}
    path = write_yaml(tmp_path / "mm.yaml", content)
    assert main(["mm", "train", str(path), "--out", str(tmp_path / "one")]) == 0
    recorded = yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())
    names = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    assert recorded["vision"] == {"name": "clip", **{name: helpers.TOWER[name] for name in names}}
    again = str(tmp_path / "one" / "config.yaml")
    assert main(["mm", "train", again, "--out", str(tmp_path / "two")]) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    line = refusal(capsys, "mm", "train", path, "--vision.hidden_size", 48, "--out", tmp_path / "x")
    assert f"vision.hidden_size: 48 has no effect: it is 16 in encoder: {clip}" in line


def test_a_random_gpt2_needs_a_rate_of_dropout(tokenizer):
    with pytest.raises(AssertionError, match="none needs a GPT-2"):
        new_gpt2(helpers.lm_config().model.model_copy(update={"dropout": None}), tokenizer)
