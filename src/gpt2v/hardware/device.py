"""Where a model runs, and the attention that is fastest there."""

from typing import TypeVar

import torch
from transformers import PreTrainedModel

from gpt2v.hardware.onednn import use_onednn

M = TypeVar("M", bound=PreTrainedModel)


def best_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def place(model: M, fused_attention: bool = False) -> M:
    """The model on the best device.

    On a CPU attention is written out as matrix products unless `fused_attention`: at the few
    hundred tokens of a picture or a grid, under masks of its own, the backward pass of torch's
    fused attention takes several times as long there. Plain causal attention is a little faster
    fused.
    """
    device = best_device()
    written_out = device.type == "cpu" and not fused_attention
    model.set_attn_implementation("eager" if written_out else "sdpa")
    if device.type == "cpu":
        use_onednn(model)
    placed: M = model.to(device)
    return placed
