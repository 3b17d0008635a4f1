"""The parts of every configuration, as pydantic models: frozen, strict, without unknown keys.

`specs` has those of the data; `experiments` and `measurements` put them together, and `configfile`
reads them from YAML and the command line.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Config(BaseModel):
    """Base of all configurations.

    Fields in `added_later` are written only where they differ from their defaults, so equal data
    keeps an equal hash, and runs that began without them go on.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    added_later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        for name in self.added_later:
            if getattr(self, name) == type(self).model_fields[name].default:
                found.pop(name, None)
        return found


# ---- tiles and tokenizers ---------------------------------------------------------------------


MAX_SPRITES = 2**30  # of one class in one split; three splits and 2**32 seeds fill 64 bits


class TileAugmentConfig(Config):
    """How the picture of an object varies from one sample to the next."""

    flip: bool = Field(False, description="mirror every other tile")
    crop: float = Field(
        0.0, ge=0, lt=1, description="cut up to this share off a tile's side, and resize the rest"
    )
    jitter: float = Field(
        0.0, ge=0, le=1, description="brightness, contrast and colour, each by up to this share"
    )
    blur: float = Field(0.0, ge=0, le=16, description="Gaussian blur of up to this sigma in pixels")
    noise: float = Field(
        0.0, ge=0, le=255, description="normal noise of up to this deviation in grey levels"
    )


class TilesConfig(Config):
    """Where the small pictures of single objects come from."""

    added_later = ("decode", "corrupt", "augment")

    source: Literal["sprites", "cifar10", "cifar100", "folder"] = Field(
        "sprites", description="tile bank"
    )
    path: str | None = Field(
        None,
        description="folder of the pictures; cifar10, cifar100: or a hub id, none: uoft-cs/...",
    )
    size: int = Field(32, ge=4, le=512, description="side of a tile in pixels")
    per_class: int = Field(
        1000, ge=10, le=MAX_SPRITES, description="training sprites per class; val, test: a tenth"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="which sprites are drawn")
    decode: Literal["once", "on-the-fly"] = Field(
        "once", description="folder: hold decoded tiles in memory, or decode what is asked for"
    )
    corrupt: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do with pictures that cannot be read"
    )
    augment: TileAugmentConfig = Field(TileAugmentConfig(), description="how tiles vary")

    @model_validator(mode="after")
    def _decodes_files(self) -> Self:
        if self.decode == "on-the-fly" and self.source != "folder":
            raise ValueError("decode: on-the-fly needs source: folder")
        return self


class TokenizerConfig(Config):
    """Byte-level BPE trained on our own corpora, or GPT-2's own."""

    source: str = Field(
        "trained", description="'trained', a folder with tokenizer files, or a hub id such as gpt2"
    )
    vocab_size: int = Field(1024, ge=259, description="trained: size of the vocabulary, at most")


# ---- pictures --------------------------------------------------------------------------------


_Level = Annotated[int, Field(ge=0, le=255)]


class PictureConfig(Config):
    """How a grid is drawn; corruptions among it belong to the picture, whatever its split."""

    layout: Literal["composite", "multi"] = Field(
        "composite", description="one picture of the whole grid, or one for each cell"
    )
    cell: int | None = Field(
        None, ge=4, le=512, description="pixels of a cell's side; none: tiles.size"
    )
    gap: int = Field(0, ge=0, le=256, description="pixels between cells")
    border: int = Field(0, ge=0, le=256, description="pixels around the grid")
    background: list[_Level] = Field(
        [128, 128, 128], min_length=3, max_length=3, description="red, green, blue; 0 to 255"
    )
    scale: list[Annotated[float, Field(ge=0.1, le=1)]] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="tile side / cell side, from, to"
    )
    jitter: int = Field(
        0, ge=0, le=256, description="pixels that a tile is off its cell's middle, at most"
    )
    blur: float = Field(0.0, ge=0, le=16, description="of the whole picture: sigma in pixels")
    noise: float = Field(0.0, ge=0, le=128, description="of the whole picture: grey levels")
    resize: bool = Field(
        False, description="scale pictures to the vision tower's size; else they keep theirs"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be [smallest, largest]")
        if self.jitter and self.scale[0] == 1:
            raise ValueError("jitter needs a scale below 1: other tiles fill their cells")
        return self


def _off(mode: Any) -> Any:
    return "off" if mode is False else mode  # YAML 1.1 reads a bare `off` as false


class FeaturesConfig(Config):
    """Features of a frozen vision tower: computed once for each picture and kept on the disk."""

    mode: Annotated[Literal["auto", "off", "require"], BeforeValidator(_off)] = Field(
        "auto",
        description="auto: where it can be (evaluations and probes: if they are there already); "
        "off: never; require: else refuse",
    )
    path: str | None = Field(
        None, description="folder of the caches; none: gpt2v/features in the user's cache"
    )
    max_gb: float = Field(4.0, gt=0, description="auto, require: largest cache in GB")


# ---- training --------------------------------------------------------------------------------


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


class TrainConfig(Config):
    """The training loop."""

    seed: int = Field(0, ge=0, description="seed of weights and dropout")
    groups: list[GroupConfig] = Field([], description="parameter groups, in order")
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


# ---- models ----------------------------------------------------------------------------------


class GPT2ModelConfig(Config):
    """A GPT-2 from random weights; the names are `transformers.GPT2Config`'s."""

    n_layer: int = Field(2, ge=1, description="transformer blocks")
    n_head: int = Field(4, ge=1, description="attention heads")
    n_embd: int = Field(128, ge=8, description="width")
    n_positions: int = Field(512, ge=8, description="longest context in tokens")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout everywhere")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} must be a multiple of n_head {self.n_head}")
        return self


class VisionConfig(Config):
    """A CLIP vision tower from random weights; the names are `transformers.CLIPVisionConfig`'s."""

    image_size: int = Field(96, ge=8, description="side of the picture in pixels")
    patch_size: int = Field(16, ge=1, description="side of a patch in pixels")
    hidden_size: int = Field(128, ge=8, description="width")
    num_hidden_layers: int = Field(4, ge=1, description="transformer blocks")
    num_attention_heads: int = Field(4, ge=1, description="attention heads")

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self


class TextTowerConfig(Config):
    """CLIP's text tower."""

    hidden_size: int = Field(128, ge=8, description="width")
    num_hidden_layers: int = Field(2, ge=1, description="transformer blocks")
    num_attention_heads: int = Field(4, ge=1, description="attention heads")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        return self
