"""bench/llava_equality.py: an export equals its model, and a wrong weight is seen."""

import sys

import pytest
from safetensors.torch import load_file, save_file

from gpt2v.mm_train.export import export_llava
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

from llava_equality import compare, main


def test_an_export_is_equal_until_a_weight_is_wrong(mm_run, tmp_path):
    to = tmp_path / "llava"
    export_llava(str(mm_run), to)
    found = compare(str(mm_run), str(to), n_images=4, seed=0)
    assert found["largest difference"] < 1e-5
    assert found["same"] == 1
    assert found["n"] >= 4
    weights = load_file(to / "model.safetensors")
    (key,) = (k for k in weights if k.endswith("multi_modal_projector.linear_2.bias"))
    weights[key][3] += 0.5
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    spoilt = compare(str(mm_run), str(to), n_images=4, seed=0)
    assert spoilt["largest difference"] > 1e-4
    assert spoilt["n"] == found["n"]


def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["llava_equality", str(tmp_path / "no"), str(tmp_path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith("llava_equality: ")


@pytest.fixture(autouse=True)
def _fp32(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
