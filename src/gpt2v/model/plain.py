"""The loss of plain text: every token of every window is predicted from those before it."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function
from transformers import GPT2LMHeadModel

from gpt2v.data.windows import TextBatch
from gpt2v.train.products import product

_CHUNK = {"cpu": 2**21}  # logits at a time: 8 MB in fp32, which a CPU's caches hold
_BIG_CHUNK = 2**27  # elsewhere: few large kernels, half a gigabyte


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum over all tokens of the cross-entropy in nats."""
    ids = torch.from_numpy(batch.tokens).to(lm.device)
    hidden = lm.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return head_loss(hidden.flatten(0, 1), lm.lm_head.weight, ids[:, 1:].flatten())


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
        rows = max(1, _CHUNK.get(hidden.device.type, _BIG_CHUNK) // len(weight))
        total = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(hidden) if needs_gradient else None
        d_weight = torch.zeros_like(weight) if needs_gradient else None
        for start in range(0, len(hidden), rows):
            part = hidden[start : start + rows]
            target = targets[start : start + rows, None]
            logits = product(part, weight.mT).float()
            log_sum = logits.logsumexp(1, keepdim=True)
            total += (log_sum - logits.gather(1, target)).sum()
            if d_hidden is None or d_weight is None:
                continue
            d_logits = logits.sub_(log_sum).exp_()  # probabilities
            d_logits.scatter_add_(1, target, torch.full_like(target, -1, dtype=d_logits.dtype))
            d_logits = d_logits.to(hidden.dtype)
            d_hidden[start : start + rows] = product(d_logits, weight)
            d_weight += product(d_logits.mT, part)
        if needs_gradient:
            ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * scale, d_weight * scale, None, None
