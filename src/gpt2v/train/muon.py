"""Muon, an optimizer for matrices: momentum, orthogonalised by a Newton-Schulz iteration (Jordan
et al. 2024, https://kellerjordan.github.io/posts/muon/).

`torch.optim.Muon` runs the iteration in bf16, which is slow on CPUs, and on cards without bf16
units. It also scales by rows / columns, which are swapped in GPT-2's transposed `Conv1D`. Here the
iteration runs in fp32 where bf16 is slow, a matrix is always (outputs, inputs) however it is
stored, the fused `c_attn` is orthogonalised as three matrices (queries, keys and values), and the
kernels of a convolution (outputs, inputs, height, width) are one matrix of (outputs, all the rest).
Matrices of equal shape are stacked and iterated together.

Of sharded parameters each process gathers the whole matrices, iterates them, and updates its share.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from gpt2v.hardware.precision import iteration_dtype
from gpt2v.train.sharding import is_sharded, local, shared_as, whole, with_share

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic iteration of the source above
_STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Set the singular values of each matrix, (n_matrices, rows, columns), to about 1 (0.7 to 1.2).

    With the singular value decomposition U S V^T of a matrix, this approximates U V^T.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.to(iteration_dtype(matrices.device))
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Tensor = (x if wide else x.mT).to(matrices.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Muon for matrices, and for the kernels of convolutions.

    Args:
        params: parameter groups, as in every torch optimizer.
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
        """One update, whose root mean square is lr / sqrt(inputs)."""
        for group in self.param_groups:
            directions: dict[nn.Parameter, Tensor] = {}
            scales: dict[nn.Parameter, float] = {}
            stacks: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                buffer, grad = local(self.state[p]["momentum_buffer"]), local(p.grad)
                buffer.lerp_(grad, 1 - group["momentum"])
                nesterov = grad.lerp(buffer, group["momentum"]).contiguous()
                if is_sharded(p):  # only whole matrices can be orthogonalised
                    nesterov = whole(with_share(p, nesterov))
                directions[p] = nesterov
                for part in self._parts(p, nesterov):
                    stacks[part.shape].append((p, part))
            for shape, entries in stacks.items():
                updates = orthogonalise(torch.stack([part for _, part in entries]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for (p, part), update in zip(entries, updates, strict=True):
                    part.copy_(update)
                    scales[p] = scale
            for p, direction in directions.items():
                weight = local(p.data)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                share = local(shared_as(direction, p))
                weight.add_(share, alpha=-group["lr"] * scales[p])

    def _parts(self, p: nn.Parameter, values: Tensor) -> tuple[Tensor, ...]:
        """Views of the matrices in `values`, each as (outputs, inputs)."""
        matrix = values.T if id(p) in self._transposed else values.flatten(1)
        return matrix.chunk(self._splits.get(id(p), 1), dim=0)


def matrix_layout(model: nn.Module) -> tuple[list[nn.Parameter], dict[nn.Parameter, int]]:
    """Parameters of a model that are stored transposed, and those that hold several matrices.

    The latter, with their number of matrices, are queries, keys and values side by side.
    """
    transposed, splits = [], {}
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            transposed.append(module.weight)
            if name.endswith("attn.c_attn"):
                splits[module.weight] = 3
    return transposed, splits
