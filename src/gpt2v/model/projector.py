"""Projectors: from the vision tower's width to the language model's."""

from torch import Tensor, nn


class LinearProjector(nn.Module):
    """One affine map."""

    def __init__(self, d_vision: int, d_text: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(d_vision, d_text)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, d_vision) -> (B, N, d_text)
        y: Tensor = self.linear_1(x)
        return y


class MLPProjector(nn.Module):
    """LLaVA-1.5's two layers (Liu et al. 2023, https://arxiv.org/abs/2310.03744)."""

    def __init__(self, d_vision: int, d_text: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(d_vision, d_text)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(d_text, d_text)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, d_vision) -> (B, N, d_text)
        y: Tensor = self.linear_2(self.act(self.linear_1(x)))
        return y


PROJECTORS: dict[str, type[LinearProjector] | type[MLPProjector]] = {
    "linear": LinearProjector,
    "mlp": MLPProjector,
}
