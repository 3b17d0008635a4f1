"""NaN and infinity are refused by name: every number made from them would be wrong."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gpt2v.errors import UserError

# Advice for numbers that a forward pass gives with finite weights.
OVERFLOW = "its weights are too large, or its training has diverged"


def check_finite(tensors: Mapping[str, Tensor], where: str, advice: str) -> None:
    """Refuse values that are not finite.

    Args:
        tensors: by name; those that hold no floating-point numbers are not checked.
        where: begins the message.
        advice: ends it.

    Raises:
        UserError: names the first tensor with such a value.
    """
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floats:
        return
    # One answer for all of them: a card is waited for once.
    finite = torch.stack([tensor.isfinite().all() for tensor in floats.values()]).tolist()
    for name, is_finite in zip(floats, finite, strict=True):
        if not is_finite:
            raise UserError(f"{where}: {name} holds NaN or infinity; {advice}")
