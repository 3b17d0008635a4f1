"""Floating-point operations of a training step, as the literature counts them.

A transformer with N weights in its matrices, L layers of width D and T tokens of context takes
6 N + 12 L D T operations per token (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311,
appendix B): forward and backward pass, as if every part trained and no token were masked.
"""

from torch import nn
from transformers import PreTrainedModel

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import Batch
from gpt2v.model.encoders import family_of
from gpt2v.model.packed import Reader
from gpt2v.model.vision_tokens import Picture


def step_flops(layers: nn.Module, n_layer: int, width: int, rows: int, length: int) -> float:
    """Of `rows` sequences of `length` tokens through a stack of transformer blocks."""
    return float(rows * length * (6 * matrices(layers) + 12 * n_layer * width * length))


def matrices(layers: nn.Module) -> int:
    """Number of weights in them."""
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)


def stream_flops(reader: Reader, batch: Batch | TextBatch) -> float:
    """Of one step of a GPT-2 or a GPT-2v on a batch.

    The last block, but for its keys and values, and the head run where the batch is read; the
    vision tower on what is not kept of it.
    """
    source, c = reader.source, reader.lm.config
    rows, length = batch.input_ids.shape
    *blocks, last = reader.lm.transformer.h
    pairs = 2 * c.n_embd**2  # weights that make keys and values
    read = matrices(last) - pairs + c.n_embd * c.vocab_size
    total = step_flops(nn.ModuleList(blocks), len(blocks), c.n_embd, rows, length)
    total += 6.0 * rows * length * pairs
    total += batch.n_supervised * (6.0 * read + 12 * c.n_embd * length)
    if isinstance(source, Picture) and isinstance(batch, Batch) and batch.pictures is not None:
        total += vision_flops(source.model.vision_tower, source.n_seen(batch.pictures))
    return float(total)


def vision_flops(tower: PreTrainedModel, pictures: int) -> float:
    """Of one step of a vision tower's blocks."""
    c = tower.config
    length = (c.image_size // c.patch_size) ** 2 + family_of(c).n_class_tokens
    return step_flops(tower, c.num_hidden_layers, c.hidden_size, pictures, length)
