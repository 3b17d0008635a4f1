"""Numbers that no machine can hold, or that no real run has, are one line before any work."""

import pytest

import helpers

LM = {**helpers.TINY_LM, "tiles": {"size": 16}}


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--model.n_layer", 10**9, "model.n_layer: Input should be less than or equal to 1000"),
        ("--model.n_embd", 10**12, "model.n_embd: Input should be less than or equal to 100000"),
        ("--model.n_positions", 2**62, "model.n_positions: "),
        ("--data.batch_size", 10**9, "data.batch_size: "),
        ("--data.stages.0.steps", 2**62, "data.stages.0.steps: "),
        ("--train.eval_grids", 10**9, "train.eval_grids: "),
        ("--tokenizer.vocab_size", 10**9, "tokenizer.vocab_size: "),
        ("--tiles.per_class", 10**9, "tiles.per_class: 1000000000 sprites per class would need "),
    ],
)
def test_a_training(capsys, tmp_path, option, value, says):
    config = helpers.write_yaml(tmp_path / "c.yaml", LM)
    words = ["lm", "train", config, "--out", tmp_path / "run", option, value]
    assert says in helpers.refusal(capsys, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "values", "says"),
    [
        (
            ["lm", "train"],
            {**helpers.TINY_LM, "model": {"n_layer": 1000, "n_embd": 100_000, "n_head": 1}},
            "model.n_layer, n_embd: a GPT-2 of this size would need ",
        ),
        (
            ["encoder", "train"],
            {**helpers.TINY_ENCODER, "text": {"num_hidden_layers": 900, "hidden_size": 99_840}},
            "text.num_hidden_layers, hidden_size: a tower of this size would need ",
        ),
        (
            ["encoder", "train"],
            {**helpers.TINY_ENCODER, "vision": {"name": "conv", "widths": [64, 100_000]}},
            "vision.widths, depth: a tower of this size would need ",
        ),
    ],
)
def test_weights_that_do_not_fit_into_memory(capsys, tmp_path, command, values, says):
    config = helpers.write_yaml(tmp_path / "c.yaml", values)
    assert says in helpers.refusal(capsys, *command, config, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_export_of_more_files_than_have_numbers(capsys, tmp_path):
    config = helpers.write_yaml(tmp_path / "c.yaml", {"tiles": helpers.TINY_TILES})
    words = ["data", "export", config, "--format", "folder", "--to", tmp_path / "x"]
    line = helpers.refusal(capsys, *words, "--n_images", 10**9, "--shard_size", 10)
    assert "n_images 1000000000 in shards of 10 samples are more than 100,000 files" in line
    assert not (tmp_path / "x").exists()
