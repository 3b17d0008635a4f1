"""Where a model runs, and the attention that is fastest there."""

from typing import TypeVar

import torch
from transformers import PreTrainedModel

M = TypeVar("M", bound=PreTrainedModel)


def best_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def place(model: M) -> M:
    """The model on the best device.

    On a CPU attention is written out as matrix products: at the few hundred tokens of a picture or
    a grid, the backward pass of torch's fused attention takes several times as long there.
    """
    device = best_device()
    model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    placed: M = model.to(device)
    return placed
