"""A moving average of the weights (Polyak & Juditsky 1992, https://doi.org/10.1137/0330046)."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gpt2v.train.sharding import local, shared_as


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a training changes, by name: means and variances of batch normalisation."""
    return {n: b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))}


class Averages:
    """After every step, average <- decay * average + (1 - decay) * weight, for each parameter.

    So are the running statistics of batch normalisation: they belong to the weights.

    After n steps the decay is at most (1 + n) / (10 + n), so that the random first weights soon
    have no effect.

    Args:
        names: parameters that train in any stage. While one is frozen, its average still moves
            towards its weights; before it first trains, the two are equal, bit for bit.
    """

    def __init__(self, model: nn.Module, decay: float, names: Collection[str]) -> None:
        self.decay = decay
        self._named: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if n in names}
        self._named |= running_statistics(model)
        self._averages = {n: local(p.detach()).clone() for n, p in self._named.items()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Update the averages with the weights after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        weights = [local(p.detach()) for p in self._named.values()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the model inside the block; its own weights return after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self._named.items():
            average = self._averages[name]
            if local(p) is p:
                p.data, self._averages[name] = average, p.data
            else:  # the memory of a share is that of its module, too
                weight = local(p).clone()
                local(p).copy_(average)
                average.copy_(weight)

    def finish(self) -> None:
        """Put the averages into the model permanently."""
        self._swap()

    def raw_tensors(self) -> dict[str, Tensor]:
        """The model's own weights, `raw/NAME` for each. A checkpoint's model holds the averages."""
        return {f"raw/{name}": p.detach().clone() for name, p in self._named.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Resume from a checkpoint: the model holds its averages now, `state` its `raw_tensors`."""
        for name, p in self._named.items():
            self._averages[name].copy_(local(p))
            if (raw := state.get(f"raw/{name}")) is not None:  # older checkpoints have no buffers
                local(p).copy_(local(shared_as(raw, p)))
