"""The packed forward pass: one sequence holds many questions about one grid after one prefix.

A `Reader` runs it with a GPT-2, or with a GPT-2v and the vision tokens for its image positions.

Attention follows the batch's segment tree, given as a 4-D additive float mask (with boolean masks
transformers' eager attention is wrong without an error). The last block and the vocabulary head run
only at positions that are read; from all other positions the last block needs only keys and values.
States of all positions are in `states`; `layer_changes` replaces those that a block gets.

Shapes: B samples of a batch, T token positions, D width of a hidden state, V words of the
vocabulary, Y positions that are read (whose next token is predicted), M vision tokens, H attention
heads, E width of a head.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import IGNORE, Batch, ImageTokens
from gpt2v.hardware.device import to_device
from gpt2v.hardware.onednn import affine
from gpt2v.hardware.precision import computed_in
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.head import head_loss
from gpt2v.model.layer_changes import as_changed
from gpt2v.model.vision_tokens import ProjectedPatches, VisionTokenSource

Pairs = tuple[Tensor, Tensor]  # keys and values of a block at all positions, (B, H, T, E) each

_ALIGNED = 16  # elements of a mask's row that attention on cards takes together


@dataclass(frozen=True)
class Reads:
    """The positions that are read.

    Every sample gets as many positions as the one that reads most; the rest are not read.
    """

    at: Tensor  # (B, n_most) positions
    index: Tensor  # (Y,) which of them are read: indices into the flattened (B, n_most)

    @classmethod
    def of(cls, read_BT: NDArray[np.bool_], device: torch.device) -> "Reads":
        """Those where `read_BT` is true."""
        most = max(1, int(read_BT.sum(1).max()))
        at = np.argsort(~read_BT, axis=1, kind="stable")[:, :most]
        is_read = np.take_along_axis(read_BT, at, axis=1)
        return cls(to_device(at, device), to_device(np.flatnonzero(is_read), device))


@dataclass(frozen=True)
class Packed:
    """The part of a Batch that the language model needs, on its device.

    What is read, and where, is known before anything is sent, so a card is never waited for.
    """

    input_ids: Tensor  # (B, T); 0 at image positions
    position_ids: Tensor  # (B, T)
    mask: Tensor  # (B or 1, 1, T, T or more) additive; 1 if all samples have the same segments
    reads: Reads
    read: NDArray[np.bool_]  # (B, T) whether a position is read
    targets: Tensor  # (n_supervised,) supervised tokens
    supervised: Tensor | None  # (n_supervised,) positions before them, indices into Y; None: all
    images: Tensor | None  # (M,) image positions: indices into the flattened (B, T); None: no image
    shown: ImageTokens | None  # what these stand for


def pack(
    batch: Batch, device: torch.device, image_id: int, dtype: torch.dtype = torch.float32
) -> Packed:
    """Move a batch to the device.

    The positions before supervised tokens are read (an answer directly follows its question). If
    the batch has choices, the positions that score them are read, too.

    Args:
        image_id: the token of image positions.
        dtype: of the mask.
    """
    target_BT = np.full(batch.labels.shape, IGNORE, np.int64)
    target_BT[:, :-1] = batch.labels[:, 1:]
    read_BT = target_BT != IGNORE
    if batch.choices is not None:
        position = batch.choices.position
        read_BT[np.arange(len(read_BT))[:, None, None, None], position] = True
    target_Y = target_BT[read_BT]
    supervised = target_Y != IGNORE
    is_image = batch.input_ids == image_id
    # The embedding of <image> is never used: vision tokens replace it.
    input_ids = np.where(is_image, 0, batch.input_ids)
    return Packed(
        input_ids=to_device(input_ids, device),
        position_ids=to_device(batch.position_ids, device),
        mask=attention_mask(batch, device, dtype),
        reads=Reads.of(read_BT, device),
        read=read_BT,
        supervised=None if supervised.all() else to_device(np.flatnonzero(supervised), device),
        targets=to_device(target_Y[supervised], device),
        images=to_device(np.flatnonzero(is_image), device) if is_image.any() else None,
        shown=batch.images,
    )


def attention_mask(batch: Batch, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(B or 1, 1, T, T or more): 0 where a token may attend, the smallest float elsewhere.

    On a card it has columns for up to `_ALIGNED` - 1 keys more, which do not exist: attention needs
    aligned rows there, and else copies the mask in every block.
    """
    segments = batch.segments
    if (segments == segments[0]).all():
        segments = segments[:1]
    segment_BT, sees = to_device(segments, device), to_device(batch.sees, device)
    real = segment_BT >= 0
    index = segment_BT.clamp(min=0)
    allowed = sees[index[:, :, None], index[:, None, :]] & real[:, None, :]
    length = segments.shape[1]
    allowed &= torch.ones(length, length, dtype=torch.bool, device=device).tril()
    allowed |= torch.eye(length, dtype=torch.bool, device=device)  # padding attends to itself
    columns = length if device.type == "cpu" else -(-length // _ALIGNED) * _ALIGNED
    mask = torch.zeros(*allowed.shape[:-1], columns, dtype=dtype, device=device)
    mask[..., :length].masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[:, None]


def read_hidden(
    lm: GPT2LMHeadModel,
    packed: Packed,
    embeds_BTD: Tensor | None = None,
    keep: list[Pairs] | None = None,
) -> Tensor:
    """Final hidden states (Y, D) at the positions that are read.

    Args:
        embeds_BTD: input embeddings; without them, those of the token ids.
        keep: gets the keys and values of each block.
    """
    (hidden_BTD,) = deque(block_inputs(lm, packed, embeds_BTD, keep), maxlen=1)  # of the last block
    mask = packed.mask.expand(len(packed.input_ids), -1, -1, -1)
    read_YD = _read_block(lm.transformer.h[-1], hidden_BTD, mask, packed.reads, keep)
    hidden_YD: Tensor = lm.transformer.ln_f(read_YD)
    return hidden_YD


def block_inputs(
    lm: GPT2LMHeadModel,
    packed: Packed,
    embeds_BTD: Tensor | None = None,
    keep: list[Pairs] | None = None,
) -> Iterator[Tensor]:
    """What each block gets at all positions, (B, T, D), one block after the other.

    Args:
        embeds_BTD, keep: as in `read_hidden`; `keep` gets those of all blocks but the last.
    """
    gpt2 = lm.transformer
    if embeds_BTD is None:
        embeds_BTD = gpt2.wte(packed.input_ids)
    hidden_BTD = gpt2.drop(embeds_BTD + gpt2.wpe(packed.position_ids))
    n_samples, length = packed.input_ids.shape
    mask = packed.mask.expand(n_samples, -1, -1, -1)[..., :length]
    *blocks, _ = gpt2.h
    kept = None if keep is None else _Kept(keep)
    for layer, block in enumerate(blocks):
        hidden_BTD = as_changed(lm, layer, hidden_BTD, packed)
        yield hidden_BTD
        hidden_BTD = block(hidden_BTD, kept, attention_mask=mask)
    yield as_changed(lm, len(blocks), hidden_BTD, packed)


def _read_block(
    block: GPT2Block,
    hidden_BTD: Tensor,
    mask: Tensor,
    reads: Reads,
    keep: list[Pairs] | None = None,
) -> Tensor:
    """Output of the block (Y, D) at the positions that are read.

    Their queries attend to the keys and values of all positions, which `keep` gets.
    """
    attention = block.attn
    *shape, width = hidden_BTD.shape
    weight, bias = attention.c_attn.weight[:, width:], attention.c_attn.bias[width:]
    pairs = affine(block.ln_1(hidden_BTD), weight, bias).view(*shape, 2, -1, attention.head_dim)
    keys_BHTE, values_BHTE = pairs.permute(2, 0, 3, 1, 4)
    if keep is not None:
        keep.append((keys_BHTE, values_BHTE))
    cache = _AllPositions(keys_BHTE, values_BHTE)
    samples_B1 = torch.arange(len(reads.at), device=reads.at.device)[:, None]
    mask_rows = mask[:, 0][samples_B1, reads.at][:, None, :, : shape[1]]
    output: Tensor = block(hidden_BTD[samples_B1, reads.at], cache, attention_mask=mask_rows)
    return output.flatten(0, 1)[reads.index]


class _Kept:
    """A cache for transformers that notes the keys and values of each block."""

    def __init__(self, pairs: list[Pairs]) -> None:
        self.pairs = pairs

    def update(self, keys: Tensor, values: Tensor, *options: Any, **more: Any) -> Pairs:
        """Keys and values that the block attends to: its own."""
        self.pairs.append((keys, values))
        return keys, values


class _AllPositions:
    """A cache for transformers that holds the keys and values of all positions.

    It ignores those that the block computes for its own input.
    """

    def __init__(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> None:
        self.pairs = keys_BHTE, values_BHTE

    def update(self, *own: Any, **options: Any) -> Pairs:
        """Keys and values that the block attends to."""
        return self.pairs


def answer_loss(lm: GPT2LMHeadModel, hidden_YD: Tensor, packed: Packed) -> Tensor:
    """Sum of the cross-entropy in nats over supervised tokens, from the output of `read_hidden`."""
    hidden = hidden_YD if packed.supervised is None else hidden_YD[packed.supervised]
    return head_loss(hidden, lm.lm_head.weight, packed.targets)


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

    def prepare(self, batch: Batch | TextBatch) -> None:
        """Draw the pictures that `source` will need for a batch; it does so by itself otherwise."""
        pictures = batch.pictures if isinstance(batch, Batch) else None
        if isinstance(self.source, ProjectedPatches) and pictures is not None:
            self.source.prepare(pictures)

    def hidden(self, batch: Batch, keep: list[Pairs] | None = None) -> tuple[Tensor, Packed]:
        """Final hidden states (Y, D) at the positions that are read, and the packed batch.

        `keep` gets the keys and values of each block.
        """
        packed, embeds = self.embedded(batch)
        return read_hidden(self.lm, packed, embeds, keep), packed

    def embedded(self, batch: Batch) -> tuple[Packed, Tensor]:
        """The packed batch, and its input embeddings (B, T, D)."""
        words_VD = self.lm.get_input_embeddings().weight
        packed = pack(batch, self.device, self.image_id, computed_in(words_VD))
        words: Tensor = self.lm.get_input_embeddings()(packed.input_ids)
        if packed.images is None:
            return packed, words
        assert self.source is not None, "a batch has image positions, but this reader has no source"
        tokens = self.source(batch).to(words.dtype)
        return packed, words.flatten(0, 1).index_copy(0, packed.images, tokens).view_as(words)
