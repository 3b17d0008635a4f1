"""Training with several processes, as `torchrun` starts them.

Every process takes its slice of the global batch. DistributedDataParallel averages the gradients
(with gloo on CPUs, NCCL on GPUs). Only rank 0 writes files.

An exchange (`sums`, `from_rank_0`, the gradients) needs all processes. So what one process does
alone must have none in it; an assertion says so, also in a single process. Work whose files the
others need (`rank_0_first`) is waited for without an exchange.
"""

import inspect
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device
from gpt2v.stopping import abandon

T = TypeVar("T")

# An exchange waits so long for rank 0, which may validate or save meanwhile (gloo: 30 minutes, NCCL
# 10, if nothing is said). A process that ends is noticed at once.
_PATIENCE = timedelta(hours=24)
_LOOK_EVERY = 0.1  # seconds
_ENDED = "another process of this training has ended; rerun with --resume to continue"
_turns = itertools.count()  # of `rank_0_first`: the same in all processes
_is_alone = False  # whether this process does what the others do not


def rank() -> int:
    """Number of this process; 0 if there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes() -> Iterator[None]:
    """Join the processes that torchrun started, until the end of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    on_gpu = chosen_device().type == "cuda"
    # Numbers of the processor go through gloo also with GPUs, which are not waited for then.
    backends = {"cpu": "gloo", "cuda": "nccl"} if on_gpu else {"cpu": "gloo"}
    for backend in backends.values():
        if not (dist.is_available() and getattr(dist, f"is_{backend}_available")()):
            raise UserError(f"torchrun: this torch was built without {backend}; use one process")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    wanted = ",".join(f"{device}:{backend}" for device, backend in backends.items())
    dist.init_process_group(wanted, timeout=_PATIENCE)
    try:
        yield
    except BaseException as error:
        abandon(error)  # other processes may never answer the exchange that it has interrupted
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise UserError(_ENDED) from None
        raise
    # The last exchange is freed in a thread of gloo that needs Python's lock. Ending the group
    # waits for this thread and holds the lock: they would wait for each other for ever.
    time.sleep(0.1)
    dist.destroy_process_group()


@contextmanager
def _alone() -> Iterator[None]:
    """No exchange may be in this block, because the other processes do not come to it."""
    global _is_alone
    _check_together()
    _is_alone = True
    try:
        yield
    finally:
        _is_alone = False


def _check_together() -> None:
    assert not _is_alone, "an exchange in work that one process does alone: it would never end"


def sums(values: list[float]) -> list[float]:
    """Sum each value over all processes."""
    _check_together()
    if world_size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return [float(x) for x in total]


def from_rank_0(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 only; every process gets its return value, or its UserError.

    `work` must not exchange anything with other processes.
    """
    if world_size() == 1:
        with _alone():
            return work()
    _check_together()
    outcome: list[object] = [None, None]
    if rank() == 0:
        try:
            with _alone():
                outcome[0] = work()
        except UserError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise UserError(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]


def all_agree(check: Callable[[], None]) -> None:
    """Call `check` in every process; a UserError of any one is raised in all."""
    fault = None
    try:
        check()
    except UserError as error:
        fault = str(error)
    _check_together()
    faults = [fault]
    if world_size() > 1:
        faults = [None] * world_size()
        dist.all_gather_object(faults, fault)
    for fault in filter(None, faults):
        raise UserError(fault)


def rank_0_first(work: Callable[[], T]) -> T:
    """Call `work` on rank 0, then on the others, which can use the files that rank 0 wrote.

    It may take hours: the others look again and again whether it is done. All processes must call
    this. A UserError on rank 0 is raised on all.
    """
    _check_together()
    if world_size() == 1:
        return work()
    store = dist.distributed_c10d._get_default_store()
    turn = next(_turns)
    done, fault = (f"gpt2v/{turn}/{name}" for name in ("done", "fault"))
    if rank() == 0:
        try:
            return work()
        except BaseException as error:
            store.set(fault, str(error) if isinstance(error, UserError) else _ENDED)
            raise
        finally:
            store.set(done, "")
    while not store.check([done]):
        time.sleep(_LOOK_EVERY)
    if store.check([fault]):
        raise UserError(store.get(fault).decode())
    return work()


class Losses(nn.Module):
    """A model and its loss as one module from a batch to its loss, which torch can wrap."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: object) -> Tensor:
        _check_together()
        return self.loss(batch)


def parallel(model: nn.Module, loss: Callable[..., Tensor], unused: bool) -> nn.Module:
    """A module from a batch to its loss; with several processes, `backward` averages the gradients.

    Args:
        unused: whether some batches give some parameters no gradient.
    """
    losses = Losses(model, loss)
    if world_size() == 1:
        return losses
    for buffer in model.buffers():  # computed ones may have another sign elsewhere
        dist.broadcast(buffer, src=0)
    if unused:  # always, so that torch does not warn of a first batch that uses all parameters
        like = next(model.parameters())
        losses.register_parameter("never_used", nn.Parameter(like.new_zeros(())))
    return DistributedDataParallel(losses, find_unused_parameters=unused, **_NO_BUFFERS)


# Buffers begin equal, and only statistics of batches change, which no training reads: rank 0
# measures and saves its own. torch 2.13 has a new name for it.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_NEW, _OLD = "forward_sync_buffers", "broadcast_buffers"
_NO_BUFFERS: dict[str, Any] = {_NEW if _NEW in _OPTIONS else _OLD: False}
