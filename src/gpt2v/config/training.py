"""Configurations of LM-Train and MM-Train, and of generating text."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.data import DataConfig
from gpt2v.config.effect import refuse_unused
from gpt2v.config.grids import GridConfig
from gpt2v.config.loop import TrainConfig, check_rates
from gpt2v.config.models import FeaturesConfig, GPT2ModelConfig, TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.projectors import MLPOptions
from gpt2v.config.towers import CLIP_TOWER, VisionTower
from gpt2v.registry import ENCODER_FAMILIES, PROJECTORS, TOKEN_SOURCES


def _check_groups(data: DataConfig, train: TrainConfig) -> None:
    """Check that each stage has groups: its own, those of the stage before, or `train.groups`."""
    names = data.stage_names
    for name in train.stage_groups:
        if names.count(name) != 1:
            many = "several stages have" if name in names else "no stage has"
            raise ValueError(
                f"train.stage_groups.{name}: {many} this name; the stages are {', '.join(names)}"
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
    """`gpt2v lm train`: pre-train a GPT-2 on grids as text, on plain text, or on both."""

    only_default: ClassVar[tuple[str, ...]] = (
        "data.stages.*.mix.*.modality",
        "data.stages.*.mix.*.picture",
    )

    tiles: TilesConfig = TilesConfig()
    init: str | None = Field(
        None,
        description="GPT-2 to start from, with its tokenizer: a run, a checkpoint or a hub id; "
        "none: random weights, with the shape in `model` and the tokenizer in `tokenizer`",
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

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        check_rates(self.train)
        self.data.check_views(hides_text=False)
        if self.model.dropout is None and self.init is None:
            raise ValueError("model.dropout: none needs init")
        return self


class GenerateConfig(Config):
    """`gpt2v lm sample`: how text is generated."""

    n: int = Field(1, ge=1, le=1_000_000, description="number of samples for each prompt")
    max_new_tokens: int = Field(
        200, ge=1, le=1_000_000, description="maximum number of tokens after the prompt"
    )
    temperature: float = Field(
        0.8,
        ge=0,
        allow_inf_nan=False,
        description="divides the logits; 0: always take the most likely token",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="choose among this many most likely tokens; none: all tokens",
    )
    top_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="choose among the fewest most likely tokens that together have at least this "
        "probability; none: all tokens",
    )
    bos: bool | None = Field(
        None,
        description="put <|endoftext|> before each prompt, as before each text in training; none: "
        "yes, unless the run was trained on grids only",
    )
    seed: int = Field(0, ge=0, description="seed of the random choices")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken: dividing by lower temperatures can overflow."""
        return self.temperature < 1e-6

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        if self.greedy:
            why = f"temperature: {self.temperature:g} takes the most likely token"
            refuse_unused(self, ("top_k", "top_p"), why)
        return self


class MMConfig(Config):
    """`gpt2v mm train`: attach a vision tower to a GPT-2 and train the result, a GPT-2v."""

    tiles: TilesConfig = TilesConfig()
    lm: str = Field(
        description="GPT-2: a run of `lm train`, or any GPT-2 checkpoint (path or hub id)"
    )
    encoder: str | None = Field(
        None,
        description="vision tower: a run of `encoder train`, or any CLIP, SigLIP or DINOv2 "
        "checkpoint (path or hub id); none: random weights, as `vision` says",
    )
    encoder_family: Annotated[Choice | None, OneOf(ENCODER_FAMILIES, optional=True)] = Field(
        None, description="family of the encoder; none: the one of the checkpoint's type"
    )
    image_size: int | None = Field(
        None, ge=8, le=4096, description="side of the pictures in pixels; none: that of the encoder"
    )
    vision: VisionTower = Field(
        CLIP_TOWER,
        description="vision tower and its shape; with an encoder, those of the encoder",
    )
    vision_layer: int = Field(
        -1, description="layer to read: index into the vision tower's hidden_states; -1: the last"
    )
    class_token: bool = Field(
        False, description="add the encoder's class token as one more vision token"
    )
    pool: int = Field(
        1, ge=1, le=1024, description="each pool x pool patches become one vision token"
    )
    projector: Annotated[Choice, OneOf(PROJECTORS, "mlp")] = Field(
        Choice("mlp", PROJECTORS, MLPOptions()),
        description="projector from the vision tower's width to the GPT-2's",
    )
    vision_tokens: Annotated[Choice, OneOf(TOKEN_SOURCES, "patches")] = Field(
        Choice("patches", TOKEN_SOURCES),
        description="token source: the embeddings at the image positions",
    )
    projector_from: str | None = Field(
        None,
        description="GPT-2v (a run or a checkpoint) to copy the projector's weights from; none: "
        "random weights",
    )
    features: FeaturesConfig = Field(FeaturesConfig(), description="cache of features")
    data: DataConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        _check_groups(self.data, self.train)
        return self

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        check_rates(self.train)
        hides_text = self.vision_tokens in ("patches", "cell-embeddings")
        self.data.check_views(hides_text)
        if self.encoder is None and self.image_size is not None:
            raise ValueError("image_size: needs an encoder; without one, set vision.image_size")
        if self.encoder is None and self.encoder_family is not None:
            raise ValueError("encoder_family: needs an encoder")
        if self.features.mode == "require" and not self.data.has_pictures:
            raise ValueError("features.mode: require, but no stage shows pictures")
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
