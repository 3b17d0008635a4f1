"""Decoders that are small networks: the projector's own architecture, and attention over patches.

Shapes: P pictures, N patches of a picture, D width of a hidden state, H attention heads.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gpt2v.config.decoders import AttentiveOptions, ProjectorOptions
from gpt2v.config.projectors import MLPOptions
from gpt2v.model.projector import MLPProjector
from gpt2v.probing.decoders.training import NetworkDecoder

_WIDEST = 1024


class TwoLayers(nn.Module):
    """The projector `mlp`, on the features of a cell in place of a patch."""

    def __init__(self, n_features: int, n_classes: int, hidden_size: int) -> None:
        super().__init__()
        options = MLPOptions(hidden_size=hidden_size)
        self.projector = MLPProjector(n_features, n_classes, options=options)

    def forward(self, x: Tensor) -> Tensor:
        """(n_rows, n_features) -> logits (n_rows, n_classes)."""
        return self.projector.each(x, x)


class ProjectorProbe(NetworkDecoder):
    """An MLP with one hidden layer."""

    reads: ClassVar[Literal["cell", "picture"]] = "cell"

    def __init__(self, options: ProjectorOptions | None = None) -> None:
        self.options: ProjectorOptions = options or ProjectorOptions()

    def network(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """See `NetworkDecoder.network`."""
        (n_features,) = shape
        hidden_size = self.options.hidden_size or min(4 * n_features, _WIDEST)
        return TwoLayers(n_features, n_classes, hidden_size)

    @classmethod
    def like(cls, state: dict[str, Tensor]) -> nn.Module:
        """See `NetworkDecoder.like`."""
        hidden_size, n_features = state["projector.linear_1.weight"].shape
        return TwoLayers(n_features, len(state["projector.linear_2.weight"]), hidden_size)


class Attention(nn.Module):
    """Queries that attend over patches; one layer reads the means that they find.

    A learnt bias for each patch lets a query find a place also where embeddings do not tell it.
    """

    def __init__(self, n_patches: int, width: int, n_classes: int, n_heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(n_heads, width) / width**0.5)
        self.place = nn.Parameter(torch.zeros(n_heads, n_patches))
        self.linear = nn.Linear(n_heads * width, n_classes)

    def forward(self, x_PND: Tensor) -> Tensor:
        """(P, N, D) -> logits (P, n_classes)."""
        attention_PHN = (self.query @ x_PND.mT + self.place).softmax(-1)
        logits: Tensor = self.linear((attention_PHN @ x_PND).flatten(1))
        return logits


class Attentive(NetworkDecoder):
    """Attention over the patches of the whole picture, for one cell."""

    reads: ClassVar[Literal["cell", "picture"]] = "picture"

    def __init__(self, options: AttentiveOptions | None = None) -> None:
        self.options: AttentiveOptions = options or AttentiveOptions()

    def network(self, shape: tuple[int, ...], n_classes: int) -> nn.Module:
        """See `NetworkDecoder.network`."""
        n_patches, width = shape
        return Attention(n_patches, width, n_classes, self.options.n_heads)

    @classmethod
    def like(cls, state: dict[str, Tensor]) -> nn.Module:
        """See `NetworkDecoder.like`."""
        (n_heads, width), n_patches = state["query"].shape, state["place"].shape[1]
        return Attention(n_patches, width, len(state["linear.weight"]), n_heads)
