"""How fast a device multiplies matrices at best: as measured here, and as published."""

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gpt2v.hardware.onednn import product

# Sides of the square matrices whose product is timed. A card is busy only with large ones; of
# those that fit into its memory the largest are taken.
_SIDES = {"cuda": (8192, 4096, 2048), "mps": (4096, 2048)}
_SIDES_ELSEWHERE = (1536,)

# Name of a card -> dense TFLOP/s in fp32, in TF32, and in fp16 or bf16 (accumulated in fp32).
_PUBLISHED: dict[str, tuple[float, float | None, float]] = {
    "NVIDIA H(100 80GB HBM3|200)": (67, 494.7, 989.4),
    "NVIDIA H100 PCIe": (51, 378, 756),
    "NVIDIA A100[- ]((SXM4|PCIE)-[48]0GB|80GB PCIe)": (19.5, 156, 312),
    "NVIDIA L4": (30.3, 60, 121),
    "NVIDIA L40S": (91.6, 183, 362),
    "NVIDIA A10G": (35, 35, 70),
    "Tesla T4": (8.1, None, 65),
    "Tesla V100-SXM2-(16|32)GB": (15.7, None, 125),
    "Tesla V100-PCIE-(16|32)GB": (14, None, 112),
    "NVIDIA GeForce RTX 3090": (35.6, 35.6, 71),
    "NVIDIA GeForce RTX 4090": (82.6, 82.6, 165.2),
    "NVIDIA GeForce RTX 5090": (104.8, 104.8, 209.5),
}


def published_peak(device: torch.device, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """Floating-point operations per second of dense products, as NVIDIA publishes them.

    The figures are those of the data sheets and architecture white papers of the cards (halved
    where they are given for sparse matrices): https://www.nvidia.com/en-us/data-center/h100/,
    .../h200/, .../a100/, .../l4/, .../l40s/, .../tesla-t4/, .../v100/, those of the A10G by AWS,
    and the white papers "GA102", "Ada" and "RTX Blackwell" of GeForce cards.

    Args:
        tf32: fp32 products are in TF32.

    Returns:
        None for another device, a part of a card (MIG), or a format that the card lacks.
    """
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    for pattern, (fp32, in_tf32, half) in _PUBLISHED.items():
        if re.fullmatch(pattern, name):
            if dtype == torch.bfloat16 and in_tf32 is None:  # older than Ampere: neither of them
                return None
            tflops = half if dtype != torch.float32 else in_tf32 if tf32 else fp32
            return None if tflops is None else tflops * 1e12
    return None


@functools.cache
def matmul_peak(
    device: torch.device, dtype: torch.dtype, tf32: bool = False, repetitions: int = 3
) -> float:
    """Floating-point operations per second of a large matrix product, the best of several.

    Measured once per process, because it takes longer than some small trainings on a CPU. The
    memory that it takes on a card is given back, and does not count in the peak of memory.

    Args:
        tf32: whether fp32 products are in TF32 now.
    """
    sides = _SIDES.get(device.type, _SIDES_ELSEWHERE)
    try:
        for side in sides:
            try:
                return _measured(device, dtype, side, repetitions)
            except torch.OutOfMemoryError:
                if side == sides[-1]:
                    raise
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
    raise AssertionError("there is a side")


def _measured(device: torch.device, dtype: torch.dtype, side: int, repetitions: int) -> float:
    generator = torch.Generator(device).manual_seed(0)  # the global one is the training's
    # Random values: constant ones need less power, so that a card computes faster than it will.
    a = torch.randn(side, side, device=device, generator=generator).to(dtype)
    multiplications = (product, torch.mm) if device.type == "cpu" else (torch.mm,)
    seconds = [
        _seconds(multiply, a) for multiply in multiplications for _ in range(repetitions + 1)
    ]
    return 2 * side**3 / min(seconds)  # the first ones warm up


def _seconds(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor) -> float:
    """Time of one product, on the device's own clock if it has one."""
    if a.device.type == "cuda":
        event: Any = torch.cuda.Event  # has no types
        begin, end = event(enable_timing=True), event(enable_timing=True)
        begin.record()
        multiply(a, a)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
    started = time.perf_counter()
    float(multiply(a, a)[0, 0])  # waits for the device
    return time.perf_counter() - started
