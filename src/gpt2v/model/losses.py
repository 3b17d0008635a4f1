"""Losses of the language model: the head's cross-entropy in chunks, and the loss of plain text.

Shapes: B samples of a batch, T token positions, D width of a hidden state, V words of the
vocabulary, Y positions that are read (whose next token is predicted).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function
from transformers import GPT2LMHeadModel

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.hardware.onednn import product

_ROWS = 512  # minimum number of positions in a chunk
_CPU_CHUNK = 2**21  # logits in a chunk on a CPU: they fit into its caches
_CHUNK = 2**27  # on other devices: few large kernels, half a gigabyte


def head_loss(hidden_YD: Tensor, weight_VD: Tensor, targets_Y: Tensor) -> Tensor:
    """Sum of the cross-entropy of the logits `hidden @ weight.T` in nats, computed in chunks.

    Memory never holds all logits at once: the forward pass also computes the gradient, chunk by
    chunk. The result equals `cross_entropy` over all logits, up to rounding.
    """
    needs_gradient = torch.is_grad_enabled() and (
        hidden_YD.requires_grad or weight_VD.requires_grad
    )
    total: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_YD, weight_VD, targets_Y, needs_gradient
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


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum of the cross-entropy in nats over all predicted tokens, from windows of (B, T + 1)."""
    ids = torch.from_numpy(batch.tokens).to(lm.device)
    hidden = lm.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return head_loss(hidden.flatten(0, 1), lm.lm_head.weight, ids[:, 1:].flatten())
