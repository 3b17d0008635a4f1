"""Matrix products on CPUs with oneDNN, which PyTorch includes beside MKL.

PyTorch computes fp32 products with MKL, which runs at half speed on AMD processors; oneDNN treats
all processors alike. `use_onednn` changes the class of a model's linear layers and nothing else:
weights, names and checkpoints stay the same. Both libraries compute in IEEE fp32, but in a
different order. The environment variable `GPT2V_ONEDNN=0` switches this off.

Only this file uses the private operator and changes classes.
"""

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

SWITCH = "GPT2V_ONEDNN"
_TANH = (GELUTanh, NewGELUActivation)  # approximated by tanh, `gelu_pytorch_tanh` and `gelu_new`


def _find_product() -> Any:
    """oneDNN's operator for (n_rows, n_inputs) @ (n_outputs, n_inputs)^T + bias.

    None if this build of PyTorch has no such operator, or the user has switched it off.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_PRODUCT = _find_product()


def _times(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (n_rows, n_inputs) @ w (n_inputs, n_outputs) + bias (n_outputs,)."""
    result: Tensor = _PRODUCT(x, w.mT, bias, "none", [], "")
    return result


class _Affine(Function):
    """x (n_rows, n_inputs) @ w (n_inputs, n_outputs) + bias (n_outputs,), and its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.has_bias = bias is not None  # type: ignore[attr-defined]
        return _times(x, w, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            _times(dy, w.mT) if needs[0] else None,
            _times(x.mT, dy) if needs[1] else None,
            dy.sum(0) if ctx.has_bias and needs[2] else None,
        )


def affine(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., n_inputs) @ w (n_inputs, n_outputs) + bias (n_outputs,), by oneDNN if possible."""
    if _PRODUCT is None or not _applies(x, w):
        return F.linear(x, w.mT, bias)
    if not (w.is_contiguous() or w.mT.is_contiguous()):
        w = w.contiguous()  # oneDNN takes forty times as long with some columns of a matrix
    flat: Tensor = _Affine.apply(x.reshape(-1, len(w)), w, bias)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], w.shape[1])


def _applies(x: Tensor, w: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == w.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class OneDnnConv1D(Conv1D):  # type: ignore[misc]
    """GPT-2's linear layer, whose weight is stored as (n_inputs, n_outputs)."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


class OneDnnLinear(nn.Linear):
    """torch's linear layer, whose weight is stored as (n_outputs, n_inputs)."""

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight.mT, self.bias)


class OneDnnMLP(GPT2MLP):  # type: ignore[misc]
    """GPT-2's MLP; without gradients its GELU is computed with the first product."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.c_fc.weight
        result: Tensor
        watched = any(
            part._forward_hooks or part._forward_pre_hooks for part in (self.c_fc, self.act)
        )
        is_plain = torch.is_grad_enabled() or watched or not isinstance(self.act, _TANH)
        if is_plain or not _applies(x, w):
            result = super().forward(x)
        else:
            flat = _PRODUCT(x.reshape(-1, len(w)), w.mT, self.c_fc.bias, "gelu", [], "tanh")
            result = self.dropout(self.c_proj(flat.view(*x.shape[:-1], w.shape[1])))
        return result


def product(a: Tensor, b: Tensor) -> Tensor:
    """a (n_rows, n_inputs) @ b (n_inputs, n_outputs) without a gradient, by oneDNN if possible."""
    return _times(a, b) if _PRODUCT is not None and _applies(a, b) else a @ b


def use_onednn(model: nn.Module) -> None:
    """Let a model's linear layers use oneDNN when they run in fp32 on a CPU."""
    if _PRODUCT is None:
        return
    for module in model.modules():
        if type(module) is Conv1D:
            module.__class__ = OneDnnConv1D
        elif type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
        elif type(module) is GPT2MLP:
            module.__class__ = OneDnnMLP
