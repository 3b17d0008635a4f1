"""Number formats: what a device has, what is used instead, and that this is said once."""

import re
import warnings

import pytest
import torch

from gpt2v.hardware import precision
from gpt2v.hardware.precision import autocast, iteration_dtype, tf32_products, usable_precision

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


@pytest.fixture
def units(monkeypatch):
    """Sets what the CPU and the card of this machine have."""

    def set_units(cpu=(), major=8, name="Tesla T4"):
        precision._say_once.cache_clear()
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: dict.fromkeys(cpu, True), raising=False
        )
        bf16 = major >= 8
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: bf16)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: bf16)

    yield set_units
    precision._say_once.cache_clear()


@pytest.mark.parametrize(
    ("wanted", "device", "cpu", "major", "expected"),
    [
        ("fp32", CPU, (), 8, "fp32"),
        ("bf16", CPU, ("avx512_bf16",), 7, "bf16"),
        ("bf16", CPU, ("amx_bf16",), 7, "bf16"),
        ("bf16", CPU, ("avx512_fp16",), 8, "fp32"),
        ("fp16", CPU, ("avx512_bf16",), 8, "fp32"),
        ("fp16", CPU, ("fp16_arith",), 8, "fp16"),
        ("bf16", CUDA, (), 8, "bf16"),
        ("bf16", CUDA, ("avx512_bf16",), 7, "fp32"),
        ("fp16", CUDA, (), 7, "fp16"),
        ("bf16", MPS, (), 8, "bf16"),
        ("bf16", MPS, (), 7, "fp32"),
        ("fp16", MPS, (), 7, "fp16"),
    ],
)
def test_a_format_that_the_hardware_lacks_is_fp32_and_this_is_said(
    units, capsys, wanted, device, cpu, major, expected
):
    units(cpu, major)
    for _ in range(2):
        assert usable_precision(wanted, device) == expected
    said = capsys.readouterr().err.splitlines()
    assert len(said) == (wanted != expected)
    if said:
        assert said[0].startswith(f"gpt2v: train.precision: {wanted}: this ")
        assert f"has no {wanted} units, so the products are in fp32" in said[0]


@pytest.mark.parametrize(
    ("wanted", "device", "cpu", "says"),
    [
        ("bf16", CUDA, (), r"this GPU \(Tesla T4\) has no bf16 units, .* fp16 is faster"),
        ("bf16", CPU, (), "this CPU has no bf16 units, so the products are in fp32$"),
        ("fp16", CPU, ("avx512_bf16",), "this CPU has no fp16 units, .* bf16 is faster"),
    ],
)
def test_the_line_says_what_to_do(units, capsys, wanted, device, cpu, says):
    units(cpu, major=7)
    usable_precision(wanted, device)
    assert re.search(says, capsys.readouterr().err.strip())


def test_only_the_first_of_several_processes_says_it(units, capsys, monkeypatch):
    units(major=7)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert usable_precision("bf16", CUDA) == "fp32"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_computes_products_in_the_format(name, dtype):
    a = torch.ones(4, 4)
    with autocast(name, CPU):
        assert (a @ a).dtype == dtype
    assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "major", "expected"),
    [(CUDA, 8, torch.bfloat16), (CUDA, 7, torch.float32), (CPU, 8, torch.float32)],
)
def test_iterations_are_in_bf16_only_on_cards_that_have_it(units, device, major, expected):
    units(("avx512_bf16",), major)
    assert iteration_dtype(device) == expected


def settings():
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.fp32_precision == "tf32",
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.conv.fp32_precision == "tf32",
    )


@pytest.mark.parametrize("convolutions", [False, True])
def test_tf32_is_set_in_its_block_only(units, convolutions, capsys):
    """Also for what reads torch's older settings, as torch.compile does."""
    units(major=8)
    torch.backends.cudnn.allow_tf32 = convolutions
    try:
        before = settings()
        with tf32_products(True, CUDA):
            assert settings() == ("high", True, True, True)
            assert precision.in_tf32()
        with pytest.raises(KeyError), tf32_products(True, CUDA):
            raise KeyError
        assert settings() == before == ("highest", False, convolutions, convolutions)
        with tf32_products(False, CUDA):
            assert settings() == before
    finally:
        torch.backends.cudnn.allow_tf32 = True
    assert capsys.readouterr().err == ""


def test_warnings_of_torch_about_its_settings_are_not_shown(monkeypatch):
    """torch 2.9 warns about what torch.compile needs."""
    said = "Please use the new API settings to control TF32 behavior"
    monkeypatch.setattr(
        torch, "set_float32_matmul_precision", lambda _: warnings.warn(said, stacklevel=1)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        precision.set_tf32(False, True)


@pytest.mark.parametrize(("device", "named"), [(CUDA, "GPU (Tesla T4)"), (CPU, "CPU")])
def test_tf32_that_the_device_lacks_is_said(units, capsys, device, named):
    units(major=7)
    before = settings()
    with tf32_products(True, device):
        assert settings() == before
    assert capsys.readouterr().err == (
        f"gpt2v: train.tf32: this {named} has no TF32, so products are in fp32\n"
    )


def test_a_torch_that_cannot_tell_says_so(capsys, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert usable_precision("bf16", CPU) == "fp32"
    said = capsys.readouterr().err
    assert "cannot tell whether this CPU has bf16 units, so the products are in fp32" in said
