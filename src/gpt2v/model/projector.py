"""Projectors: they map a vision tower's patches to vision tokens of the language model's width.

Each is one class; names, descriptions and options are in `config.projectors`. The width of the
vision tower is d_vision, the width of the language model is d_text.

Shapes: P pictures, N patches of a picture, M vision tokens, D width of a hidden state,
V words of the vocabulary.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from gpt2v.config.projectors import MLPOptions

_PLAIN = MLPOptions()


class Projector(nn.Module):
    """Averages each region of `pool` x `pool` patches, then projects each mean."""

    def __init__(self, d_vision: int, d_text: int, pool: int = 1) -> None:
        super().__init__()
        self.d_vision, self.d_text, self.pool = d_vision, d_text, pool

    def forward(self, patches_PND: Tensor, words_VD: Tensor) -> Tensor:
        """Patches (P, N, d_vision) -> vision tokens (P, M, d_text).

        Args:
            words_VD: the language model's word embeddings, (V, d_text).
        """
        return self.each(mean_of_regions(patches_PND, self.pool), words_VD)

    def each(self, x: Tensor, words_VD: Tensor) -> Tensor:
        """Projects each vector alone: (..., d_vision) -> (..., d_text)."""
        raise NotImplementedError


class LinearProjector(Projector):
    """One affine map."""

    def __init__(self, d_vision: int, d_text: int, pool: int = 1) -> None:
        super().__init__(d_vision, d_text, pool)
        self.linear_1 = nn.Linear(d_vision, d_text)

    def each(self, x: Tensor, words_VD: Tensor) -> Tensor:
        y: Tensor = self.linear_1(x)
        return y


class MLPProjector(Projector):
    """LLaVA-1.5's two layers (Liu et al. 2023, https://arxiv.org/abs/2310.03744)."""

    def __init__(
        self, d_vision: int, d_text: int, pool: int = 1, options: MLPOptions = _PLAIN
    ) -> None:
        super().__init__(d_vision, d_text, pool)
        hidden_size = options.hidden_size or d_text
        self.linear_1 = nn.Linear(d_vision, hidden_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(hidden_size, d_text)
        self.drop = nn.Dropout(options.dropout) if options.dropout else nn.Identity()

    def each(self, x: Tensor, words_VD: Tensor) -> Tensor:
        hidden = self.act(self.linear_1(self.drop(x)))
        y: Tensor = self.linear_2(self.drop(hidden))
        return y


class AverageProjector(MLPProjector):
    """Projects every patch, then averages each region: `mlp` in the other order."""

    def forward(self, patches_PND: Tensor, words_VD: Tensor) -> Tensor:
        return mean_of_regions(self.each(patches_PND, words_VD), self.pool)


class PixelShuffleProjector(MLPProjector):
    """Concatenates the patches of each region before the MLP, so that no patch is averaged.

    This is space to depth as in InternVL 1.5 (Chen et al. 2024, https://arxiv.org/abs/2404.16821).
    """

    def __init__(
        self, d_vision: int, d_text: int, pool: int = 1, options: MLPOptions = _PLAIN
    ) -> None:
        super().__init__(d_vision * pool**2, d_text, pool, options)

    def forward(self, patches_PND: Tensor, words_VD: Tensor) -> Tensor:
        return self.each(joined_regions(patches_PND, self.pool), words_VD)


class ConvexProjector(Projector):
    """Vision tokens are softmax-weighted means of word embeddings, so they lie among the words.

    This is AlignVLM (Masry et al. 2025, https://arxiv.org/abs/2502.01341). A patch is mapped to the
    language model's width; the score of a word is the product with the word's embedding. (AlignVLM
    trains a separate matrix for the scores, which starts as the language model's head. Here the
    matrix is the head itself, and stays tied to it.)
    """

    def __init__(self, d_vision: int, d_text: int, pool: int = 1) -> None:
        super().__init__(d_vision, d_text, pool)
        self.linear_1 = nn.Linear(d_vision, d_text)
        self.norm = nn.LayerNorm(d_text)

    def each(self, x: Tensor, words_VD: Tensor) -> Tensor:
        scores = self.norm(self.linear_1(x)) @ words_VD.T.to(x.dtype)
        mixture: Tensor = scores.float().softmax(-1).to(x.dtype) @ words_VD.to(x.dtype)
        return mixture


def mean_of_regions(x_PND: Tensor, pool: int) -> Tensor:
    """The mean of each region of `pool` x `pool` patches, (P, N, D) -> (P, M, D)."""
    if pool == 1:
        return x_PND
    side = math.isqrt(x_PND.shape[1])
    plane = x_PND.mT.reshape(len(x_PND), -1, side, side)
    return F.avg_pool2d(plane, pool).flatten(2).mT


def joined_regions(x_PND: Tensor, pool: int) -> Tensor:
    """The patches of each region concatenated, (P, N, D) -> (P, M, pool**2 * D)."""
    if pool == 1:
        return x_PND
    n_pictures, n, width = x_PND.shape
    side = math.isqrt(n) // pool
    cut = x_PND.reshape(n_pictures, side, pool, side, pool, width).transpose(2, 3)
    return cut.reshape(n_pictures, side**2, pool**2 * width)
