"""The loss of plain text: every token of every window is predicted from those before it."""

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.model.head import head_loss


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum over all tokens of the cross-entropy in nats."""
    ids = torch.from_numpy(batch.tokens).to(lm.device)
    hidden = lm.transformer(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return head_loss(hidden.flatten(0, 1), lm.lm_head.weight, ids[:, 1:].flatten())
