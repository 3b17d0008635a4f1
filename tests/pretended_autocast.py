"""Autocast for the pretended device, with CUDA's rules for the operators that models here use.

Torch has rules for autocast on the devices that it knows, and none for one that is registered.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

NAME = "pretend"
_KEY = "AutocastPrivateUse1"

# In the low precision, in fp32, and in the widest type of the arguments.
_LOW = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "conv2d", "einsum")
_LOW += ("scaled_dot_product_attention",)
_FULL = ("exp", "log", "pow", "reciprocal", "rsqrt", "layer_norm", "softmax", "log_softmax")
_FULL += ("logsumexp", "sum", "cumsum", "norm", "cosine_similarity", "nll_loss")
_FULL += ("cross_entropy_loss", "binary_cross_entropy_with_logits", "mse_loss")
_WIDEST = ("cat", "stack", "addcmul", "addcdiv", "index_put", "scatter_add", "dot")


def _kernel(op: Any, rule: str) -> Any:
    def run(*args: Any, **kwargs: Any) -> Any:
        low, full = torch.get_autocast_dtype(NAME), torch.float32
        found = [t.dtype for t in pytree.tree_leaves((args, kwargs)) if _casts(t)]
        widest = full if full in found else low
        dtype = {"low": low, "full": full, "widest": widest}[rule]

        def cast(value: Any) -> Any:
            return value.to(dtype) if _casts(value) else value

        key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _KEY))
        with torch._C._ExcludeDispatchKeyGuard(key):
            args, kwargs = pytree.tree_map(cast, (args, kwargs))
            return op(*args, **kwargs)

    return run


def _casts(value: Any) -> bool:
    on_device = isinstance(value, Tensor) and value.device.type == NAME
    return on_device and value.dtype in (torch.float32, torch.float16, torch.bfloat16)


def register() -> tuple[torch.library.Library, ...]:
    """Register the rules; what is returned must live as long as the process."""
    every, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, _KEY)
    for rule, names in (("low", _LOW), ("full", _FULL), ("widest", _WIDEST)):
        for name in names:
            packet = getattr(torch.ops.aten, name)
            for overload in packet.overloads():
                op = getattr(packet, overload)
                if not any(a.alias_info for a in op._schema.arguments):
                    aten.impl(op, _kernel(op, rule), _KEY)
    return every, aten
