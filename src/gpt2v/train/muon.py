"""Muon for matrices: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/).

`torch.optim.Muon` runs the iteration in bf16, which is slow on CPUs without bf16 matrix units, and
scales by rows / cols, which GPT-2's transposed `Conv1D` swaps. Here the iteration is fp32 on the
CPU, a matrix is (outputs, inputs) whatever its storage, and the fused `c_attn` is orthogonalised as
three matrices (Q, K, V). Equal shapes are iterated as one stack.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic iteration of the source above
_STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Approximate U V^T of each matrix's SVD, (N, rows, cols); singular values in 0.7 .. 1.2."""
    a, b, c = _COEFFICIENTS
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = (x if wide else x.mT).to(matrices.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters.

    Args:
        params: parameter groups, as for every torch optimizer.
        transposed: parameters stored as (inputs, outputs), as in `Conv1D`.
        splits: parameters that hold several matrices side by side along their outputs, and how
            many.
    """

    def __init__(
        self,
        params: Iterable[Any],
        transposed: Iterable[nn.Parameter] = (),
        splits: dict[nn.Parameter, int] | None = None,
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._transposed = {id(p) for p in transposed}
        self._splits = {id(p): n for p, n in (splits or {}).items()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; the step's RMS is lr / sqrt(inputs)."""
        for group in self.param_groups:
            stacks: dict[torch.Size, list[tuple[nn.Parameter, int, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                buffer = self.state[p]["momentum_buffer"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                nesterov = p.grad.lerp(buffer, group["momentum"])
                for i, part in enumerate(self._parts(p, nesterov)):
                    stacks[part.shape].append((p, i, part))
            for shape, entries in stacks.items():
                updates = orthogonalise(torch.stack([part for _, _, part in entries]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for (p, i, _), update in zip(entries, updates, strict=True):
                    weight = self._parts(p, p.data)[i]
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(update, alpha=-group["lr"] * scale)

    def _parts(self, p: nn.Parameter, values: Tensor) -> tuple[Tensor, ...]:
        """Views of `values` as (outputs, inputs) matrices."""
        matrix = values.T if id(p) in self._transposed else values
        return matrix.chunk(self._splits.get(id(p), 1), dim=0)


def matrix_layout(model: nn.Module) -> tuple[list[nn.Parameter], dict[nn.Parameter, int]]:
    """Which parameters of a model are stored transposed, and which hold Q, K and V side by side."""
    transposed, splits = [], {}
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            transposed.append(module.weight)
            if name.endswith("attn.c_attn"):
                splits[module.weight] = 3
    return transposed, splits
