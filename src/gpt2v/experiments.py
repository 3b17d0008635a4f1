"""One configuration for each kind of training, and for sampling from what was trained."""

from typing import Self

from pydantic import Field, model_validator

from gpt2v.config import (
    Config,
    FeaturesConfig,
    GPT2ModelConfig,
    TextTowerConfig,
    TilesConfig,
    TokenizerConfig,
    TrainConfig,
    VisionConfig,
)
from gpt2v.specs import DataConfig, GridConfig


def _check_groups(data: DataConfig, train: TrainConfig) -> None:
    """Groups stand in the first stage or in `train`, and not in both: nothing is read twice."""
    own = data.stages[0].groups
    if own is None and not train.groups:
        raise ValueError(
            "train.groups: required, unless the first stage has its own (data.stages.0.groups)"
        )
    if own is not None and train.groups:
        raise ValueError("train.groups: never used, since data.stages.0.groups replaces them")


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


class SampleConfig(Config):
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


class LayoutConfig(Config):
    """One kind of scene: objects in the slots of a lattice."""

    lattice: int = Field(3, ge=1, le=8, description="slots along a side")
    scale: list[float] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="object side / slot side, from, to"
    )
    occupancy: float = Field(1.0, gt=0, le=1, description="chance that a slot holds an object")
    weight: float = Field(1.0, gt=0, description="share of this layout among all")


class SceneConfig(Config):
    """Captioned scenes of one to several objects of varied place and size."""

    added_later = ("cut",)

    layouts: list[LayoutConfig] = Field(
        [LayoutConfig()], min_length=1, description="kinds of scene; each step draws one"
    )
    flip: bool = Field(True, description="mirror objects at random")
    jitter: float = Field(0.1, ge=0, lt=1, description="random change of contrast, brightness")
    cut: float = Field(
        0.0, ge=0, le=1, description="chance that part of a slot shows part of another object"
    )


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
        return self


class MMConfig(Config):
    """`gpt2v mm train`: attach a vision tower to a GPT-2 and train both."""

    added_later = ("image_size", "class_token", "projector_from", "features")

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
    projector: str = Field(
        "mlp",
        description="from vision to GPT-2's width: linear, mlp (of averaged patches), average "
        "(after the mlp), pixel-shuffle (joined patches), convex (mixtures of words)",
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
