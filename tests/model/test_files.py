"""Checkpoints load in plain transformers and in gpt2v unchanged; damage is detected."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel, GPT2LMHeadModel

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import ImageView
from gpt2v.errors import UserError
from gpt2v.model.clip import new_clip
from gpt2v.model.encoders import Encoder
from gpt2v.model.families import IMAGE_MEAN, IMAGE_STD
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import find_checkpoint
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.registry import PROJECTORS
from helpers import save_checkpoint

TEXT = "| cat | dog |\nThe grid above is size 1 by 2. A: cat\n"


def test_a_gpt2_opens_in_plain_transformers(lm, tokenizer, tmp_path):
    path = save_checkpoint(tmp_path, 7, lm, tokenizer)
    assert path.name == "step-000007"
    plain, words = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    assert isinstance(plain, GPT2LMHeadModel)
    ids = words(TEXT, return_tensors="pt").input_ids
    assert ids[0].tolist() == tokenizer.encode(TEXT).ids
    with torch.no_grad():
        expected, logits = lm(ids).logits, plain(ids).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert words.decode(ids[0]) == TEXT
    assert words.convert_tokens_to_ids(["<image>", "<pad>"]) == [
        tokenizer.token_to_id("<image>"),
        tokenizer.token_to_id("<pad>"),
    ]
    config = plain.config
    assert config.eos_token_id == config.bos_token_id == tokenizer.token_to_id("<|endoftext|>")
    assert config.pad_token_id == words.pad_token_id


@pytest.mark.parametrize("projector", list(PROJECTORS))
def test_a_loaded_gpt2v_has_equal_logits(gpt2v, bank, table, tokenizer, tmp_path, projector):
    parts = Encoder(gpt2v.vision_tower, IMAGE_MEAN, IMAGE_STD), gpt2v.language_model
    options = {"projector": projector, "image_token_id": table.image_id}
    model = GPT2vModel.from_parts(*parts, **options).eval()
    path = save_checkpoint(tmp_path, 1, model, tokenizer)
    again = load_pretrained(GPT2vModel, str(path), "model").eval()
    assert again.language_model.lm_head.weight is again.language_model.transformer.wte.weight
    assert again.config.projector == projector
    samples = draw_samples(GridConfig(rows=2, cols=2), bank, 0, "test", np.arange(3))
    batch = Renderer(bank, table, PictureGeometry(48, 8))(
        samples, ImageView(model.geometry.span(2, 2, 16))
    )
    with torch.no_grad():
        expected, logits = Reader.of(model)(batch)[0], Reader.of(again)(batch)[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_a_vision_tower_is_read_from_a_whole_clip(tokenizer, tmp_path):
    torch.manual_seed(0)
    clip = new_clip(EncoderConfig.model_validate(helpers.TINY_ENCODER), tokenizer)
    path = save_checkpoint(tmp_path, 1, clip, tokenizer)
    tower = load_pretrained(CLIPVisionModel, str(path), "encoder").eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = clip.eval().vision_model(pixels).last_hidden_state
        hidden = tower(pixels).last_hidden_state
    torch.testing.assert_close(hidden, expected, rtol=0, atol=0)


def test_a_checkpoint_of_another_architecture_is_refused(lm, tokenizer, tmp_path):
    path = str(save_checkpoint(tmp_path, 1, lm, tokenizer))
    with pytest.raises(UserError, match=r"encoder: .*CLIPVisionModel") as caught:
        load_pretrained(CLIPVisionModel, path, "encoder")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def run(lm_run, tmp_path):
    return shutil.copytree(lm_run, tmp_path / "run")


def test_the_newest_checkpoint_of_a_run_is_found(run, lm, tokenizer):
    newest = save_checkpoint(run, 123, lm, tokenizer)
    assert find_checkpoint(str(run), "lm") == str(newest)
    assert find_checkpoint(str(newest), "lm") == str(newest)
    (run / "checkpoints" / ".step-000999.half").mkdir()  # an interrupted save
    assert find_checkpoint(str(run), "lm") == str(newest)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_one_flipped_bit_is_damage(run, name):
    path = find_checkpoint(str(run), "lm")
    file = run / "checkpoints" / path.rsplit("/", 1)[1] / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"lm: .*{name}: damaged"):
        find_checkpoint(str(run), "lm")
    file.unlink()
    with pytest.raises(UserError, match="lm: "):
        find_checkpoint(str(run), "lm")


def test_a_damaged_manifest_is_one_line(run):
    path = find_checkpoint(str(run), "lm")
    manifest = run / "checkpoints" / path.rsplit("/", 1)[1] / "MANIFEST.json"
    assert "model.safetensors" in json.loads(manifest.read_text())
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(UserError, match="MANIFEST"):
        find_checkpoint(str(run), "lm")


def test_paths_without_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"lm: .*no such run"):
        find_checkpoint(str(tmp_path / "none"), "lm")
    with pytest.raises(UserError, match=r"lm: .*no config\.json"):
        find_checkpoint(str(tmp_path), "lm")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"lm: .*no checkpoint"):
        find_checkpoint(str(tmp_path), "lm")
    assert find_checkpoint("openai/clip-vit-base-patch32", "encoder").startswith("openai/")


def test_a_mistyped_relative_run_is_no_hub_id(tmp_path, monkeypatch):
    """If runs/ exists, runs/typo is a mistake and not a hub id."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="lm: runs/typo: no such run"):
        find_checkpoint("runs/typo", "lm")


def test_an_interrupted_save_leaves_nothing(lm, tokenizer, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr(lm, "save_pretrained", fail, raising=False)
    with pytest.raises(UserError, match="cannot be saved: disk full"):
        save_checkpoint(tmp_path, 1, lm, tokenizer)
    assert list((tmp_path / "checkpoints").iterdir()) == []
