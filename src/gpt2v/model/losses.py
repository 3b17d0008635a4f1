"""The loss of plain text.

Shapes: B samples of a batch, T token positions, D width of a hidden state.
"""

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, GPT2Model

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.hardware.device import to_device
from gpt2v.model.head import head_loss


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum of the cross-entropy in nats over all predicted tokens, from windows of (B, T + 1)."""
    ids = to_device(batch.tokens, lm.device)
    hidden_BTD = causal_hidden(lm.transformer, ids[:, :-1])
    return head_loss(hidden_BTD.flatten(0, 1), lm.lm_head.weight, ids[:, 1:].flatten())


def causal_hidden(gpt2: GPT2Model, ids_BT: Tensor) -> Tensor:
    """Final hidden states (B, T, D) of plain text; padding is on the right.

    transformers' own forward pass looks for padding and for packed documents, and waits for a card
    each time. Without its mask, attention is causal in all implementations but `eager`.
    """
    if gpt2.config._attn_implementation == "eager":
        hidden_BTD: Tensor = gpt2(input_ids=ids_BT, use_cache=False).last_hidden_state
        return hidden_BTD
    positions = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    hidden_BTD = gpt2.drop(gpt2.wte(ids_BT) + gpt2.wpe(positions))
    for block in gpt2.h:
        hidden_BTD = block(hidden_BTD)
    hidden_BTD = gpt2.ln_f(hidden_BTD)
    return hidden_BTD
