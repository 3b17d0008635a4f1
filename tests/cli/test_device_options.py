"""`--device` and `--threads` of every command that runs a model."""

import json
from pathlib import Path

import pytest
import torch

from gpt2v.cli.main import main
from gpt2v.model.found import GPT2V
from helpers import TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, refusal, write_yaml

EVAL = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4, "examples": 0}
COMMANDS = {
    "lm train c.yaml": TINY_LM,
    "encoder train c.yaml": TINY_ENCODER,
    "mm train c.yaml": {**TINY_MM, "lm": "model"},
    "lm sample model": {},
    "eval model --suite c.yaml": EVAL,
    "probe c.yaml": {"model": "model"},
    "ablate tokens c.yaml": {"model": "model"},
    "demo --preset smoke": {},
}
SEEING = ("probe c.yaml", "ablate tokens c.yaml")  # of a GPT-2v only


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(folder, capsys, command):
    """There are no weights, which nothing misses."""
    write_yaml(folder / "c.yaml", COMMANDS[command])
    (folder / "model").mkdir()
    model_type = GPT2V if command in SEEING else "gpt2"
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": model_type}))
    said = refusal(capsys, *command.split(), "--device", "cuda:99")
    assert said.startswith("gpt2v: --device: cuda:99: is not there; this machine has cpu")
    assert sorted(path.name for path in folder.iterdir()) == ["c.yaml", "model"]


@pytest.mark.parametrize(
    ("platform", "visible", "device", "says"),
    [
        ("linux", None, "mps", "--device: mps: is not there; only Macs have it"),
        ("win32", None, "mps", "--device: mps: is not there; only Macs have it"),
        ("darwin", None, "cuda:1", "--device: cuda:1: is not there; Macs have cpu and mps"),
        ("linux", "", "cuda", "is not there; CUDA_VISIBLE_DEVICES= hides every device"),
        ("linux", "-1", "cuda:0", "is not there; CUDA_VISIBLE_DEVICES=-1 hides every device"),
    ],
)
def test_a_device_that_cannot_be_there_is_told_without_torch(
    folder, capsys, monkeypatch, platform, visible, device, says
):
    write_yaml(folder / "c.yaml", TINY_LM)
    monkeypatch.setattr("gpt2v.cli.running.sys.platform", platform)
    monkeypatch.setattr("gpt2v.hardware.device.hardware", None)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    words = ["lm", "train", "c.yaml", "--out", "run"]
    assert says in refusal(capsys, *words, "--device", device)
    assert not (folder / "run").exists()


def test_a_mistake_in_the_configuration_comes_first(folder, capsys):
    write_yaml(folder / "c.yaml", {**TINY_LM, "tilse": {}})
    said = refusal(capsys, "lm", "train", "c.yaml", "--device", "cuda:99")
    assert "c.yaml: tilse: unknown key" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "gpu"], "--device: must be cpu, cuda, cuda:NUMBER, mps or auto, not 'gpu'"),
        (["--device", "cuda:x"], "--device: must be "),
        (["--device="], "--device: must be "),
        (["--threads", "0"], "--threads: must be a number from 1 to 1024, not 0"),
        (["--threads", "many"], "--threads: must be a whole number, not 'many'"),
        (["--threads", "2", "--threads", "2"], "--threads: given twice"),
    ],
)
def test_options_that_mean_nothing(folder, capsys, options, says):
    write_yaml(folder / "c.yaml", TINY_LM)
    assert says in refusal(capsys, "lm", "train", "c.yaml", *options)


def test_results_tell_the_hardware_and_the_configuration_does_not(folder, lm_run, capsys):
    before = torch.get_num_threads()
    write_yaml(folder / "c.yaml", {**EVAL, "modalities": ["text"]})
    words = ["eval", str(lm_run), "--suite", "c.yaml", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--out", "e"]) == 0
    results = json.loads(Path("e/results.json").read_text())
    assert results["hardware"] == {"device": "cpu", "threads": 1}
    assert torch.get_num_threads() == before
    assert "threads" not in Path("e/config.yaml").read_text()
