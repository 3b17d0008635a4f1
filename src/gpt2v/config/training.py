"""One configuration for each type of training, and one for generating text."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from gpt2v.config.base import MOST, Config
from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.data import DataConfig
from gpt2v.config.effect import refuse_unused
from gpt2v.config.grids import GridConfig
from gpt2v.config.loop import TrainConfig, check_rates
from gpt2v.config.models import (
    FeaturesConfig,
    GPT2ModelConfig,
    TextTowerConfig,
    TokenizerConfig,
)
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.projectors import MLPOptions
from gpt2v.config.scenes import SceneConfig
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


class EncoderConfig(Config):
    """`gpt2v encoder train`: contrastive pre-training of a CLIP on captioned scenes.

    With a teacher, also or only distillation: the text tower is then the teacher's.
    """

    only_default: ClassVar[tuple[str, ...]] = (
        "train.stage_groups",
        "train.eval_windows",
        "train.shard",
    )

    tiles: TilesConfig = TilesConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    vision: VisionTower = Field(CLIP_TOWER, description="vision tower, with random weights")
    text: TextTowerConfig = TextTowerConfig()
    teacher: str | None = Field(
        None,
        description="encoder to learn from, patch by patch: a run of `encoder train` (path); its "
        "tokenizer, text tower and `projection_dim` are taken over; none: captions alone",
    )
    projection_dim: int = Field(
        128,
        ge=8,
        le=100_000,
        description="width of the embeddings that pictures and captions share",
    )
    scenes: SceneConfig = SceneConfig()
    global_weight: float = Field(
        0.25, ge=0, description="weight of the loss that matches scenes with captions"
    )
    region_weight: float = Field(
        1.0, ge=0, description="weight of the loss that names each object from its mean patch"
    )
    patch_weight: float = Field(
        0.25, ge=0, description="weight of the loss that names the object from each single patch"
    )
    teacher_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the loss that brings each patch to the teacher's; with a teacher, "
        "the other weights may be 0",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of each name's target that all names get, in the losses that name "
        "objects",
    )
    supervised_start: int = Field(
        0,
        ge=0,
        le=MOST,
        description="number of first steps that learn from the names of objects alone, as a linear "
        "classifier of regions and patches does: without the captions of scenes",
    )
    data_seed: int = Field(0, ge=0, description="seed of the training data")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="number of scenes per step")
    steps: int = Field(1000, ge=1, le=MOST, description="number of training steps")
    train: TrainConfig

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if not self.train.groups:
            raise ValueError("train.groups: required")
        if self.train.stage_groups:
            raise ValueError("train.stage_groups: the encoder's training has no stages")
        return self

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        check_rates(self.train)
        refuse_unused(self.train, ("eval_windows",), "the encoder reads no text", "train.")
        refuse_unused(self.train, ("shard",), "an encoder is never sharded", "train.")
        if self.supervised_start and not (self.region_weight or self.patch_weight):
            raise ValueError("supervised_start: needs region_weight or patch_weight above 0")
        if self.supervised_start >= self.steps and self.global_weight:
            raise ValueError(
                f"supervised_start: must be below the {self.steps} steps, or global_weight 0"
            )
        shape = self.vision.options
        sides = [shape.image_size // layout.lattice for layout in self.scenes.layouts]
        if max(sides) < 2 * shape.patch_size:
            why = "the vision's patches are larger than half of a cell"
            refuse_unused(self.scenes, ("cut",), why, "scenes.")
        names = ["global_weight", "region_weight", "patch_weight"]
        if self.teacher is None:
            refuse_unused(self, ("teacher_weight",), "there is no teacher")
        else:
            names.append("teacher_weight")
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"{', '.join(names)}: one must be above 0, or nothing trains")
        if not (self.region_weight or self.patch_weight):
            why = "region_weight and patch_weight are 0, so no object is named"
            refuse_unused(self, ("label_smoothing",), why)
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
