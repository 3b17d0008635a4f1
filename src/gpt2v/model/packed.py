"""The packed forward pass: one sequence holds many questions about one grid after one prefix.

A `Reader` runs it with a GPT-2, or with a GPT-2v and the vision tokens for its image positions.

Attention follows the batch's segment tree, given as a 4-D additive float mask (with boolean masks
transformers' eager attention is wrong without an error). The last block and the vocabulary head run
only at positions that are read; from all other positions the last block needs only keys and values.

Shapes: B samples of a batch, T token positions, D width of a hidden state, V words of the
vocabulary, Y positions that are read (whose next token is predicted), H attention heads, E width of
a head.
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
from gpt2v.model.losses import head_loss
from gpt2v.model.vision_tokens import ProjectedPatches, VisionTokenSource


@dataclass(frozen=True)
class Packed:
    """The part of a Batch that the language model needs, on its device."""

    input_ids: Tensor  # (B, T)
    position_ids: Tensor  # (B, T)
    mask: Tensor  # (B or 1, 1, T, T) additive; 1 if all samples have the same segments
    read: Tensor  # (B, T) bool: True at positions that are read
    targets: Tensor  # (Y,) the supervised token that follows, or IGNORE


def pack(batch: Batch, device: torch.device, dtype: torch.dtype = torch.float32) -> Packed:
    """Move a batch to the device.

    The positions before supervised tokens are read (an answer directly follows its question). If
    the batch has choices, the positions that score them are read, too.
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
    segment_BT = torch.from_numpy(np.array(segments)).to(device)  # samples may share their memory
    sees = torch.from_numpy(batch.sees).to(device)
    real = segment_BT >= 0
    index = segment_BT.clamp(min=0)
    allowed = sees[index[:, :, None], index[:, None, :]] & real[:, None, :]
    length = segments.shape[1]
    allowed &= torch.ones(length, length, dtype=torch.bool, device=device).tril()
    allowed |= torch.eye(length, dtype=torch.bool, device=device)  # padding attends to itself
    mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def read_hidden(lm: GPT2LMHeadModel, packed: Packed, embeds_BTD: Tensor | None = None) -> Tensor:
    """Final hidden states (Y, D) at the positions that are read.

    Args:
        embeds_BTD: input embeddings; without them, those of the token ids.
    """
    gpt2 = lm.transformer
    if embeds_BTD is None:
        embeds_BTD = gpt2.wte(packed.input_ids)
    hidden_BTD = gpt2.drop(embeds_BTD + gpt2.wpe(packed.position_ids))
    mask = packed.mask.expand(len(hidden_BTD), -1, -1, -1)
    *blocks, last = gpt2.h
    for block in blocks:
        hidden_BTD = block(hidden_BTD, attention_mask=mask)
    hidden_YD: Tensor = gpt2.ln_f(_read_block(last, hidden_BTD, mask, packed.read))
    return hidden_YD


def _read_block(block: GPT2Block, hidden_BTD: Tensor, mask: Tensor, read_BT: Tensor) -> Tensor:
    """Output of the block (Y, D) at the positions that are read.

    Their queries attend to the keys and values of all positions.
    """
    attention = block.attn
    *shape, width = hidden_BTD.shape
    weight, bias = attention.c_attn.weight[:, width:], attention.c_attn.bias[width:]
    pairs = affine(block.ln_1(hidden_BTD), weight, bias).view(*shape, 2, -1, attention.head_dim)
    cache = _AllPositions(*pairs.permute(2, 0, 3, 1, 4))
    # Every sample gets as many positions as the one that reads most; the rest are not read.
    most = max(1, int(read_BT.sum(1).max()))
    at_BY = read_BT.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    samples_B1 = torch.arange(len(at_BY), device=at_BY.device)[:, None]
    mask_B1YT = mask[:, 0][samples_B1, at_BY][:, None]
    output_BYD: Tensor = block(hidden_BTD[samples_B1, at_BY], cache, attention_mask=mask_B1YT)
    return output_BYD[read_BT[samples_B1, at_BY]]


class _AllPositions:
    """A cache for transformers that holds the keys and values of all positions.

    It ignores those that the block computes for its own input.
    """

    def __init__(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> None:
        self.pairs = keys_BHTE, values_BHTE

    def update(self, *own: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Keys and values that the block attends to."""
        return self.pairs


def answer_loss(lm: GPT2LMHeadModel, hidden_YD: Tensor, packed: Packed) -> Tensor:
    """Sum of the cross-entropy in nats over supervised tokens, from the output of `read_hidden`."""
    supervised = packed.targets != IGNORE
    return head_loss(hidden_YD[supervised], lm.lm_head.weight, packed.targets[supervised])


@dataclass(frozen=True)
class Reader:
    """Calls the language model on batches; `source` gives the embeddings of image positions."""

    lm: GPT2LMHeadModel
    image_id: int
    source: VisionTokenSource | None = None

    @classmethod
    def of(cls, model: GPT2vModel, patches: ProjectedPatches | None = None) -> "Reader":
        """A reader of a GPT-2v for pictures and text; `patches` gives the features of pictures."""
        source = patches or ProjectedPatches(model)
        return cls(model.language_model, model.config.image_token_id, source)

    @property
    def device(self) -> torch.device:
        """Device of the language model."""
        device: torch.device = self.lm.device
        return device

    @property
    def n_positions(self) -> int:
        """Maximum number of token positions."""
        n_positions: int = self.lm.config.n_positions
        return n_positions

    def __call__(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Logits (Y, V) at the positions that are read, and the packed batch."""
        hidden, packed = self.hidden(batch)
        logits: Tensor = self.lm.lm_head(hidden)
        return logits, packed

    def hidden(self, batch: Batch) -> tuple[Tensor, Packed]:
        """Final hidden states (Y, D) at the positions that are read, and the packed batch."""
        packed = pack(batch, self.device)
        is_image = packed.input_ids == self.image_id
        if not is_image.any():
            return read_hidden(self.lm, packed), packed
        assert self.source is not None, "a batch has image positions, but this reader has no source"
        # The embedding of <image> is never used: image positions get id 0 here, replaced below.
        words = self.lm.get_input_embeddings()(packed.input_ids.masked_fill(is_image, 0))
        tokens = self.source(batch).to(words.dtype)
        embeds = words.masked_scatter(is_image[..., None], tokens)
        return read_hidden(self.lm, packed, embeds), packed
