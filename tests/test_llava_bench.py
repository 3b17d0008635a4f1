"""bench/llava_equality.py: an export equals its model, and a wrong weight is seen."""

import sys

import pytest
from safetensors.torch import load_file, save_file

import helpers
from gpt2v.mm_train.export import export_llava
from gpt2v.mm_train.train import train_mm
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

from llava_equality import compare, main


@pytest.fixture(scope="module")
def square_run(bank, lm_run, tmp_path_factory):
    """A GPT-2v of 2x2 grids, whose pictures fill the square that the tower takes."""
    mix = [{"rows": 2, "cols": 2, "modality": "image"}]
    data = {"batch_size": 4, "stages": [{"steps": 3, "mix": mix}]}
    run = tmp_path_factory.mktemp("square")
    train_mm(helpers.mm_config(lm_run, data=data), run, bank)
    return str(run)


def test_an_export_is_equal_until_a_weight_is_wrong(square_run, tmp_path):
    to = tmp_path / "llava"
    export_llava(square_run, to)
    found = compare(square_run, str(to), n_images=4, seed=0)
    assert found["largest difference"] < 1e-5
    assert found["same"] == 1
    assert found["n"] == 16
    weights = load_file(to / "model.safetensors")
    (key,) = (k for k in weights if k.endswith("multi_modal_projector.linear_2.bias"))
    weights[key][3] += 0.5
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    assert compare(square_run, str(to), n_images=4, seed=0)["largest difference"] > 1e-4


def test_a_mistake_is_one_line(square_run, lm_run, tmp_path, monkeypatch, capsys):
    nothing = str(tmp_path / "no")
    for run, says in (
        (nothing, nothing),
        (str(lm_run), "is no GPT-2v"),
        (square_run, nothing),
    ):
        monkeypatch.setattr(sys, "argv", ["llava_equality", run, nothing])
        assert main() == 2
        line = capsys.readouterr().err
        assert line.startswith("llava_equality: ")
        assert says in line
    monkeypatch.setattr(sys, "argv", ["llava_equality", square_run, nothing, "--n_images", "0"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
