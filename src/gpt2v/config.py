"""The parts of every configuration, as pydantic models: frozen, strict, without unknown keys.

`experiments` puts them together; `configfile` reads them from YAML and the command line.
"""

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)


class Config(BaseModel):
    """Base of all configurations."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


# ---- data ------------------------------------------------------------------------------------


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

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs of before there was a choice go on: their tiles are written as they were.
        found: dict[str, Any] = dump(self)
        for name in ("decode", "corrupt", "augment"):
            if getattr(self, name) == type(self).model_fields[name].default:
                found.pop(name, None)
        return found


class AugmentConfig(Config):
    """How samples vary in their words; a cell, a question and its answer stay what they are."""

    paraphrase: bool = Field(False, description="draw the words of each question, and the prompt's")
    delimiters: list[Literal["|", ",", ";", "/", "&"]] = Field(
        ["|"], min_length=1, description="markdown: what stands between cells, drawn per sample"
    )
    index_bases: list[Literal[0, 1]] = Field(
        [0], min_length=1, description="number of the first row and column, drawn per sample"
    )
    order: Literal["random", "raster"] = Field(
        "random", description="order of the questions; raster: by row, then by column"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name in ("delimiters", "index_bases"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must name each choice once")
        return self


class GridConfig(Config):
    """One data spec: the shape of a grid, what is asked, and how it is shown."""

    rows: int = Field(3, ge=1, le=16, description="rows of the grid")
    cols: int = Field(3, ge=1, le=16, description="columns of the grid")
    palette: int = Field(4, ge=1, description="number of objects that a grid may hold")
    questions: int | None = Field(None, ge=1, description="questions per grid; none: every cell")
    mode: Literal["chained", "independent"] = Field(
        "independent", description="whether a question sees the earlier ones"
    )
    modality: Literal["text", "image"] = Field("text", description="text table or picture")
    form: Literal["markdown", "patch-tiled"] = Field("markdown", description="text form")
    patches: int = Field(2, ge=1, description="patch-tiled: patches along a cell's side")
    noise: float = Field(
        0.0, ge=0, lt=1, description="patch-tiled: chance that a word is any object's, at random"
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="how samples vary in their words")
    weight: float = Field(1.0, gt=0, description="share of this spec among its stage's specs")

    @property
    def n_questions(self) -> int:
        """Questions asked about one grid."""
        return self.rows * self.cols if self.questions is None else self.questions

    @property
    def shown_as(self) -> str:
        """How the grid is shown, e.g. `text/markdown (augmented)`."""
        shown = "image" if self.modality == "image" else f"text/{self.form}"
        noise = f" (noise {self.noise:g})" if self.noise else ""
        return shown + noise + (" (augmented)" if self.augment != AugmentConfig() else "")

    @property
    def label(self) -> str:
        """A short name for logs, e.g. `text/markdown 3x3`."""
        return f"{self.shown_as} {self.rows}x{self.cols}"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.n_questions > self.rows * self.cols:
            raise ValueError(f"questions must be at most rows x cols = {self.rows * self.cols}")
        if self.noise and (self.modality, self.form) != ("text", "patch-tiled"):
            raise ValueError("noise needs form: patch-tiled")
        if self.augment.delimiters != ["|"] and (self.modality, self.form) != ("text", "markdown"):
            raise ValueError("augment.delimiters needs modality: text and form: markdown")
        return self

    @model_serializer(mode="wrap")
    def _without_idle_augment(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Equal data has an equal hash, and so it is written as it was before there was a choice.
        found: dict[str, Any] = dump(self)
        if self.augment == AugmentConfig():
            found.pop("augment", None)
        return found


class CorpusConfig(Config):
    """Plain text: documents joined end to end and cut into windows, without padding."""

    corpus: str = Field(
        description="a .txt, .jsonl or .parquet file, a folder of such, a hub data set, or a "
        "folder made by `data tokenize`"
    )
    valid: str | None = Field(
        None, description="the same for validation; none: a hundredth of the documents"
    )
    field: str = Field("text", description="jsonl, parquet, hub: the column that holds the text")
    clean: bool = Field(True, description="normalise, drop broken and repeated documents")
    context: int = Field(256, ge=2, description="tokens in a window")
    windows: int | None = Field(None, ge=1, description="windows per step; none: data.batch_size")
    weight: float = Field(1.0, gt=0, description="share of this spec among its stage's specs")

    @property
    def text(self) -> Self:
        """What is read, without how often: equal for specs that share their tokens and windows."""
        return self.model_copy(update={"weight": 1.0, "windows": None})

    @property
    def shown_as(self) -> str:
        """What is read, e.g. `text/train.txt`."""
        return f"text/{PurePath(self.corpus).name}"

    @property
    def label(self) -> str:
        """A short name for logs, e.g. `text/train.txt 256`."""
        return f"{self.shown_as} {self.context}"


def _kind_of_spec(spec: Any) -> str:
    is_corpus = "corpus" in spec if isinstance(spec, dict) else isinstance(spec, CorpusConfig)
    return "<corpus>" if is_corpus else "<grid>"


# The tags stand in pydantic's error locations; brackets tell them from fields.
DataSpec = Annotated[
    Annotated[GridConfig, Tag("<grid>")] | Annotated[CorpusConfig, Tag("<corpus>")],
    Discriminator(_kind_of_spec),
]


class StageConfig(Config):
    """Some steps of training on a mixture of data specs; stages in a row make a curriculum."""

    steps: int = Field(ge=1, description="training steps in this stage")
    mix: list[DataSpec] = Field(min_length=1, description="data specs; each step draws one")


class DataConfig(Config):
    """Training data: a curriculum over data specs, grids and plain text."""

    seed: int = Field(0, ge=0, description="data set seed")
    batch_size: int = Field(32, ge=1, description="grids (or windows of text) per step")
    stages: list[StageConfig] = Field(min_length=1, description="the curriculum, in order")

    @property
    def corpora(self) -> list[CorpusConfig]:
        """The different texts of all stages, whatever their shares."""
        specs = [spec for stage in self.stages for spec in stage.mix]
        texts = [spec.text for spec in specs if isinstance(spec, CorpusConfig)]
        return list(dict.fromkeys(texts))

    @property
    def has_grids(self) -> bool:
        """Whether any stage has grids."""
        return any(isinstance(spec, GridConfig) for stage in self.stages for spec in stage.mix)


class TokenizerConfig(Config):
    """Byte-level BPE trained on our own corpora, or GPT-2's own."""

    source: str = Field(
        "trained", description="'trained', a folder with tokenizer files, or a hub id such as gpt2"
    )
    vocab_size: int = Field(1024, ge=259, description="trained: size of the vocabulary, at most")


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
    groups: list[GroupConfig] = Field(min_length=1, description="parameter groups, in order")
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
