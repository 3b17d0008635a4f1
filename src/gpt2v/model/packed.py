"""The packed forward pass: many questions about one grid in one sequence, one prefix. A `Reader`
makes it: a GPT-2 by itself, or a GPT-2v with what stands at its image positions.

Attention follows the batch's segment tree through a 4-D additive float mask (transformers' eager
attention is silently wrong with boolean ones). The vocabulary head runs only at positions whose
next token is read, and so does the last block: of all others it needs the keys and values alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from gpt2v.data.render.batches import IGNORE, Batch
from gpt2v.hardware.onednn import affine
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.head import head_loss
from gpt2v.model.vision_tokens import Picture, VisionTokenSource


@dataclass(frozen=True)
class Packed:
    """What of a Batch the language model needs, on its device."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    mask: Tensor  # (B or 1, 1, T, T) additive; batch 1 where all rows are laid out alike
    read: Tensor  # (B, T) bool: the last block and the head run here
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


def read_hidden(lm: GPT2LMHeadModel, packed: Packed, embeds_BTD: Tensor | None = None) -> Tensor:
    """Final hidden states (n_read, D) at the positions that are read, from the token ids or from
    given input embeddings.
    """
    gpt2 = lm.transformer
    if embeds_BTD is None:
        embeds_BTD = gpt2.wte(packed.input_ids)
    hidden_BTD = gpt2.drop(embeds_BTD + gpt2.wpe(packed.position_ids))
    mask = packed.mask.expand(len(hidden_BTD), -1, -1, -1)
    *blocks, last = gpt2.h
    for block in blocks:
        hidden_BTD = block(hidden_BTD, attention_mask=mask)
    hidden_RD: Tensor = gpt2.ln_f(_read_block(last, hidden_BTD, mask, packed.read))
    return hidden_RD


def _read_block(block: GPT2Block, hidden_BTD: Tensor, mask: Tensor, read_BT: Tensor) -> Tensor:
    """What the block gives (n_read, D) at the positions that are read; their queries see the keys
    and values of all.
    """
    attention = block.attn
    *shape, width = hidden_BTD.shape
    weight, bias = attention.c_attn.weight[:, width:], attention.c_attn.bias[width:]
    pairs = affine(block.ln_1(hidden_BTD), weight, bias).view(*shape, 2, -1, attention.head_dim)
    everywhere = _Everywhere(*pairs.permute(2, 0, 3, 1, 4))
    # Rows in which less is read than in the fullest are filled up with positions that are not.
    most = max(1, int(read_BT.sum(1).max()))
    at_BR = read_BT.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    rows_B1 = torch.arange(len(at_BR), device=at_BR.device)[:, None]
    seen_B1RT = mask[:, 0][rows_B1, at_BR][:, None]
    given_BRD: Tensor = block(hidden_BTD[rows_B1, at_BR], everywhere, attention_mask=seen_B1RT)
    return given_BRD[read_BT[rows_B1, at_BR]]


class _Everywhere:
    """As a cache to transformers: keys and values of all positions, whatever the block is given."""

    def __init__(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> None:
        self.found = keys_BHTE, values_BHTE

    def update(self, *own: Any, **options: Any) -> tuple[Tensor, Tensor]:
        return self.found


def answer_loss(lm: GPT2LMHeadModel, hidden_RD: Tensor, packed: Packed) -> Tensor:
    """Sum over supervised tokens of the cross-entropy in nats, from what `read_hidden` gave."""
    supervised = packed.targets != IGNORE
    return head_loss(hidden_RD[supervised], lm.lm_head.weight, packed.targets[supervised])


@dataclass(frozen=True)
class Reader:
    """Calls the language model on batches; image positions are filled by `source`."""

    lm: GPT2LMHeadModel
    image_id: int
    source: VisionTokenSource | None = None

    @classmethod
    def of(cls, model: GPT2vModel, picture: Picture | None = None) -> "Reader":
        """GPT-2v on pictures (as `picture` gives their features) and on text."""
        source = picture or Picture(model)
        return cls(model.language_model, model.config.image_token_id, source)

    @property
    def device(self) -> torch.device:
        found: torch.device = self.lm.device
        return found

    @property
    def n_positions(self) -> int:
        found: int = self.lm.config.n_positions
        return found

    def __call__(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Logits (n_read, V) where the batch is read, and the packed batch that they belong to."""
        hidden, packed = self.hidden(batch)
        logits: Tensor = self.lm.lm_head(hidden)
        return logits, packed

    def hidden(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Final hidden states (n_read, D) where the batch is read, and the packed batch."""
        packed = pack(batch, self.device)
        is_image = packed.input_ids == self.image_id
        if not is_image.any():
            return read_hidden(self.lm, packed), packed
        assert self.source is not None, "this batch has image positions, but no source for them"
        # A neutral id below the placeholders: their own embedding never takes part.
        words = self.lm.get_input_embeddings()(packed.input_ids.masked_fill(is_image, 0))
        tokens = self.source(batch).to(words.dtype)
        embeds = words.masked_scatter(is_image[..., None], tokens)
        return read_hidden(self.lm, packed, embeds), packed
