"""Number formats of matrix products: which of them the hardware has, and which is used."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from gpt2v.messages import say_from_first

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 natively; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return _cpu_has("avx512_bf16", "amx_bf16", "bf16")
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return True


def computed_in(x: Tensor) -> torch.dtype:
    """The number format of products with `x`: that of autocast, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def has_fp16(device: torch.device) -> bool:
    """Whether the device computes in fp16 natively."""
    return device.type != "cpu" or _cpu_has("avx512_fp16", "amx_fp16", "fp16_arith")


def has_tf32(device: torch.device) -> bool:
    """Whether the device can compute fp32 products in TF32 (NVIDIA cards from Ampere on)."""
    return device.type == "cuda" and torch.cuda.is_tf32_supported()


def _cpu_has(*units: str) -> bool:
    find = getattr(torch.cpu, "get_capabilities", None)  # missing in the oldest supported torch
    there: dict[str, object] = find() if find else {}
    return any(there.get(unit) for unit in units)


def usable_precision(wanted: Precision, device: torch.device) -> Precision:
    """The format that `train.precision` means on a device: fp32 if the device lacks the other.

    A line on stderr says so, once in a process.
    """
    has = {"fp32": True, "bf16": has_bf16(device), "fp16": has_fp16(device)}
    if has[wanted]:
        return wanted
    other = "fp16" if wanted == "bf16" else "bf16"
    advice = f"; here, train.precision: {other} is faster" if has[other] else ""
    lacks = f"this {_named(device)} has no {wanted} units"
    if device.type == "cpu" and not hasattr(torch.cpu, "get_capabilities"):
        lacks = f"torch {torch.__version__} cannot tell whether this CPU has {wanted} units"
    _say_once(f"train.precision: {wanted}: {lacks}, so the products are in fp32{advice}")
    return "fp32"


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The block computes matrix products in this format, where torch's autocast does."""
    on = precision != "fp32"
    return torch.autocast(device.type, DTYPES[precision] if on else torch.bfloat16, enabled=on)


def iteration_dtype(device: torch.device) -> torch.dtype:
    """The format for an iteration that needs few digits, such as Muon's: bf16, or fp32.

    Emulated bf16 is slower. A CPU computes in fp32 even if it has bf16 units, which take a quarter
    to a half of the time: the same training should give the same weights on most CPUs.
    """
    return torch.bfloat16 if device.type != "cpu" and has_bf16(device) else torch.float32


def in_tf32() -> bool:
    """Whether fp32 products on cards are in TF32 now."""
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def convolutions_in_tf32() -> bool:
    """Whether fp32 convolutions on cards are in TF32 now; torch allows it by itself."""
    return bool(torch.backends.cudnn.conv.fp32_precision == "tf32")  # type: ignore[attr-defined]


def set_tf32(products: bool, convolutions: bool) -> None:
    """From now on, fp32 products and convolutions on cards are in TF32, or are not.

    These are torch's older settings, because torch.compile fails after the newer ones
    (`fp32_precision`) are set, from torch 2.9 to at least 2.13. 2.9 warns about the older ones.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*TF32")
        torch.set_float32_matmul_precision("high" if products else "highest")
        torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def tf32_products(wanted: bool, device: torch.device) -> Iterator[None]:
    """If it is wanted and the device has it, fp32 products are in TF32 in the block.

    TF32 has the range of fp32 and 10 bits of mantissa. A line on stderr says if the device lacks
    it.
    """
    if wanted and not has_tf32(device):
        _say_once(f"train.tf32: this {_named(device)} has no TF32, so products are in fp32")
    if not (wanted and has_tf32(device)):
        yield
        return
    before = in_tf32(), convolutions_in_tf32()
    set_tf32(True, True)
    try:
        yield
    finally:
        set_tf32(*before)


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return f"GPU ({torch.cuda.get_device_name(device)})"
    return "CPU" if device.type == "cpu" else f"device ({device})"


@functools.cache
def _say_once(text: str) -> None:
    say_from_first(text)
