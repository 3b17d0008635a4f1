"""Data specs: what a grid is, what is asked about it and how it is shown; plain text; curricula."""

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from gpt2v.config import Config, GroupConfig, PictureConfig

# ---- grids -----------------------------------------------------------------------------------


LARGEST = 16  # rows, columns
Delimiter = Literal["|", ",", ";", "/", "&"]
Form = Literal["markdown", "csv", "latex", "coordinates", "plain", "patch-tiled"]


def bounds(size: int | list[int]) -> tuple[int, int]:
    """The smallest and the largest of a fixed or sampled size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _ordered(size: list[int]) -> list[int]:
    if len(size) != 2 or size[0] > size[1]:
        raise ValueError("must be one number, or [smallest, largest]")
    return size


def _number_or_range(size: Any) -> str:
    return "<range>" if isinstance(size, list) else "<number>"


# The tags stand in pydantic's error locations; brackets tell them from fields.
_Side = Annotated[int, Field(ge=1, le=LARGEST)]
Side = Annotated[
    Annotated[_Side, Tag("<number>")]
    | Annotated[list[_Side], AfterValidator(_ordered), Tag("<range>")],
    Discriminator(_number_or_range),
]
_Objects = Annotated[int, Field(ge=1)]
Palette = Annotated[
    Annotated[_Objects, Tag("<number>")]
    | Annotated[list[_Objects], AfterValidator(_ordered), Tag("<range>")],
    Discriminator(_number_or_range),
]


class AugmentConfig(Config):
    """How samples vary in their words; a cell, a question and its answer stay what they are."""

    added_later = ("held_out", "position_offset")

    paraphrase: bool = Field(False, description="draw the words of each question, and the prompt's")
    held_out: bool = Field(
        False, description="paraphrase: draw from wordings that are never trained on"
    )
    delimiters: list[Delimiter] = Field(
        ["|"], min_length=1, description="markdown: what stands between cells, drawn per sample"
    )
    index_bases: list[Literal[0, 1]] = Field(
        [0], min_length=1, description="number of the first row and column, drawn per sample"
    )
    order: Literal["random", "raster"] = Field(
        "random", description="order of the questions; raster: by row, then by column"
    )
    position_offset: int = Field(
        0, ge=0, description="training: up to this is added to all of a sample's position ids"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("delimiters", "index_bases"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must name each choice once")
        if self.held_out and not self.paraphrase:
            raise ValueError("held_out needs paraphrase: true")
        return self


class GridConfig(Config):
    """One data spec: the shape of a grid, what is asked, and how it is shown."""

    added_later = ("instructions", "picture", "augment", "n_images")

    rows: Side = Field(3, description="rows of the grid; [1, 8]: drawn per sample")
    cols: Side = Field(3, description="columns of the grid; [1, 8]: drawn per sample")
    palette: Palette = Field(
        4, description="objects that a grid may hold; [2, 8]: drawn per sample"
    )
    instructions: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {"lookup": 1.0}, min_length=1, description="what is asked, each with its share"
    )
    questions: int | None = Field(
        None,
        ge=1,
        description="per grid; none: every different one, of the instruction that has most",
    )
    mode: Literal["chained", "independent"] = Field(
        "independent", description="whether a question sees the earlier ones"
    )
    modality: Literal["text", "image", "text+image"] = Field(
        "text", description="how the grid is shown: in words, as a picture, or picture then words"
    )
    form: Form = Field("markdown", description="text form; plain: words and line breaks only")
    patches: int = Field(2, ge=1, le=16, description="patch-tiled: patches along a cell's side")
    noise: float = Field(
        0.0, ge=0, lt=1, description="patch-tiled: chance that a word is any object's, at random"
    )
    picture: PictureConfig = Field(PictureConfig(), description="how the grid is drawn")
    augment: AugmentConfig = Field(AugmentConfig(), description="how samples vary in their words")
    n_images: int | None = Field(
        None,
        ge=1,
        description="different samples that training draws from, in a new order every epoch; "
        "none: a new sample every time",
    )
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="share of this spec among its stage's specs"
    )

    @property
    def in_words(self) -> bool:
        """Whether the grid is written."""
        return self.modality != "image"

    @property
    def shown_as(self) -> str:
        """How the grid is shown, e.g. `text/markdown (augmented)`."""
        shown = self.modality if self.modality == "image" else f"{self.modality}/{self.form}"
        if self.modality != "text" and self.picture.layout == "multi":
            shown += " (multi)"
        if self.noise:
            shown += f" (noise {self.noise:g})"
        return shown + (" (augmented)" if self.augment != AugmentConfig() else "")

    @property
    def size(self) -> str:
        """The shape in words, e.g. `3x3`, or `1-8x1-8` where it is drawn."""
        return "x".join(_range(size) for size in (self.rows, self.cols))

    @property
    def label(self) -> str:
        """A short name for logs, e.g. `text/markdown 3x3`."""
        asked = "" if list(self.instructions) == ["lookup"] else " " + "+".join(self.instructions)
        return f"{self.shown_as} {self.size}{asked}"

    @property
    def largest_shape(self) -> tuple[int, int]:
        """The most rows and columns; where nothing is drawn, the grid's shape."""
        return bounds(self.rows)[1], bounds(self.cols)[1]

    @property
    def fixed(self) -> bool:
        """Whether every grid has the same shape and as large a palette."""
        return all(isinstance(size, int) for size in (self.rows, self.cols, self.palette))

    @property
    def largest(self) -> Self:
        """The same with the largest of each size."""
        names = ("rows", "cols", "palette")
        return self.model_copy(update={name: bounds(getattr(self, name))[1] for name in names})

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.noise and not (self.in_words and self.form == "patch-tiled"):
            raise ValueError("noise needs form: patch-tiled")
        if self.augment.delimiters != ["|"] and not (self.in_words and self.form == "markdown"):
            raise ValueError("augment.delimiters needs a grid in words and form: markdown")
        return self


def _range(size: int | list[int]) -> str:
    return "-".join(str(end) for end in dict.fromkeys(bounds(size)))


# ---- plain text ------------------------------------------------------------------------------


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
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="share of this spec among its stage's specs"
    )

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


DataSpec = Annotated[
    Annotated[GridConfig, Tag("<grid>")] | Annotated[CorpusConfig, Tag("<corpus>")],
    Discriminator(_kind_of_spec),
]


class StageConfig(Config):
    """Some steps of training on a mixture of data specs; stages in a row make a curriculum."""

    added_later = ("name", "groups")

    name: str | None = Field(None, min_length=1, description="in logs; none: its number")
    steps: int = Field(ge=1, description="training steps in this stage")
    mix: list[DataSpec] = Field(min_length=1, description="data specs; each step draws one")
    groups: list[GroupConfig] | None = Field(
        None,
        min_length=1,
        description="parameter groups of this stage, with a fresh optimizer and a schedule over "
        "its own steps; none: goes on as the stage before, the first: train.groups",
    )


class DataConfig(Config):
    """Training data: a curriculum over data specs, grids and plain text."""

    seed: int = Field(0, ge=0, description="data set seed")
    batch_size: int = Field(32, ge=1, description="grids (or windows of text) per step")
    stages: list[StageConfig] = Field(min_length=1, description="the curriculum, in order")

    @property
    def drawn(self) -> Self:
        """What is drawn, without how it is trained on: equal where all batches are."""
        plain = {"name": None, "groups": None}
        stages = [stage.model_copy(update=plain) for stage in self.stages]
        return self.model_copy(update={"stages": stages})

    @property
    def corpora(self) -> list[CorpusConfig]:
        """The different texts of all stages, whatever their shares."""
        texts = [spec.text for _, spec in self.placed if isinstance(spec, CorpusConfig)]
        return list(dict.fromkeys(texts))

    @property
    def placed(self) -> list[tuple[str, DataSpec]]:
        """Every spec of every stage, after the key that leads to it."""
        return [
            (f"data.stages.{i}.mix.{j}.", spec)
            for i, stage in enumerate(self.stages)
            for j, spec in enumerate(stage.mix)
        ]

    @property
    def has_grids(self) -> bool:
        """Whether any stage has grids."""
        return any(isinstance(spec, GridConfig) for _, spec in self.placed)
