"""The packed forward pass: many questions about one grid in one sequence, one prefix.

Attention follows the batch's segment tree through a 4-D additive float mask (transformers' eager
attention is silently wrong with boolean ones). The vocabulary head runs only at positions whose
next token is read.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2v.data.batches import IGNORE, Batch
from gpt2v.model.head import head_loss


@dataclass(frozen=True)
class Packed:
    """What of a Batch the language model needs, on its device."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    mask: Tensor  # (B or 1, 1, T, T) additive; batch 1 where all rows are laid out alike
    read: Tensor  # (B, T) bool: the head runs here
    targets: Tensor  # (number of True in read,) the supervised token that follows, or IGNORE


def pack(batch: Batch, device: torch.device, dtype: torch.dtype = torch.float32) -> Packed:
    """Move a batch to the device.

    Read are the positions to the left of supervised tokens (an answer directly follows its
    question) and, where the batch has them, those that score its choices.
    """
    target = np.full(batch.labels.shape, IGNORE, np.int64)
    target[:, :-1] = batch.labels[:, 1:]
    read = target != IGNORE
    if batch.choices is not None:
        position = batch.choices.position
        read[np.arange(len(read))[:, None, None, None], position] = True
    read_BT = torch.from_numpy(read)
    return Packed(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        position_ids=torch.from_numpy(batch.position_ids).to(device),
        mask=attention_mask(batch, device, dtype),
        read=read_BT.to(device),
        targets=torch.from_numpy(target)[read_BT].to(device),
    )


def attention_mask(batch: Batch, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(B or 1, 1, T, T): 0 where a token may attend, the smallest float elsewhere."""
    segments = batch.segments
    if (segments == segments[0]).all():
        segments = segments[:1]
    segment_BT = torch.from_numpy(np.array(segments)).to(device)  # rows may share their memory
    sees = torch.from_numpy(batch.sees).to(device)
    real = segment_BT >= 0
    index = segment_BT.clamp(min=0)
    allowed = sees[index[:, :, None], index[:, None, :]] & real[:, None, :]
    length = segments.shape[1]
    allowed &= torch.ones(length, length, dtype=torch.bool, device=device).tril()
    allowed |= torch.eye(length, dtype=torch.bool, device=device)  # padding sees itself
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def hidden_states(lm: GPT2LMHeadModel, packed: Packed, embeds_BTD: Tensor | None = None) -> Tensor:
    """Final hidden states (B, T, D), from the token ids or from given input embeddings."""
    if embeds_BTD is None:
        embeds_BTD = lm.get_input_embeddings()(packed.input_ids)
    output = lm.transformer(
        inputs_embeds=embeds_BTD,
        position_ids=packed.position_ids,
        attention_mask=packed.mask.expand(len(embeds_BTD), -1, -1, -1),
        use_cache=False,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def read_hidden(lm: GPT2LMHeadModel, packed: Packed, embeds_BTD: Tensor | None = None) -> Tensor:
    """Final hidden states (n_read, D) at the positions that are read."""
    return hidden_states(lm, packed, embeds_BTD)[packed.read]


def read_logits(lm: GPT2LMHeadModel, packed: Packed, embeds_BTD: Tensor | None = None) -> Tensor:
    """Logits (n_read, V) at the positions that are read, and nowhere else."""
    logits: Tensor = lm.lm_head(read_hidden(lm, packed, embeds_BTD))
    return logits


def answer_loss(lm: GPT2LMHeadModel, hidden_RD: Tensor, packed: Packed) -> Tensor:
    """Sum over supervised tokens of the cross-entropy in nats, from what `read_hidden` gave."""
    supervised = packed.targets != IGNORE
    return head_loss(hidden_RD[supervised], lm.lm_head.weight, packed.targets[supervised])
