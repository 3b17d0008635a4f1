"""The phases of a training: which steps have which parameter groups."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gpt2v.config.training import GroupConfig, TrainConfig
from gpt2v.train.optim import Optimizers, group_parameters


@dataclass(frozen=True)
class Phase:
    """Steps with the same groups: one optimizer, and one schedule over these steps alone."""

    name: str  # in logs; empty where there is nothing to tell apart
    start: int  # its first step
    steps: int
    groups: list[GroupConfig]
    key: str = "train.groups"  # where the configuration has the groups, for messages

    @property
    def end(self) -> int:
        """The step after its last one."""
        return self.start + self.steps

    def heading(self, done: int) -> str:
        """What stands above the list of its groups, once `done` steps of the training are."""
        place = f"{self.name}, steps {self.start} to {self.end - 1}: " if self.name else ""
        resumed = f" from step {done} on" if done > self.start else ""
        return f"{place}what trains{resumed}"

    def optimizers(self, model: nn.Module, config: TrainConfig) -> Optimizers:
        """Fresh ones, for its groups; freezes what they do not train, and drops old gradients."""
        own = config.model_copy(update={"groups": self.groups})
        return Optimizers(model, own, self.key)


def phases_of(plan: int | Sequence[Phase], config: TrainConfig) -> list[Phase]:
    """A plan's phases; a number of steps is one phase with the groups of `config`."""
    phases = [Phase("", 0, plan, config.groups)] if isinstance(plan, int) else list(plan)
    ends = [0, *(phase.end for phase in phases)]
    assert [phase.start for phase in phases] == ends[:-1], "phases follow each other"
    return phases


def left(phases: list[Phase], done: int) -> list[Phase]:
    """The phases that still have steps once `done` steps are; the last one if none has."""
    return [phase for phase in phases if phase.end > done] or phases[-1:]


def trained(model: nn.Module, phases: list[Phase]) -> set[str]:
    """Names of the parameters that train in any of the phases.

    Raises:
        UserError: the groups of some phase do not fit the model, or train nothing.
    """
    groups = [g for phase in phases for g in group_parameters(model, phase.groups, phase.key)]
    return {name for group in groups if not group.frozen for name in group.names}
