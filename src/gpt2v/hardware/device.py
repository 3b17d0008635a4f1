"""The device that models run on, and the attention implementation that is fastest there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2v.errors import UserError
from gpt2v.hardware.precision import convolutions_in_tf32, in_tf32, set_tf32

if TYPE_CHECKING:  # its import takes seconds; whether a device is there is told before
    from transformers import PreTrainedModel

M = TypeVar("M", bound="PreTrainedModel")

_chosen: ContextVar[torch.device | None] = ContextVar("_chosen", default=None)


@contextmanager
def hardware(device: str = "auto", threads: int | None = None) -> Iterator[None]:
    """Models of this block run on a device, and on a CPU with a number of threads.

    Args:
        device: cpu, cuda, cuda:NUMBER, mps, or auto for the best one.
        threads: none: as many as torch takes by itself (OMP_NUM_THREADS, or all cores).

    Raises:
        UserError: the device is not there, or not one for each process that torchrun started.
    """
    before, kernels = torch.get_num_threads(), _kernels()
    token = _chosen.set(None if device == "auto" else _found(device))
    try:
        _check_processes(chosen_device())
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        _chosen.reset(token)
        if _kernels() != kernels:
            _set_kernels(*kernels)
        if threads is not None:
            torch.set_num_threads(before)


def _found(name: str) -> torch.device:
    """The device with this name, which is there."""
    there = devices()
    if name not in there:
        has_cuda = "cuda" in there or torch.version.cuda or torch.version.hip
        lacks = name.startswith("cuda") and not has_cuda
        note = " (this torch was built without CUDA)" if lacks else ""
        raise UserError(
            f"--device: {name}: is not there; this machine has {', '.join(there)}{note}"
        )
    device = torch.device(name)
    if device.index is not None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(f"--device: {name}: several processes need one each; choose cuda")
        torch.cuda.set_device(device)
    return device


def _check_processes(device: torch.device) -> None:
    """Raise UserError if the processes that torchrun started cannot have a device each."""
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "mps" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--device: mps: is for one process; with several choose --device cpu")
    if device.type != "cuda" or n_here == 1:
        return
    n_devices = torch.cuda.device_count()
    if n_here > n_devices:
        raise UserError(
            f"--device: cuda: {n_here} processes on this machine need a device each, but it has "
            f"{n_devices}; choose --nproc-per-node {n_devices}, or --device cpu"
        )


def _kernels() -> tuple[bool, bool]:
    """Whether attention may use cuDNN, and whether cuDNN may use TF32 for fp32 convolutions."""
    attention = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    return attention, convolutions_in_tf32()


def _set_kernels(cudnn_attention: bool, tf32_convolutions: bool) -> None:
    torch.backends.cuda.enable_cudnn_sdp(cudnn_attention)
    set_tf32(in_tf32(), tf32_convolutions)


def devices() -> list[str]:
    """The names of the devices that are there."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def chosen_device() -> torch.device:
    """The device of `hardware`, or if that is auto: CUDA or MPS if available, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return _chosen.get() or accelerator or torch.device("cpu")


def hardware_facts() -> dict[str, Any]:
    """What results may depend on: the device, with its name, and the number of threads."""
    device = chosen_device()
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {"device": f"{device}{name}", "threads": torch.get_num_threads()}


def computes_alone(device: torch.device) -> bool:
    """Whether the processor is free for other work while the device computes."""
    return device.type != "cpu"


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; a card is not waited for, and later work there sees the copy.

    On a CPU it may share the array's memory.
    """
    tensor = torch.from_numpy(np.array(array) if not array.flags.writeable else array)
    if device.type in ("cpu", "mps"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def has_right_attention(device: str, version: str) -> bool:
    """Whether torch's fused attention is right there; on MPS it is silently not before torch 2.13.

    With few queries, as when answers are scored. transformers' own `eager` attention is right.

    Args:
        device: its type.
        version: of torch, e.g. `2.13.0+cpu`.
    """
    return device != "mps" or tuple(map(int, version.split(".")[:2])) >= (2, 13)


def place(model: M) -> M:
    """Move the model to the chosen device and return it; on a CPU, attention is written out.

    On a CUDA device, two settings of torch for the whole process are changed; `hardware` puts them
    back (outside of it, as in a notebook, they stay). Fused attention does not use cuDNN, which
    torch prefers on cards from Hopper on: it builds a plan for each new shape, in about half a
    second, and the lengths of grids differ. fp32 convolutions are not in TF32, which torch allows
    by itself: fp32 means fp32 (but see `train.tf32`).
    """
    device = chosen_device()
    if device.type == "cpu":
        from gpt2v.hardware.attention import WRITTEN_OUT  # imports transformers
        from gpt2v.hardware.onednn import use_onednn

        model.set_attn_implementation(WRITTEN_OUT)
        use_onednn(model)
    else:
        fused = has_right_attention(device.type, torch.__version__)
        model.set_attn_implementation("sdpa" if fused else "eager")
    if device.type == "cuda":
        _set_kernels(cudnn_attention=False, tf32_convolutions=False)
    moved: M = model.to(device)
    return moved
