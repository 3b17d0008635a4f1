"""A moving average of the weights (Polyak & Juditsky 1992, https://doi.org/10.1137/0330046)."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """average <- decay * average + (1 - decay) * weight after every step, of parameters by name.

    These are all that train at any time: while one is frozen its average goes on towards its
    weights, and while it has never moved the two are equal, bit for bit. Early on the decay is
    (1 + n) / (10 + n) after n steps where that is less, so that the random first weights do not
    linger.
    """

    def __init__(self, model: nn.Module, decay: float, names: Collection[str]) -> None:
        self.decay = decay
        self._named = {n: p for n, p in model.named_parameters() if n in names}
        self._averages = {n: p.detach().clone() for n, p in self._named.items()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        weights = [p.detach() for p in self._named.values()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages inside the block, and its own weights again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self._named.items():
            p.data, self._averages[name] = self._averages[name], p.data

    def finish(self) -> None:
        """Leave the averages in the model for good."""
        self._swap()

    def raw_tensors(self) -> dict[str, Tensor]:
        """The model's own weights, `raw/NAME` for each: what a checkpoint's model does not hold."""
        return {f"raw/{name}": p.detach().clone() for name, p in self._named.items()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint, whose averages are in the model now."""
        for name, p in self._named.items():
            self._averages[name].copy_(p)
            p.copy_(state[f"raw/{name}"])
