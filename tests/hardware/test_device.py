"""Devices: all parts of a model use the same attention, which affects nothing but speed."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.errors import UserError
from gpt2v.hardware import device as devices
from gpt2v.hardware.attention import WRITTEN_OUT
from gpt2v.model.packed import Reader


def attention(model):
    parts = (model, model.vision_tower, model.language_model)
    return {part.config._attn_implementation for part in parts}


@pytest.mark.parametrize(("device", "expected"), [("cpu", WRITTEN_OUT), ("meta", "sdpa")])
def test_placing_sets_the_attention_of_every_part(gpt2v, monkeypatch, device, expected):
    monkeypatch.setattr(devices, "chosen_device", lambda: torch.device(device))
    model = devices.place(copy.deepcopy(gpt2v))
    assert attention(model) == {expected}
    assert {p.device.type for p in model.parameters()} == {device}


@pytest.mark.parametrize(
    ("device", "version", "right"),
    [
        ("mps", "2.9.1", False),
        ("mps", "2.12.1+cpu", False),
        ("mps", "2.13.0a0+git0123abc", True),
        ("mps", "3.0", True),
        ("cuda", "2.9.0+cu128", True),
        ("cpu", "2.9.0", True),
    ],
)
def test_fused_attention_is_left_out_where_it_is_wrong(gpt2v, monkeypatch, device, version, right):
    assert devices.has_right_attention(device, version) == right
    if device == "cpu":
        return
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(devices, "chosen_device", lambda: torch.device(device))
    monkeypatch.setattr(type(gpt2v), "to", lambda model, device: model)  # it is not there
    assert attention(devices.place(copy.deepcopy(gpt2v))) == {"sdpa" if right else "eager"}


def test_all_types_of_attention_give_the_same_logits(gpt2v, bank, table):
    model = copy.deepcopy(gpt2v)
    spec = GridConfig(rows=2, cols=2, modality="image")
    samples = draw_samples(spec, bank, 0, "test", np.arange(3))
    render = Renderer(bank, table, model.token_geometry)
    batch = render(samples, render.view(spec, "image"))
    logits = []
    for kind in ("eager", "sdpa", WRITTEN_OUT):
        model.set_attn_implementation(kind)
        with torch.no_grad():
            logits.append(Reader.of(model)(batch)[0])
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-4, atol=1e-4)


def test_a_checkpoint_does_not_fix_the_attention(lm, tmp_path):
    model = devices.place(copy.deepcopy(lm))
    model.save_pretrained(tmp_path)
    assert "attn_implementation" not in (tmp_path / "config.json").read_text()


# ---- the user's choice -------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch):
    """Torch says that there are two CUDA devices; returns those that were made the current one."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(str(device)))
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    return current


@pytest.mark.parametrize(
    ("name", "expected"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")]
)
def test_a_device_is_chosen_in_its_block_only(two_gpus, name, expected):
    with devices.hardware(name):
        assert str(devices.chosen_device()) == expected
        with devices.hardware("cpu"):
            assert str(devices.chosen_device()) == "cpu"
    assert str(devices.chosen_device()) == "cuda"
    assert two_gpus == (["cuda:1"] if name == "cuda:1" else [])


@pytest.mark.parametrize("name", ["cuda:2", "mps"])
def test_a_device_that_is_not_there_is_refused_and_the_others_are_named(two_gpus, name):
    says = f"^--device: {name}: is not there; this machine has cpu, cuda, cuda:0, cuda:1$"
    with pytest.raises(UserError, match=says), devices.hardware(name):
        pytest.fail("ran without its device")


def test_one_device_is_too_few_for_several_processes(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"--device: cuda:0: several processes"):
        devices.hardware("cuda:0").__enter__()
    with devices.hardware("cuda"):
        assert str(devices.chosen_device()) == "cuda"


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_more_processes_than_devices_are_refused_in_each_of_them(two_gpus, monkeypatch, device):
    """Before one of them meets an error of CUDA."""
    for rank in "012":
        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
        monkeypatch.setenv("LOCAL_RANK", rank)
        says = r"^--device: cuda: 3 processes .* it has 2; choose --nproc-per-node 2, or --device"
        with pytest.raises(UserError, match=says):
            devices.hardware(device).__enter__()
    with devices.hardware("cpu"):
        pass
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of three, on two machines
    with devices.hardware(device):
        assert str(devices.chosen_device()) == "cuda"


def test_several_processes_are_refused_on_mps(monkeypatch):
    """gloo, with which they would exchange gradients, does not know it."""
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps")
    )
    with devices.hardware("auto"):
        assert str(devices.chosen_device()) == "mps"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--device: mps: is for one process"):
        devices.hardware("auto").__enter__()


@pytest.mark.parametrize(
    ("cuda", "note"), [(None, r" \(.* built without CUDA\)$"), ("12.8", "cpu$")]
)
def test_a_torch_without_cuda_is_named(monkeypatch, cuda, note):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(UserError, match=f"--device: cuda: is not there; this machine has .*{note}"):
        devices.hardware("cuda").__enter__()


def kernels():
    return torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn.allow_tf32


def test_attention_by_cudnn_and_convolutions_in_tf32_are_off_on_cards(lm, monkeypatch):
    """In the block of `hardware`; models on a CPU change nothing."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.backends.cuda.enable_cudnn_sdp(True)
    before = kernels()
    assert before == (True, True)
    with devices.hardware("cpu"):
        devices.place(copy.deepcopy(lm))
        assert kernels() == before
    monkeypatch.setattr(devices, "chosen_device", lambda: torch.device("cuda"))
    model = copy.deepcopy(lm)
    monkeypatch.setattr(model, "to", lambda device: model)
    with devices.hardware():
        devices.place(model)
        assert kernels() == (False, False)
    assert kernels() == before


def test_threads_are_set_in_the_block_only():
    before = torch.get_num_threads()
    with devices.hardware("cpu", before + 1):
        assert devices.hardware_facts() == {"device": "cpu", "threads": before + 1}
    assert torch.get_num_threads() == before
    with devices.hardware():
        assert torch.get_num_threads() == before


def test_models_are_placed_on_the_chosen_device(lm, two_gpus):
    with devices.hardware("cpu"):
        assert devices.place(copy.deepcopy(lm)).device.type == "cpu"


def test_whether_a_device_is_there_is_told_without_importing_transformers():
    code = "import sys, gpt2v.hardware.device; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
