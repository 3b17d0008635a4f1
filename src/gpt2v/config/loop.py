"""Settings of the training loop: parameter groups, schedule, logs and checkpoints."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gpt2v.config.base import MOST, Config
from gpt2v.config.effect import EffectConfig, refuse_unused

Schedule = Literal["constant", "linear", "cosine", "wsd"]


class GroupConfig(Config):
    """Settings of the parameters whose names match `pattern`; the first group that matches wins."""

    name: str = Field(description="name of the group in logs")
    pattern: str = Field(description="regular expression to search for in parameter names")
    lr: float = Field(
        1e-3,
        ge=0,
        description="peak learning rate; 0: the group is frozen, whatever its other settings",
    )
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, of matrices only")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="optimizer; muon: for hidden matrices, adamw for the rest"
    )
    momentum: float = Field(
        0.95,
        ge=0,
        lt=1,
        description="muon: share of its past in the moving average of a matrix's gradient",
    )
    schedule: Schedule | None = Field(
        None, description="learning rate schedule; none: train.schedule"
    )
    warmup: int | None = Field(
        None, ge=0, le=MOST, description="steps of linear warm-up; none: train.warmup"
    )

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from None
        return self

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        if self.optimizer != "muon":
            refuse_unused(self, ("momentum",), f"optimizer: {self.optimizer} has its own")
        return self


def _named_apart(groups: list[GroupConfig]) -> list[GroupConfig]:
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1 or name == "total":
            taken = "two groups have" if name != "total" else "the whole gradient has"
            raise ValueError(f"{taken} the name {name}; logs and clipping need different names")
    return groups


_Groups = Annotated[list[GroupConfig], AfterValidator(_named_apart)]


def _by_name(groups: Any) -> Any:
    """Turn the numbers of stages, which YAML reads as integers, into strings."""
    if not isinstance(groups, dict):
        return groups
    named = {str(key) if type(key) is int else key: value for key, value in groups.items()}
    if len(named) < len(groups):
        raise ValueError("a stage is given twice, by its number and in quotes")
    return named


class TrainConfig(EffectConfig):
    """Settings of the training loop."""

    changeable: ClassVar[tuple[str, ...]] = ("shard",)

    seed: int = Field(0, ge=0, description="seed of random weights and dropout")
    groups: _Groups = Field(
        [], description="parameter groups; for each parameter the first match is used"
    )
    stage_groups: Annotated[
        dict[str, Annotated[_Groups, Field(min_length=1)]], BeforeValidator(_by_name)
    ] = Field(
        {},
        description="parameter groups of single stages, by the stage's name or number; such stages "
        "start with a new optimizer and schedule, the others continue the stage before",
    )
    schedule: Schedule = Field(
        "cosine", description="learning rate after warm-up; all but constant end at 0"
    )
    warmup: int = Field(20, ge=0, le=MOST, description="steps of linear warm-up")
    clip: float | None = Field(
        1.0,
        gt=0,
        allow_inf_nan=True,
        description="maximum norm of the gradient; none: no clipping",
    )
    accumulate: int = Field(
        1, ge=1, le=100_000, description="number of micro-batches per step and process"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per step of a moving average of the weights, which validation and "
        "checkpoints use; none: no average",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="bf16, fp16: autocast, if the hardware supports it; else fp32, which is said; "
        "fp16: with a loss scale, for cards without bf16 (T4, V100)",
    )
    tf32: bool = Field(
        False,
        description="fp32 products in TF32 on cards that have it: faster, with 10 bits of mantissa",
    )
    compile: bool = Field(False, description="use torch.compile; if it fails, train without")
    shard: bool = Field(
        False,
        description="with several processes: cut weights, gradients and optimizer state into a "
        "share for each (FSDP2), for models too large for one card",
    )
    log_every: int = Field(10, ge=1, le=MOST, description="steps between lines of metrics.jsonl")
    eval_every: int = Field(
        0, ge=0, le=MOST, description="steps between validations; 0: only at the end"
    )
    eval_grids: int = Field(200, ge=1, le=10_000_000, description="number of validation grids")
    eval_windows: int = Field(
        200, ge=1, le=10_000_000, description="maximum number of validation windows of each corpus"
    )
    save_every: int = Field(
        0, ge=0, le=MOST, description="steps between checkpoints; 0: only at the end"
    )
    keep: int = Field(
        2,
        ge=1,
        le=1_000_000,
        description="number of newest checkpoints to keep; the best one is kept too",
    )
    tensorboard: bool = Field(True, description="also write TensorBoard files")
    wandb: str | None = Field(
        None, description="project of Weights & Biases to log to; none: do not log there"
    )

    @property
    def without_effect(self) -> dict[str, str]:
        """Keys of the fields that have no effect, each with the reason."""
        if self.precision == "fp32":
            return {}
        return {"tf32": f"products are in {self.precision} (precision)"}


def check_rates(train: TrainConfig) -> None:
    """Refuse a schedule or a warm-up for all groups, if every group that trains has its own."""
    every = [*train.groups, *(group for own in train.stage_groups.values() for group in own)]
    trained = [group for group in every if group.lr > 0]
    for name in ("schedule", "warmup"):
        if trained and all(getattr(group, name) is not None for group in trained):
            refuse_unused(train, (name,), "every group has its own", "train.")
