"""Invalid input of `gpt2v mm train`: one line, exit status 2, and no run directory."""

import re

import pytest
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

import helpers
from gpt2v.config.load import validate
from gpt2v.config.training import MMConfig
from gpt2v.data.tokenizer import train_tokenizer
from gpt2v.errors import UserError
from gpt2v.model.files import wrap_tokenizer

GRID = {"rows": 2, "cols": 2, "modality": "image"}


@pytest.fixture
def refused(tmp_path, lm, tokenizer, capsys, monkeypatch):
    """Runs `mm train` with changes of a tiny configuration; returns its one line of output."""
    monkeypatch.chdir(tmp_path)
    path = helpers.save_checkpoint(tmp_path / "lm", 1, lm, tokenizer)

    def run(**changes):
        config = {
            **helpers.TINY_MM,
            "lm": str(path),
            "data": {"stages": [{"steps": 1, "mix": [GRID]}]},
            **changes,
        }
        if "encoder" in changes:  # which has a shape of its own
            config.pop("vision")
        (tmp_path / "mm.yaml").write_text(yaml.safe_dump(config))
        line = helpers.refusal(capsys, "mm", "train", "mm.yaml", "--out", "run")
        assert not (tmp_path / "run").exists()
        return line

    return run


def small_gpt2(folder, tokenizer, vocab_size, n_positions=512):
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": n_positions}
    GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, **shape)).save_pretrained(folder)
    wrap_tokenizer(tokenizer).save_pretrained(folder)
    return str(folder)


def test_more_vision_tokens_than_the_context_holds(refused, tokenizer, tmp_path):
    clip = helpers.tower_checkpoint("clip", tmp_path / "clip")
    lm = small_gpt2(tmp_path / "short", tokenizer, tokenizer.get_vocab_size(), n_positions=300)
    grid = {**GRID, "picture": {"resize": True}}
    stages = {"stages": [{"steps": 1, "mix": [grid]}]}
    line = refused(lm=lm, encoder=clip, image_size=256, data=stages)
    assert "rows, cols: a 2x2 grid" in line
    assert "n_positions: 300" in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": {"mode": "require"}}, "features.mode: require, but cell-embeddings reads no"),
        (
            {"data": {"stages": [{"steps": 1, "mix": [{"modality": "text+image"}]}]}},
            "data.stages.0.mix.0.modality: text+image needs vision_tokens: patches",
        ),
    ],
)
def test_what_only_patches_can_do(changes, words):
    config = {**helpers.TINY_MM, "lm": "x", "vision_tokens": "cell-embeddings", **changes}
    with pytest.raises(UserError, match=re.escape(words)):
        validate(MMConfig, config, "mm.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 44}, "image_size: 44 must be a multiple of the encoder's 8-pixel patches"),
        (
            {"projector": "wide"},
            "projector: no such projector: 'wide'; choose from average",
        ),
        ({"pool": 3}, "pool: 3 must divide the 4 patches along a side"),
    ],
)
def test_what_does_not_fit_the_encoder(refused, tmp_path, changes, words):
    assert words in refused(encoder=helpers.tower_checkpoint("clip", tmp_path / "clip"), **changes)


def test_sizes_without_an_encoder(refused):
    assert "vision: image_size 44 must be a multiple" in refused(
        vision={**helpers.TINY_VISION, "image_size": 44}
    )
    assert "image_size: needs an encoder" in refused(image_size=64)


def test_checkpoints_of_another_architecture(refused, tmp_path):
    clip = helpers.tower_checkpoint("clip", tmp_path / "clip")
    assert "expected CLIP, convolutional, DINOv2 or SigLIP" in refused(encoder=str(tmp_path / "lm"))
    assert "cannot be loaded as GPT2LMHeadModel" in refused(lm=clip, encoder=clip)
    line = refused(encoder=clip, projector_from=clip)
    assert "projector_from: " in line
    assert "an encoder reads no text; a GPT-2v is needed: a run of `mm train`" in line


def test_a_tokenizer_of_another_gpt2_is_refused(refused, bank, tmp_path):
    tokenizer = train_tokenizer(["cats and dogs " * 9], 300)
    size = tokenizer.get_vocab_size()
    lm = small_gpt2(tmp_path / "narrow", tokenizer, size - 10)
    line = refused(lm=lm)
    assert f"its tokenizer has {size} tokens with <image>" in line
    assert f"a vocabulary of {size - 10} tokens, which is too small" in line
