"""One configuration for each kind of training, and for sampling from what was trained."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import (
    FeaturesConfig,
    GPT2ModelConfig,
    TextTowerConfig,
    TokenizerConfig,
    VisionConfig,
)
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.projectors import MLPOptions
from gpt2v.config.scenes import SceneConfig
from gpt2v.registry import PROJECTORS, TOKEN_SOURCES, Choice

Schedule = Literal["constant", "linear", "cosine", "wsd"]


class GroupConfig(Config):
    """Parameters whose name matches `pattern`; the first matching group takes a parameter."""

    name: str = Field(description="name of the group in logs")
    pattern: str = Field(description="regular expression, searched in the parameter's name")
    lr: float = Field(1e-3, ge=0, description="peak learning rate; 0 freezes the group")
    weight_decay: float = Field(0.0, ge=0, description="decoupled decay of matrices only")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: matrices only")
    schedule: Schedule | None = Field(None, description="none: train.schedule")
    warmup: int | None = Field(None, ge=0, description="steps; none: train.warmup")

    @model_validator(mode="after")
    def _pattern_compiles(self) -> Self:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern is not a regular expression: {error}") from None
        return self


def _by_name(groups: Any) -> Any:
    """A stage's number is its name, however YAML reads it."""
    if not isinstance(groups, dict):
        return groups
    return {str(key) if isinstance(key, int) else key: value for key, value in groups.items()}


class TrainConfig(Config):
    """The training loop."""

    seed: int = Field(0, ge=0, description="seed of weights and dropout")
    groups: list[GroupConfig] = Field([], description="parameter groups, in order")
    stage_groups: Annotated[
        dict[str, Annotated[list[GroupConfig], Field(min_length=1)]], BeforeValidator(_by_name)
    ] = Field(
        {},
        description="groups of single stages, by name or number, each with a fresh optimizer and a "
        "schedule over its own steps; a stage without goes on as the one before it",
    )
    schedule: Schedule = Field(
        "cosine", description="learning rate after warm-up; all but constant end at zero"
    )
    warmup: int = Field(20, ge=0, description="steps of linear warm-up")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the whole gradient")
    accumulate: int = Field(
        1, ge=1, description="micro-batches that each process cuts its share of a batch into"
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of a moving average of the weights; it is measured"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: autocast, where the hardware has it"
    )
    compile: bool = Field(False, description="torch.compile; eager where that fails")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    eval_every: int = Field(0, ge=0, description="steps between validations; 0: only at the end")
    eval_grids: int = Field(200, ge=1, description="validation grids")
    eval_windows: int = Field(200, ge=1, description="validation windows of each corpus, at most")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0: only at the end")
    keep: int = Field(2, ge=1, description="newest checkpoints kept, beside the best one")
    tensorboard: bool = Field(True, description="write TensorBoard files too")
    wandb: str | None = Field(None, description="project of Weights & Biases, where installed")


def _check_groups(data: DataConfig, train: TrainConfig) -> None:
    """Each stage has groups: its own, those of the stage before, or at first `train.groups`."""
    names = data.stage_names
    for name in train.stage_groups:
        if names.count(name) != 1:
            many = "several stages have" if name in names else "no stage has"
            raise ValueError(
                f"train.stage_groups.{name}: {many} this name; there are {', '.join(names)}"
            )
    own = names[0] in train.stage_groups
    if not own and not train.groups:
        raise ValueError(
            f"train.groups: required, unless the first stage has its own "
            f"(train.stage_groups.{names[0]})"
        )
    if own and train.groups:
        raise ValueError(
            f"train.groups: never used, since train.stage_groups.{names[0]} replaces them"
        )


class LMConfig(Config):
    """`gpt2v lm train`: pre-train a GPT-2 on text grids, on plain text, or on both."""

    tiles: TilesConfig = TilesConfig()
    init: str | None = Field(
        None,
        description="GPT-2 to start from, with its tokenizer: a run, a checkpoint or a hub id; "
        "none: random weights, of the shape that `model` gives",
    )
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: GPT2ModelConfig = GPT2ModelConfig()
    data: DataConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _text_only(self) -> Self:
        for i, stage in enumerate(self.data.stages):
            for j, spec in enumerate(stage.mix):
                if isinstance(spec, GridConfig) and spec.modality != "text":
                    raise ValueError(f"data.stages.{i}.mix.{j}.modality must be text in LM-Train")
        return self

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        _check_groups(self.data, self.train)
        return self


class GenerateConfig(Config):
    """`gpt2v lm sample`: how tokens are drawn, and how many."""

    n: int = Field(1, ge=1, description="samples of each prompt")
    max_new_tokens: int = Field(200, ge=1, description="tokens after the prompt, at most")
    temperature: float = Field(
        0.8, ge=0, allow_inf_nan=False, description="divides the logits; 0: the likeliest token"
    )
    top_k: int | None = Field(None, ge=1, description="draw from the k likeliest tokens only")
    top_p: float | None = Field(
        None, gt=0, le=1, description="draw from the fewest tokens that have this probability"
    )
    bos: bool | None = Field(
        None,
        description="<|endoftext|> before a prompt, as before every text in training; none: "
        "unless the run has read grids only, which have none",
    )
    seed: int = Field(0, ge=0, description="of the draws, which the prompt's number enters too")


class EncoderConfig(Config):
    """`gpt2v encoder train`: contrastive CLIP pre-training on captioned scenes."""

    tiles: TilesConfig = TilesConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    vision: VisionConfig = VisionConfig()
    text: TextTowerConfig = TextTowerConfig()
    projection_dim: int = Field(128, ge=8, description="width of the shared embedding")
    scenes: SceneConfig = SceneConfig()
    global_weight: float = Field(0.25, ge=0, description="weight of the scene-to-caption term")
    region_weight: float = Field(1.0, ge=0, description="weight of objects naming themselves")
    patch_weight: float = Field(0.25, ge=0, description="weight of single patches doing so")
    data_seed: int = Field(0, ge=0, description="data set seed")
    batch_size: int = Field(64, ge=1, description="scenes per step")
    steps: int = Field(1000, ge=1, description="training steps")
    train: TrainConfig

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if not self.train.groups:
            raise ValueError("train.groups: required")
        if self.train.stage_groups:
            raise ValueError("train.stage_groups: the encoder's training has no stages")
        return self


class MMConfig(Config):
    """`gpt2v mm train`: attach a vision tower to a GPT-2 and train both."""

    tiles: TilesConfig = TilesConfig()
    lm: str = Field(description="run of `lm train`, or any GPT-2 checkpoint (path or hub id)")
    encoder: str | None = Field(
        None,
        description="run of `encoder train`, or any CLIP, SigLIP or DINOv2 checkpoint (path or hub "
        "id); none: random weights",
    )
    image_size: int | None = Field(
        None, ge=8, description="side of pictures in pixels; none: the encoder's own"
    )
    vision: VisionConfig = Field(VisionConfig(), description="only used where encoder is none")
    vision_layer: int = Field(-1, description="index into the vision tower's hidden_states")
    class_token: bool = Field(False, description="show the encoder's class token too")
    pool: int = Field(1, ge=1, description="patches along a side that become one vision token")
    projector: Annotated[Choice, OneOf(PROJECTORS, "mlp")] = Field(
        Choice("mlp", PROJECTORS, MLPOptions()), description="from vision to GPT-2's width"
    )
    vision_tokens: Annotated[Choice, OneOf(TOKEN_SOURCES, "patches")] = Field(
        Choice("patches", TOKEN_SOURCES), description="what stands at the image positions"
    )
    projector_from: str | None = Field(
        None, description="GPT-2v (a run or a checkpoint) whose projector this one starts from"
    )
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of a frozen encoder")
    data: DataConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        _check_groups(self.data, self.train)
        return self

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        """Only `patches` reads pictures, alone or beside words."""
        if self.vision_tokens == "patches":
            return self
        if self.features.mode == "require":
            raise ValueError(f"features.mode: require, but {self.vision_tokens} reads no pictures")
        for key, spec in self.data.specs:
            if isinstance(spec, GridConfig) and spec.modality == "text+image":
                raise ValueError(f"{key}modality: text+image needs vision_tokens: patches")
        return self
