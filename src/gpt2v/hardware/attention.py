"""Attention written out as matrix products, for CPUs.

torch's fused attention has a backward pass that takes several times as long there, for the few
hundred tokens of a picture, a grid or a window. transformers' `eager` attention goes through the
scores more often, in bf16 in both number formats, and through the half that a causal mask hides.

Shapes: B samples of a batch, H attention heads, T token positions, E width of a head,
Y positions that are read (whose next token is predicted).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

WRITTEN_OUT = "gpt2v_written_out"  # its name for transformers
_ROWS = 128  # queries of a causal mask that are computed together; they skip later keys


def written_out(
    module: nn.Module,
    query_BHYE: Tensor,
    key_BHTE: Tensor,
    value_BHTE: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, as transformers calls it.

    Args:
        attention_mask: (B or 1, 1, Y, T), additive, or boolean (true: may attend); none: of each
            query all keys, or if the module is causal those up to its own position.
        scaling: of the scores; none: 1 / sqrt(E).

    Returns:
        (B, Y, H, E), and None in place of the weights.
    """
    scale = query_BHYE.shape[-1] ** -0.5 if scaling is None else scaling
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    n_queries, n_keys = query_BHYE.shape[2], key_BHTE.shape[2]
    causal = causal and attention_mask is None and n_queries > 1
    if causal and n_queries != n_keys:
        raise ValueError("several queries after a cache need a mask")
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        attention_mask = _additive(attention_mask, query_BHYE.dtype)
    if dropout:
        mask = _causal_mask(n_queries, query_BHYE) if causal else attention_mask
        output = _with_dropout(query_BHYE * scale, key_BHTE, value_BHTE, mask, dropout)
    else:
        output = _Attention.apply(  # type: ignore[no-untyped-call]
            query_BHYE, key_BHTE, value_BHTE, attention_mask, scale, causal
        )
    return output.transpose(1, 2), None


class _Attention(Function):
    """softmax(scale * Q K^T + mask) V, and its gradient, in the number format of the inputs."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, causal: bool
    ) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):  # it would convert to fp32 and back
            q, k, v = q * scale, k.contiguous(), v.contiguous()
            output, weights = torch.empty_like(q), []
            for rows, n_keys in _parts(q.shape[2], k.shape[2], causal):
                scores = q[:, :, rows] @ k[:, :, :n_keys].mT
                if causal:
                    scores[..., rows] += _causal_mask(rows.stop - rows.start, scores)
                elif mask is not None:
                    scores += mask
                weights.append(scores.softmax(-1))
                output[:, :, rows] = weights[-1] @ v[:, :, :n_keys]
        ctx.save_for_backward(q, k, v, *weights)
        ctx.scale, ctx.causal = scale, causal
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, *weights = ctx.saved_tensors  # q is scaled
        d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        d_output = d_output.contiguous()
        parts = _parts(q.shape[2], k.shape[2], ctx.causal)
        for (rows, n_keys), p in zip(parts, weights, strict=True):
            d_rows = d_output[:, :, rows]
            d_v[:, :, :n_keys] += p.mT @ d_rows
            d_p = d_rows @ v[:, :, :n_keys].mT
            d_scores = torch._softmax_backward_data(d_p, p, -1, p.dtype)
            torch.mul(d_scores @ k[:, :, :n_keys], ctx.scale, out=d_q[:, :, rows])
            d_k[:, :, :n_keys] += d_scores.mT @ q[:, :, rows]
        return d_q, d_k, d_v, None, None, None


def _parts(n_queries: int, n_keys: int, causal: bool) -> list[tuple[slice, int]]:
    """Runs of queries, each with the number of keys that it needs."""
    if not causal:
        return [(slice(0, n_queries), n_keys)]
    starts = range(0, n_queries, _ROWS)
    return [(slice(s, min(s + _ROWS, n_queries)), min(s + _ROWS, n_queries)) for s in starts]


def _causal_mask(length: int, like: Tensor) -> Tensor:
    """(length, length) additive, in the number format of `like`."""
    hidden = torch.finfo(like.dtype).min
    return torch.full((length, length), hidden, dtype=like.dtype, device=like.device).triu(1)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)


def _with_dropout(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: float) -> Tensor:
    scores = q @ k.mT
    weights = (scores if mask is None else scores + mask).softmax(-1).to(v.dtype)
    return F.dropout(weights, rate) @ v


AttentionInterface.register(WRITTEN_OUT, written_out)
AttentionMaskInterface.register(WRITTEN_OUT, sdpa_mask)
