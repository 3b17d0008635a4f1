"""A pretended accelerator: the device "pretend:0", on a machine that has only a CPU.

It differs from the CPU as CUDA does, in what a program may do and in what it costs:

- A tensor on it does not mix with one on the CPU: an operation on both is a RuntimeError. As with
  CUDA, a CPU tensor without dimensions may take part in elementwise operations, and a CPU tensor
  of indices may index.
- Whatever makes a program wait for a GPU is recorded, with the line of it: `Syncs` tells what.

Values are those of the CPU: the memory of a tensor is the memory of a CPU tensor. Every operation
that torch does not compose of others comes to `_run`, which lets the CPU compute it, in place where
the operation works in place. Views share their memory by torch's own means. So autograd, modules,
optimizers and autocast are torch's.

Importing this module registers the device for the process, which can have one such device, before
its first backward pass. Nothing chooses it by itself outside `pretended()`.
"""

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

import gpt2v
import pretended_autocast

NAME = pretended_autocast.NAME
DEVICE = torch.device("privateuseone", 0)  # "pretend:0", once it is registered
MISSING = ""  # why there is no such device here
if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    MISSING = f"torch {torch.__version__} cannot register a device from Python"
elif torch.accelerator.is_available():
    MISSING = "this machine has an accelerator of its own, which the pretended one would hide"

_SOURCE = Path(gpt2v.__file__).parent
_ON_CPU, _ON_DEVICE = 1, 12  # kDLCPU and kDLExtDev of DLPack
_TO_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

# Operators whose result, or the shape of it, the host has to know.
_READ = {
    "_local_scalar_dense": "item",  # float(), int(), bool() and item()
    "equal": "torch.equal",
    "nonzero": "nonzero",  # a mask as an index, where() with one argument
    "masked_select": "masked_select",
    "_unique2": "unique",
    "unique_dim": "unique",
    "unique_consecutive": "unique",
    "bincount": "bincount",
}
_INDEXING = ("index", "_index_put_impl_", "_unsafe_index")
# Elementwise operators that torch does not mark so.
_ELEMENTWISE = ("fill_", "masked_fill_", "_foreach", "_fused")


@dataclass
class Syncs:
    """Where the host waited for the device, in order, as "what, file:line".

    The file is one of gpt2v, relative to its package (and not one of `hardware/`, which does what
    others ask for), else the caller of torch; in a backward pass, it is the node of autograd.

    Attributes:
        reads: the host needed a value: `item`, `bool`, `cpu`, `tolist`, or a result whose shape
            depends on values (`nonzero`, a mask as an index, `unique`).
        uploads: a copy to the device that was not `non_blocking`: `to`, `torch.tensor(list)`.
    """

    reads: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.reads)} reads, {len(self.uploads)} uploads"]
        for name, places in (("read", self.reads), ("upload", self.uploads)):
            lines += [f"  {n:4d}  {name}: {place}" for place, n in Counter(places).most_common()]
        return "\n".join(lines)


_counting: list[Syncs] = []
_available = False


@contextmanager
def counted() -> Iterator[Syncs]:
    """Record the synchronisations of this block, in all threads."""
    syncs = Syncs()
    _counting.append(syncs)
    try:
        yield syncs
    finally:
        _counting.remove(syncs)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """In this block the machine has the device, so it is the best one there is.

    Modules keep their parameters when they move, and so their tied weights, as on a CPU and CUDA.
    """
    global _available
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    generator, torch.Generator = torch.Generator, _Generator
    _available = True
    try:
        yield DEVICE
    finally:
        _available = False
        torch.Generator = generator
        torch.__future__.set_swap_module_params_on_conversion(swaps)


class _Generator(torch.Generator):
    """Random numbers of the device are those of the CPU; torch cannot register others."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        device = torch.device(device)
        return super().__new__(cls, torch.device("cpu") if device.type == NAME else device)


def _record(kind: str, what: str) -> None:
    if _counting:
        place = f"{what}, {_caller()}"
        for syncs in _counting:
            getattr(syncs, kind).append(place)


def _caller() -> str:
    """The innermost line of gpt2v that uses a device, else one outside torch and this file."""
    frame, other = sys._getframe(1), ""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_SOURCE) and path.parent != _SOURCE / "hardware":
            return f"{path.relative_to(_SOURCE)}:{frame.f_lineno}"
        if not other and path != Path(__file__) and "torch" not in path.parts:
            other = f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    node = torch._C._current_autograd_node()  # a backward pass has a thread of its own
    return f"backward of {node.name()}" if node else other


def _relabelled(tensor: Tensor, device: int) -> Tensor:
    """The same memory as a tensor of another device: its name is one number in a DLPack capsule."""
    capsule = torch._C._to_dlpack(tensor)
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    data_pointer = ctypes.sizeof(ctypes.c_void_p)
    ctypes.c_int32.from_address(address(capsule, b"dltensor") + data_pointer).value = device
    return torch._C._from_dlpack(capsule)


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute an operation on the memory of its tensors with the CPU's kernel."""
    schema, name = op._schema, op._schema.name.removeprefix("aten::")
    returned = [r.alias_info for r in schema.returns]
    if any(alias and not alias.is_write for alias in returned):  # a view: no memory is touched
        return op.redispatch(_TO_CPU, *args, **kwargs)
    named = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
    for a in schema.arguments:  # a number in an expression comes as a number; it is no sync
        if str(a.type) == "Tensor" and isinstance(named.get(a.name), (int, float)):
            dtype = torch.float64 if isinstance(named[a.name], float) else None
            named[a.name] = torch.tensor(named[a.name], dtype=dtype)
    written = {a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write}
    _check_devices(op, named, written)
    if name == "copy_":
        _count_copy(named["self"], named["src"], named.get("non_blocking", False))
    elif name in _READ:
        _record("reads", _READ[name])
    elif name == "_index_put_impl_":
        _count_masks(**named)
    elif name == "repeat_interleave" and named.get("output_size") is None:
        _record("reads", "repeat_interleave")

    grown: list[tuple[Tensor, Tensor]] = []  # outputs without elements, which an operator resizes

    def on_cpu(value: Any, of_written: bool) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            return value
        if of_written and value.numel() == 0:
            grown.append((value, torch.empty_like(value, device="cpu")))
            return grown[-1][1]
        return _relabelled(value, _ON_CPU)

    moved = {k: pytree.tree_map(lambda v: on_cpu(v, k in written), x) for k, x in named.items()}  # noqa: B023
    positional = [
        moved.pop(a.name) for a in schema.arguments if not a.kwarg_only and a.name in moved
    ]
    result = op(*positional, **moved)
    for value, new in grown:
        if new.numel():
            base = _relabelled(new, _ON_DEVICE)
            torch.ops.aten.set_.source_Storage_storage_offset.redispatch(
                _TO_CPU, value, base.untyped_storage(), 0, new.shape, new.stride()
            )
    if not returned:
        return None
    if len(returned) == 1:
        return _on_device(result, returned[0], schema, named)
    return tuple(
        _on_device(r, alias, schema, named) for r, alias in zip(result, returned, strict=True)
    )


def _on_device(result: Any, alias: Any, schema: Any, named: dict[str, Any]) -> Any:
    """What an operator returns: an argument that it has written to, or a new tensor."""
    if alias:
        same = (a for a in schema.arguments if a.alias_info)
        return next(named[a.name] for a in same if a.alias_info.before_set == alias.before_set)
    return pytree.tree_map_only(Tensor, lambda t: _relabelled(t, _ON_DEVICE), result)


def _check_devices(op: Any, named: dict[str, Any], written: set[str]) -> None:
    """Refuse a mixture of devices that CUDA refuses."""
    name = op._schema.name.removeprefix("aten::")
    if name == "copy_":
        return
    elementwise = torch.Tag.pointwise in op.tags or name.startswith(_ELEMENTWISE)
    for key, value in named.items():
        for tensor in pytree.tree_leaves(value):
            if not isinstance(tensor, Tensor) or tensor.device.type != "cpu":
                continue
            is_index = name in _INDEXING and key == "indices"
            is_scalar = tensor.ndim == 0 and key not in written
            if is_index or (is_scalar and (elementwise or name in _INDEXING)):
                continue
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {op}: {key} is on cpu, not on "
                f"{DEVICE}"
            )


def _count_copy(to: Tensor, source: Tensor, non_blocking: bool) -> None:
    if to.device.type == source.device.type or non_blocking:
        return
    if to.device.type == "cpu":
        _record("reads", "copy to the CPU")
    else:
        _record("uploads", f"{source.ndim}-d {str(source.dtype).removeprefix('torch.')}")


def _count_masks(
    self: Tensor, indices: Any, values: Tensor, accumulate: bool = False, unsafe: bool = False
) -> None:
    """Masks that say where to put values; `x[mask] = number` needs not know where they are true."""
    if accumulate or values.numel() > 1:
        for index in indices:
            if index is not None and index.dtype == torch.bool and index.device == self.device:
                _record("reads", "nonzero")


class _Module:
    """What torch asks about the device."""

    is_available = staticmethod(lambda: _available)
    is_initialized = staticmethod(lambda: True)
    device_count = staticmethod(lambda: int(_available))
    current_device = staticmethod(lambda: 0)
    synchronize = staticmethod(lambda device=None: None)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)  # its random numbers are the CPU's
    get_rng_state = staticmethod(lambda device=None: torch.empty(0, dtype=torch.uint8))
    set_rng_state = staticmethod(lambda state, device=None: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])


# Operators that torch wants from such a device by other names than from a CPU.


def _convolution(*args: Any) -> Any:
    return _run(torch.ops.aten.convolution.default, *args)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *args: Any) -> Any:
    return _run(
        torch.ops.aten.convolution_backward.default, grad, x, weight, [grad.shape[1]], *args
    )


def _copy(*args: Any) -> Any:
    return _run(torch.ops.aten.copy_.default, *args)


def _pin(tensor: Tensor, device: Any = None) -> Tensor:
    if not _available:
        raise RuntimeError("Cannot pin memory: there is an accelerator, but none is available")
    return tensor.clone()


def _register() -> tuple[torch.library.Library, ...]:
    """Register device and operators; what is returned must live as long as the process."""

    class Hook(torch._C._acc.PrivateUse1Hooks):
        is_available = staticmethod(lambda: _available)
        has_primary_context = staticmethod(lambda index: True)
        is_built = staticmethod(lambda: True)

    backend_registration._setup_privateuseone_for_python_backend(
        NAME, backend_module=_Module(), hook=Hook()
    )
    every, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(_run, "PrivateUse1")
    aten.impl("copy_", _copy, "PrivateUse1")
    aten.impl("convolution_overrideable", _convolution, "PrivateUse1")
    aten.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
    aten.impl("_pin_memory", _pin, "CPU")
    return every, aten


if not MISSING:
    _registered = _register(), pretended_autocast.register()
