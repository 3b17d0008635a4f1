"""Training with several processes, as `torchrun` starts them.

Every process takes its slice of the global batch. DistributedDataParallel averages the gradients
(gloo on CPUs, NCCL on GPUs). Only rank 0 writes files.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device
from gpt2v.stopping import abandon

T = TypeVar("T")


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
    backend = "nccl" if on_gpu else "gloo"
    if not (dist.is_available() and getattr(dist, f"is_{backend}_available")()):
        raise UserError(f"torchrun: this torch was built without {backend}; use one process")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(backend)
    try:
        yield
    except BaseException as error:
        abandon(error)  # other processes may never answer the exchange that it has interrupted
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise UserError(
                "another process of this training has ended; rerun with --resume to continue"
            ) from None
        raise
    # The last exchange is freed in a thread of gloo that needs Python's lock. Ending the group
    # waits for this thread and holds the lock: they would wait for each other for ever.
    time.sleep(0.1)
    dist.destroy_process_group()


def sums(values: list[float], device: torch.device) -> list[float]:
    """Sum each value over all processes."""
    if world_size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64)
    total = total.to(device)
    dist.all_reduce(total)
    return [float(x) for x in total.cpu()]


def from_rank_0(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 only; every process gets its return value, or its UserError."""
    if world_size() == 1:
        return work()
    outcome: list[object] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except UserError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise UserError(str(outcome[1]))
    return outcome[0]  # type: ignore[return-value]


def rank_0_first(work: Callable[[], T]) -> T:
    """Call `work` on rank 0, then on the others, which can use the files that rank 0 wrote."""
    done: list[T] = []
    from_rank_0(lambda: done.append(work()))
    return done[0] if done else work()


class _Losses(nn.Module):
    """A model and its loss as one module, which DistributedDataParallel can wrap."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: object) -> Tensor:
        return self.loss(batch)


def parallel(model: nn.Module, loss: Callable[..., Tensor], unused: bool) -> nn.Module:
    """A module from a batch to its loss; with several processes, `backward` averages the gradients.

    Args:
        unused: whether some batches give some parameters no gradient.
    """
    losses = _Losses(model, loss)
    if world_size() == 1:
        return losses
    return DistributedDataParallel(losses, find_unused_parameters=unused, broadcast_buffers=False)
