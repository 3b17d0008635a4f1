"""The vocabulary head and its loss, a few rows at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from gpt2v.hardware.onednn import product

_ROWS = 512  # whose logits stand in memory at once, at least
_CPU_CHUNK = 2**21  # logits that a CPU's caches hold
_CHUNK = 2**27  # elsewhere: few large kernels, half a gigabyte


def head_loss(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Sum of the cross-entropy of `hidden @ weight.T` in nats, a few rows at a time.

    All logits never stand in memory at once: the gradient is taken in the forward pass, while a
    chunk's are there. Equal to `cross_entropy` over all of them up to rounding.
    """
    needs_gradient = torch.is_grad_enabled() and (
        hidden_ND.requires_grad or weight_VD.requires_grad
    )
    total: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_ND, weight_VD, targets_N, needs_gradient
    )
    return total


class _HeadLoss(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, needs_gradient: bool
    ) -> Tensor:
        chunk = _CPU_CHUNK if hidden.device.type == "cpu" else _CHUNK
        rows = max(_ROWS, chunk // len(weight))
        total = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs_gradient else None
        d_weight_DV = torch.zeros_like(weight.mT) if needs_gradient else None
        for start in range(0, len(hidden), rows):
            part = hidden[start : start + rows]
            target = targets[start : start + rows, None]
            logits = product(part, weight.mT).float()
            p = logits.softmax(1)
            # The largest probability is at least 1 / V, so its logarithm is finite.
            log_sum = logits.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()
            total += (log_sum - logits.gather(1, target)).sum()
            if d_hidden is None or d_weight_DV is None:
                continue
            p.scatter_add_(1, target, torch.full_like(target, -1, dtype=p.dtype))
            d_logits = p.to(hidden.dtype)
            d_hidden[start : start + rows] = product(d_logits, weight)
            d_weight_DV += product(part.mT, d_logits)
        if d_weight_DV is not None:
            ctx.save_for_backward(d_hidden, d_weight_DV.mT.contiguous())
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * scale, d_weight * scale, None, None
