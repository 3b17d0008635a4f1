"""The device that a model runs on, and the attention implementation that is fastest there."""

from typing import TypeVar

import torch
from transformers import PreTrainedModel

from gpt2v.hardware.onednn import use_onednn

M = TypeVar("M", bound=PreTrainedModel)


def best_device() -> torch.device:
    """CUDA or MPS if available, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def place(model: M, fused_attention: bool = False) -> M:
    """Move the model to the best device and return it.

    On a CPU, attention is computed as separate matrix products unless `fused_attention` is set. For
    the few hundred tokens of a picture or a grid, with our own masks, the backward pass of torch's
    fused attention takes several times as long there. Plain causal attention is a little faster
    with it.
    """
    device = best_device()
    eager = device.type == "cpu" and not fused_attention
    model.set_attn_implementation("eager" if eager else "sdpa")
    if device.type == "cpu":
        use_onednn(model)
    moved: M = model.to(device)
    return moved
