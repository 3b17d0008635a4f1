"""One configuration for each kind of experiment: what is trained, what is measured."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from gpt2v.config import (
    Config,
    FeaturesConfig,
    GPT2ModelConfig,
    TextTowerConfig,
    TilesConfig,
    TokenizerConfig,
    TrainConfig,
    VisionConfig,
    without_defaults,
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

    layouts: list[LayoutConfig] = Field(
        [LayoutConfig()], min_length=1, description="kinds of scene; each step draws one"
    )
    flip: bool = Field(True, description="mirror objects at random")
    jitter: float = Field(0.1, ge=0, lt=1, description="random change of contrast, brightness")
    cut: float = Field(
        0.0, ge=0, le=1, description="chance that part of a slot shows part of another object"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, dump(self), "cut")


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

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs of before there was a choice go on: they are written as they were.
        new = ("image_size", "class_token", "projector_from", "features")
        return without_defaults(self, dump(self), *new)


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("must name each once")
    return names


Modalities = Annotated[
    list[Literal["text", "image", "text+image"]], Field(min_length=1), AfterValidator(_each_once)
]


class SamplesConfig(Config):
    """`gpt2v data preview`: which samples are shown; keys of evaluations and exports are let be."""

    tiles: TilesConfig = TilesConfig()
    grid: GridConfig = GridConfig()
    split: Literal["train", "val", "test"] = Field("test", description="split of the tiles, grids")
    seed: int = Field(1, ge=0, description="data set seed")

    @model_validator(mode="after")
    def _never_goes_round(self) -> Self:
        _refuse(self.grid, ("n_images",), "it is for training")
        return self


class HeldOutConfig(SamplesConfig):
    """The grids that a model is measured on, with independent questions."""

    n_images: int = Field(1000, ge=2, description="grids")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")

    @model_validator(mode="after")
    def _grid_is_asked_in_each_modality(self) -> Self:
        if self.grid.mode != "independent":
            raise ValueError("grid.mode must be independent: each question is asked by itself")
        if self.grid.modality != "text":
            raise ValueError("grid.modality has no meaning here; set modalities")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, dump(self), "features")


class EvalConfig(HeldOutConfig):
    """`gpt2v eval`: what is measured, and on which grids."""

    modalities: Modalities = Field(["text", "image"], description="how the grids are shown")
    examples: int = Field(24, ge=0, description="pictures kept for the report")


class SuiteTilesConfig(Config):
    """A named suite, as it is, for one tile bank."""

    suite: str = Field(description="name of the suite; `gpt2v data suites` lists them")
    tiles: TilesConfig = TilesConfig()


class SuiteEvalConfig(SuiteTilesConfig):
    """`gpt2v eval --suite NAME`: a named suite, as it is, for one tile bank."""

    parts: list[str] | None = Field(None, min_length=1, description="measure these alone")
    modalities: Modalities = Field(["text", "image"], description="how the grids are shown")
    examples: int = Field(24, ge=0, description="pictures kept for the report")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, dump(self), "features")


class ExportConfig(SamplesConfig):
    """`gpt2v data export`: which samples are written for other tools."""

    n_images: int = Field(1000, ge=1, description="samples: the first so many of the split")
    shard_size: int = Field(500, ge=1, description="samples that are written, and kept, together")

    @model_validator(mode="after")
    def _holds_both_views(self) -> Self:
        if self.grid.modality != "text":
            raise ValueError("grid.modality has no meaning here: an export holds both views")
        return self


class SuiteExportConfig(SuiteTilesConfig):
    """`gpt2v data export SUITE`: every part of a named suite, with its own samples."""

    shard_size: int = Field(500, ge=1, description="samples that are written, and kept, together")


class ProbeConfig(Config):
    """Linear probes of the patch embeddings before the projector, one per grid cell."""

    tiles: TilesConfig = TilesConfig()
    model: str = Field(description="run of `mm train`, or its checkpoint")
    grid: GridConfig = GridConfig(modality="image")
    n_train: int = Field(4000, ge=10, description="training pictures")
    n_test: int = Field(1000, ge=10, description="held-out pictures")
    seed: int = Field(1, ge=0, description="data set seed; the test pictures are `eval`'s")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")

    @model_validator(mode="after")
    def _only_the_picture_counts(self) -> Self:
        _refuse(
            self.grid,
            ("instructions", "questions", "mode", "form", "patches", "augment"),
            "a probe sees every cell",
        )
        _refuse(self.grid, ("n_images",), "it is for training")
        if not self.grid.fixed or self.grid.picture.layout != "composite":
            raise ValueError("grid must have one size and the composite layout: a probe per cell")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, dump(self), "features")


class LadderConfig(HeldOutConfig):
    """The vision-token ladder of one GPT-2v."""

    model: str = Field(description="run of `mm train`, or its checkpoint")

    @model_validator(mode="after")
    def _starts_from_the_table(self) -> Self:
        _refuse(self.grid, ("form", "patches", "noise"), "the ladder starts from the table")
        return self


def _refuse(grid: GridConfig, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(grid, name) != GridConfig.model_fields[name].default:
            raise ValueError(f"grid.{name} has no meaning here: {why}")
