"""The device that models run on, and the attention implementation that is fastest there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gpt2v.errors import UserError

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
        UserError: the device is not there.
    """
    before = torch.get_num_threads()
    token = _chosen.set(None if device == "auto" else _found(device))
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        _chosen.reset(token)
        if threads is not None:
            torch.set_num_threads(before)


def _found(name: str) -> torch.device:
    """The device with this name, which is there."""
    there = devices()
    if name not in there:
        raise UserError(f"--device: {name}: is not there; this machine has {', '.join(there)}")
    device = torch.device(name)
    if device.index is not None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError(f"--device: {name}: several processes need one each; choose cuda")
        torch.cuda.set_device(device)
    return device


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


def has_right_attention(device: str, version: str) -> bool:
    """Whether torch's fused attention is right there; on MPS it is silently not before torch 2.13.

    With few queries, as when answers are scored. transformers' own `eager` attention is right.

    Args:
        device: its type.
        version: of torch, e.g. `2.13.0+cpu`.
    """
    return device != "mps" or tuple(map(int, version.split(".")[:2])) >= (2, 13)


def place(model: M) -> M:
    """Move the model to the chosen device and return it; on a CPU, attention is written out."""
    device = chosen_device()
    if device.type == "cpu":
        from gpt2v.hardware.attention import WRITTEN_OUT  # imports transformers
        from gpt2v.hardware.onednn import use_onednn

        model.set_attn_implementation(WRITTEN_OUT)
        use_onednn(model)
    else:
        fused = has_right_attention(device.type, torch.__version__)
        model.set_attn_implementation("sdpa" if fused else "eager")
    moved: M = model.to(device)
    return moved
