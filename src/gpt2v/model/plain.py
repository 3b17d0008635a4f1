"""The loss of plain text: every token of every window is predicted from those before it."""

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2v.data.windows import TextBatch


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum over all tokens of the cross-entropy in nats."""
    ids = torch.from_numpy(batch.tokens).to(lm.device)
    hidden = lm.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = lm.lm_head(hidden).flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum")
