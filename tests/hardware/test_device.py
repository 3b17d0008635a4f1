"""Devices: all parts of a model use the same attention, which affects nothing but speed."""

import copy

import numpy as np
import pytest
import torch

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.hardware import device as devices
from gpt2v.model.packed import Reader


def attention(model):
    parts = (model, model.vision_tower, model.language_model)
    return {part.config._attn_implementation for part in parts}


@pytest.mark.parametrize(("device", "expected"), [("cpu", "eager"), ("meta", "sdpa")])
def test_placing_sets_the_attention_of_every_part(gpt2v, monkeypatch, device, expected):
    monkeypatch.setattr(devices, "chosen_device", lambda: torch.device(device))
    model = devices.place(copy.deepcopy(gpt2v))
    assert attention(model) == {expected}
    assert {p.device.type for p in model.parameters()} == {device}


def test_both_types_of_attention_give_the_same_logits(gpt2v, bank, table):
    model = copy.deepcopy(gpt2v)
    spec = GridConfig(rows=2, cols=2, modality="image")
    samples = draw_samples(spec, bank, 0, "test", np.arange(3))
    render = Renderer(bank, table, model.token_geometry)
    batch = render(samples, render.view(spec, "image"))
    logits = []
    for kind in ("eager", "sdpa"):
        model.set_attn_implementation(kind)
        with torch.no_grad():
            logits.append(Reader.of(model)(batch)[0])
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_does_not_fix_the_attention(lm, tmp_path):
    model = devices.place(copy.deepcopy(lm))
    model.save_pretrained(tmp_path)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()
