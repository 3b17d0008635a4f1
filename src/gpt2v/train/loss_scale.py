"""The loss scale of fp16 (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740).

Small gradients are 0 in fp16, so the loss is multiplied by a scale before the backward pass, and
the gradients are divided by it after. If they overflow, the step is skipped and the scale is
halved; after many good steps in a row it is doubled.

The rule and its numbers are those of `torch.amp.GradScaler`, which cannot be used here: it decides
for each optimizer, so that a step could be half taken, and it needs a gradient in every step. Here
a step is taken or skipped as a whole, by the norm of the whole gradient, which is the same in all
processes.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

_GROWTH_INTERVAL = 2000  # good steps in a row until the scale is doubled
_LOWEST = 1.0


@dataclass(frozen=True)
class ScaleState:
    """What a resumed training needs."""

    scale: float = 2.0**16
    good_steps: int = 0  # in a row


class LossScale:
    """The scale, and how many steps were skipped. Off, it is 1, and no step may be skipped.

    Args:
        on: whether the training is in fp16.
        state: of a checkpoint; none: a new training, or one that was not in fp16.
    """

    def __init__(self, on: bool, state: ScaleState | None = None) -> None:
        self._on = on
        self._state = state or ScaleState()
        self._skipped = 0  # since the last call of `read`

    @property
    def factor(self) -> float:
        """What the loss is multiplied by, a power of two."""
        return self._state.scale if self._on else 1.0

    @property
    def state(self) -> ScaleState | None:
        """For a checkpoint; none if it is off."""
        return self._state if self._on else None

    def unscale(self, model: nn.Module) -> None:
        """Divide the gradients by the scale, in place."""
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        if self._on and grads:
            torch._foreach_mul_(grads, 1 / self.factor)

    def may_skip(self) -> bool:
        """Whether a gradient that is not finite may be due to the scale."""
        return self._on and self.factor > _LOWEST

    def update(self, finite: bool) -> None:
        """Adapt the scale after a step, which was skipped if the gradient was not finite."""
        if not self._on:
            return
        good = self._state.good_steps + 1
        if not finite:
            self._skipped += 1
            self._state = ScaleState(self._state.scale / 2)
        elif good < _GROWTH_INTERVAL:
            self._state = replace(self._state, good_steps=good)
        else:
            self._state = ScaleState(self._state.scale * 2)

    def read(self) -> dict[str, float]:
        """For the log: the scale, and the steps that were skipped since the last call."""
        if not self._on:
            return {}
        skipped, self._skipped = self._skipped, 0
        return {"loss_scale": self.factor, "skipped_steps": skipped}
