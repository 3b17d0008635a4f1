"""The loss of plain text.

Shapes: B samples of a batch, T token positions.
"""

from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.hardware.device import to_device
from gpt2v.model.head import head_loss


def window_loss(lm: GPT2LMHeadModel, batch: TextBatch) -> Tensor:
    """Sum of the cross-entropy in nats over all predicted tokens, from windows of (B, T + 1)."""
    ids = to_device(batch.tokens, lm.device)
    # Given token ids, transformers looks for padding in them, which waits for a card.
    embeds = lm.transformer.wte(ids[:, :-1])
    hidden = lm.transformer(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return head_loss(hidden.flatten(0, 1), lm.lm_head.weight, ids[:, 1:].flatten())
