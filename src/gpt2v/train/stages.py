"""The stages of a training: which steps train which parameter groups."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from gpt2v.config.loop import GroupConfig, TrainConfig
from gpt2v.train.optim import Optimizers, group_parameters


@dataclass(frozen=True)
class Stage:
    """Steps with the same groups. Optimizers and schedules start anew with each stage."""

    name: str  # in logs; empty if the training has one stage without a name
    start: int  # its first step
    steps: int
    groups: list[GroupConfig]
    key: str = "train.groups"  # key of the groups in the configuration, for messages

    @property
    def end(self) -> int:
        """The step after its last one."""
        return self.start + self.steps

    def heading(self, done: int) -> str:
        """The line above the list of its groups, when `done` steps of the training are done."""
        which = f"{self.name}, steps {self.start} to {self.end - 1}: " if self.name else ""
        resumed = f" from step {done} on" if done > self.start else ""
        return f"{which}what trains{resumed}"

    def optimizers(self, model: nn.Module, config: TrainConfig) -> Optimizers:
        """New optimizers for its groups; freezes the other parameters and deletes old gradients."""
        own = config.model_copy(update={"groups": self.groups})
        return Optimizers(model, own, self.key)


def stages_of(plan: int | Sequence[Stage], config: TrainConfig) -> list[Stage]:
    """The stages of a plan; a number of steps is one stage with the groups of `config`."""
    stages = [Stage("", 0, plan, config.groups)] if isinstance(plan, int) else list(plan)
    ends = [0, *(stage.end for stage in stages)]
    assert [stage.start for stage in stages] == ends[:-1], "stages must follow each other"
    return stages


def remaining(stages: list[Stage], done: int) -> list[Stage]:
    """The stages that have steps left after `done` steps; if none has, the last stage."""
    return [stage for stage in stages if stage.end > done] or stages[-1:]


def trained(model: nn.Module, stages: list[Stage]) -> set[str]:
    """Names of the parameters that train in any of the stages.

    Raises:
        UserError: the groups of a stage do not fit the model, or train nothing.
    """
    groups = [g for stage in stages for g in group_parameters(model, stage.groups, stage.key)]
    return {name for group in groups if not group.frozen for name in group.names}
