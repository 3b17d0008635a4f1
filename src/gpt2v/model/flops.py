"""Floating-point operations of a training step, as the literature counts them.

A transformer takes `6 * n_weights + 12 * n_layer * width * length` operations per token (Chowdhery
et al. 2022, https://arxiv.org/abs/2204.02311, appendix B), where `n_weights` counts the weights of
its matrices and `length` the tokens of its context. This covers forward and backward pass, as if
every part trained and no token were masked.
"""

from torch import nn
from transformers import PreTrainedModel

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.data.render.batches import Batch
from gpt2v.model.families import family_of
from gpt2v.model.packed import Reader
from gpt2v.model.vision_tokens import ProjectedPatches


def step_flops(layers: nn.Module, n_layer: int, width: int, n_rows: int, length: int) -> float:
    """Operations for `n_rows` sequences of `length` tokens in a stack of transformer blocks."""
    return float(n_rows * length * (6 * matrix_weights(layers) + 12 * n_layer * width * length))


def matrix_weights(layers: nn.Module) -> int:
    """Number of weights in the matrices of a module."""
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)


def stream_flops(reader: Reader, batch: Batch | TextBatch) -> float:
    """Operations of one step of a GPT-2 or a GPT-2v on a batch.

    The head and the last block, except for its keys and values, run only at positions that are
    read. The vision tower runs only on pictures whose features are not cached.
    """
    source, c = reader.source, reader.lm.config
    n_rows, length = batch.input_ids.shape
    *blocks, last = reader.lm.transformer.h
    pairs = 2 * c.n_embd**2  # weights that make keys and values
    read = matrix_weights(last) - pairs + c.n_embd * c.vocab_size
    total = step_flops(nn.ModuleList(blocks), len(blocks), c.n_embd, n_rows, length)
    total += 6.0 * n_rows * length * pairs
    total += batch.n_supervised * (6.0 * read + 12 * c.n_embd * length)
    pictures = batch.pictures if isinstance(batch, Batch) else None
    if isinstance(source, ProjectedPatches) and pictures is not None:
        total += vision_flops(source.model.vision_tower, source.n_seen(pictures))
    return float(total)


def vision_flops(tower: PreTrainedModel, n_pictures: int, side: int | None = None) -> float:
    """Operations of one step of a vision tower's blocks, or of its convolutions.

    Args:
        side: of a picture in pixels, where it is not the configuration's `image_size`.
    """
    c = tower.config
    side = side or c.image_size
    if hasattr(tower, "multiplications"):
        return 6.0 * n_pictures * float(tower.multiplications(side))
    length = (side // c.patch_size) ** 2 + family_of(c).n_class_tokens
    return step_flops(tower, c.num_hidden_layers, c.hidden_size, n_pictures, length)
