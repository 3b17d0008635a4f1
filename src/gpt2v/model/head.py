"""The vocabulary head in chunks: the loss of its logits, and what is read from them.

Memory never holds the logits of all positions at once.

Shapes: D width of a hidden state, V words of the vocabulary, Y positions that are read (whose next
token is predicted).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import Function
from transformers import GPT2LMHeadModel

from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.hardware.device import to_device
from gpt2v.hardware.onednn import product
from gpt2v.hardware.precision import computed_in

_ROWS = 512  # minimum number of positions in a chunk
_CPU_CHUNK = 2**21  # logits in a chunk on a CPU: they fit into its caches
_CHUNK = 2**27  # on other devices: few large kernels, half a gigabyte
_FP16_CHUNK = 256  # positions: a sum over more could leave the range of fp16
_MULTIPLE = 64  # of the vocabulary in products on cards, whose fast kernels need aligned rows


def head_loss(hidden_YD: Tensor, weight_VD: Tensor, targets_Y: Tensor) -> Tensor:
    """Sum of the cross-entropy of the logits `hidden @ weight.T` in nats.

    The forward pass also computes the gradient, chunk by chunk. The result equals `cross_entropy`
    over all logits, up to rounding.
    """
    wanted = [x.requires_grad and torch.is_grad_enabled() for x in (hidden_YD, weight_VD)]
    total: Tensor = _HeadLoss.apply(  # type: ignore[no-untyped-call]
        hidden_YD, weight_VD, targets_Y, wanted, computed_in(hidden_YD)
    )
    return total


class _HeadLoss(Function):
    """Products in `dtype`, everything between them in fp32; weight and hidden are cast once."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        wanted: list[bool],  # gradients: of hidden, of weight
        dtype: torch.dtype,
    ) -> Tensor:
        n_words = len(weight)
        rows = _FP16_CHUNK if dtype == torch.float16 else _rows(hidden, n_words)
        total = torch.zeros((), device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        with torch.autocast(hidden.device.type, enabled=False):
            inputs, words_VD = hidden.to(dtype), _aligned(weight.to(dtype))
            d_weight_DV = torch.zeros_like(words_VD.mT, dtype=weight.dtype) if wanted[1] else None
            for start in range(0, len(hidden), rows):
                part = inputs[start : start + rows]
                target = targets[start : start + rows, None]
                logits = product(part, words_VD.mT)
                logits[:, n_words:] = -torch.inf
                p = logits.softmax(1, dtype=torch.float32)
                # The largest probability is at least 1 / V, so its logarithm is finite.
                log_sum = logits.amax(1, keepdim=True).float() - p.amax(1, keepdim=True).log()
                total += (log_sum - logits.gather(1, target).float()).sum()
                if not any(wanted):
                    continue
                p.scatter_add_(1, target, torch.full_like(target, -1, dtype=p.dtype))
                d_logits = p.to(dtype)
                if d_hidden is not None:
                    d_hidden[start : start + rows] = product(d_logits, words_VD)
                if d_weight_DV is not None:
                    d_weight_DV += product(part.mT, d_logits)
        d_weight = None if d_weight_DV is None else d_weight_DV.mT[:n_words].contiguous()
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [d if d is None else d * scale for d in ctx.saved_tensors]
        return *gradients, None, None, None


def _rows(hidden_YD: Tensor, n_words: int) -> int:
    """Number of positions in a chunk."""
    return max(_ROWS, (_CPU_CHUNK if hidden_YD.device.type == "cpu" else _CHUNK) // n_words)


def _aligned(weight_VD: Tensor) -> Tensor:
    """On a card, the weight with rows of zeros up to a multiple of 64 words."""
    missing = -len(weight_VD) % _MULTIPLE
    if weight_VD.device.type == "cpu" or not missing:
        return weight_VD
    return F.pad(weight_VD, (0, 0, 0, missing))


@dataclass(frozen=True)
class HeadReadings:
    """What is read from the logits."""

    likeliest: Ints  # (Y,) token
    finite: NDArray[np.bool_]  # (Y,) whether all of the logits are
    logp: NDArray[np.float32]  # (n_asked,) log-probabilities in nats

    def check(self, sample: Ints) -> None:
        """Refuse logits that are not finite: the likeliest of them is no answer of the model.

        Args:
            sample: (Y,) number of the sample of each position.

        Raises:
            UserError: some are not; names the first such sample.
        """
        if not self.finite.all():
            raise UserError(
                f"model: its logits for sample {int(sample[~self.finite][0])} are NaN or infinite, "
                "so it has no answer; its weights are too large, or its training has diverged"
            )


def read_head(lm: GPT2LMHeadModel, hidden_YD: Tensor, at: Ints, tokens: Ints) -> HeadReadings:
    """Read the likeliest token everywhere, and the log-probability of some tokens.

    Args:
        at: (n_asked,) indices into Y.
        tokens: (n_asked,) the token whose log-probability is read there.
    """
    order = np.argsort(at, kind="stable")
    rows = _rows(hidden_YD, lm.config.vocab_size)
    likeliest, finite, logp = [], [], []
    for start in range(0, len(hidden_YD), rows):
        logits = lm.lm_head(hidden_YD[start : start + rows])
        finite.append(logits.isfinite().all(-1))
        logp_YV = logits.float().log_softmax(-1)
        likeliest.append(logp_YV.argmax(-1))
        first, end = np.searchsorted(at[order], (start, start + rows))
        asked = order[first:end]
        row, word = (to_device(a, logp_YV.device) for a in (at[asked] - start, tokens[asked]))
        logp.append(logp_YV[row, word])
    sorted_logp = _joined(logp).astype(np.float32)
    values = np.empty(len(at), np.float32)
    values[order] = sorted_logp
    return HeadReadings(_joined(likeliest).astype(np.int64), _joined(finite).astype(bool), values)


def token_logprobs(lm: GPT2LMHeadModel, hidden_YD: Tensor, tokens: Ints) -> NDArray[np.float32]:
    """The log-probability of one token at each position in nats, (Y,).

    Args:
        tokens: (Y,) the token at each position.

    Returns:
        NaN or infinity, if a logit is so.
    """
    rows = _rows(hidden_YD, lm.config.vocab_size)
    found = []
    for start in range(0, len(hidden_YD), rows):
        logits_YV = lm.lm_head(hidden_YD[start : start + rows]).float()
        token = to_device(tokens[start : start + rows, None], logits_YV.device)
        found.append(logits_YV.gather(1, token)[:, 0] - logits_YV.logsumexp(1))
    return _joined(found).astype(np.float32)


def _joined(parts: list[Tensor]) -> NDArray[Any]:
    array: NDArray[Any] = torch.cat(parts).cpu().numpy() if parts else np.empty(0)
    return array
