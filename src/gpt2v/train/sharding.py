"""Parameters, gradients and optimizer state cut into one share for each process (FSDP2; Zhao et al.
2023, https://arxiv.org/abs/2304.11277), for models that do not fit one card with all of them.

Each module that a task names is gathered when it runs, and freed after it. The rest of what trains
is gathered for a whole step. What never trains, and is in none of these modules, stays whole in
every process. A sharded tensor is a `DTensor`. Optimizers work on the shares (`local`); files hold
whole tensors, which are gathered one after another (`collected`, `whole_on_rank_0`).

All functions here, but `local`, must be called by all processes together.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpt2v.errors import UserError
from gpt2v.train.distributed import rank, world_size

if TYPE_CHECKING:  # a second to import; only for what is sharded
    from torch.distributed.tensor import DTensor

M = TypeVar("M", bound=nn.Module)


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a process has only a share of a tensor."""
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def _gathers(module: nn.Module) -> bool:
    """Whether a module is one of those that `shard` has sharded."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    return loaded is not None and isinstance(module, loaded.FSDPModule)


def check_sharding(device: torch.device) -> None:
    """Refuse to shard where that is not possible, or has no effect.

    Raises:
        UserError: there is one process, or torch cannot shard on this device.
    """
    if world_size() == 1:
        raise UserError("train.shard: true has no effect: there is one process; leave it out")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"train.shard: true is not possible on {device.type}; leave it out")


def shard(losses: M, modules: Collection[nn.Module], trained: Collection[str]) -> M:
    """Shard a module from a batch to its loss, in place; each process has the same weights before.

    Args:
        modules: parts of it that are only ever called, each sharded on its own.
        trained: names of the parameters that train at any time.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    inside = {p for module in modules for p in module.parameters()}
    named = dict(losses.named_parameters())
    assert set(trained) <= named.keys(), "names of parameters that are not in the module"
    whole = {p for name, p in named.items() if name not in trained and p not in inside}
    device = next(losses.parameters()).device
    mesh = init_device_mesh(device.type, (world_size(),))
    for module in modules:
        fully_shard(module, mesh=mesh)
    fully_shard(losses, mesh=mesh, ignored_params=whole)
    for module in filter(_gathers, losses.modules()):
        if device.type == "cpu":  # older versions of gloo sum, but take no mean
            module.set_force_sum_reduction_for_comms(True)  # type: ignore[operator]
    return losses


def local(tensor: Tensor) -> Tensor:
    """This process's share of a sharded tensor, without a copy; another tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor gathered from all processes; another tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def with_share(like: Tensor, share: Tensor) -> Tensor:
    """A tensor that is sharded as `like`, of which this process's share is given."""
    if not is_sharded(like):
        return share
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        share, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )


def shared_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which all processes have, on the device of `like`, and sharded if that is."""
    on_device = tensor.to(like.device)
    if not is_sharded(like) or tensor.shape != like.shape:
        return on_device
    from torch.distributed.tensor import distribute_tensor

    cut = distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
    return cut.clone()  # the whole tensor is freed


def total_norms(norms: Tensor, sharded: bool) -> Tensor:
    """Norms of whole tensors from those of this process's shares, (n_tensors,)."""
    if not sharded:
        return norms
    squares = norms.double().square()
    dist.all_reduce(squares)
    return squares.sqrt().to(norms.dtype)


def collected(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors in rank 0's main memory, gathered one after another; nothing elsewhere.

    Tensors that are not sharded are taken as they are.
    """
    wholes: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor)
        if rank() == 0:
            wholes[name] = gathered.cpu() if is_sharded(tensor) else tensor
    return wholes


@contextmanager
def whole_on_rank_0(model: nn.Module, device: torch.device) -> Iterator[None]:
    """In this block rank 0's model is a plain one with whole weights, which it can run and save.

    They are gathered one after another. The models of other processes must not be used.

    Args:
        device: where the whole weights are.
    """
    sharded: list[tuple[nn.Module, str, Any]] = [
        (module, name, p)
        for module in model.modules()
        for name, p in module._parameters.items()
        if p is not None and is_sharded(p)
    ]
    wholes: dict[nn.Parameter, nn.Parameter] = {}  # a tied one stays tied
    try:
        for module, name, p in sharded:
            if p not in wholes:
                gathered = p.detach().full_tensor()
                wholes[p] = nn.Parameter(gathered.to(device), p.requires_grad) if rank() == 0 else p
                del gathered
            module._parameters[name] = wholes[p]
        with ExitStack() as stack:
            for module in filter(_gathers, model.modules()):
                stack.enter_context(_without_gathering(module._forward_pre_hooks))
                stack.enter_context(_without_gathering(module._forward_hooks))
            yield
    finally:
        for module, name, p in sharded:
            module._parameters[name] = p


@contextmanager
def _without_gathering(hooks: dict[int, Any]) -> Iterator[None]:
    """In this block a module's hooks that gather and free its weights are not called."""
    before = dict(hooks)
    for key, hook in before.items():
        if hook.__module__.startswith("torch.distributed.fsdp"):
            del hooks[key]
    assert len(hooks) < len(before), "torch's hooks are not found"
    try:
        yield
    finally:  # transformers may have added some
        new = {key: hook for key, hook in hooks.items() if key not in before}
        hooks.clear()
        hooks.update(before | new)


@contextmanager
def exchanging(losses: nn.Module, now: bool) -> Iterator[None]:
    """Whether `backward` in this block exchanges the gradients; else they are only added up.

    Args:
        losses: sharded, wrapped by DistributedDataParallel, or neither, in one process.
    """
    if isinstance(losses, DistributedDataParallel) and not now:
        with losses.no_sync():
            yield
        return
    if _gathers(losses):
        losses.set_requires_gradient_sync(now)  # type: ignore[operator]
    yield


def free(losses: nn.Module) -> None:
    """Free gathered weights after a forward pass without a backward pass."""
    for module in losses.modules():
        if _gathers(module):
            module.reshard()  # type: ignore[operator]
