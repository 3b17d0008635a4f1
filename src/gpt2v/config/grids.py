"""Grids: their cells (content), the questions about them, and how they are shown (view).

Each of the three has its own class. The grid class of a command inherits from those that the
command uses. So all keys are at one level in YAML (`{rows: 2, palette: 3, form: csv}`), and a key
that the command does not use is unknown.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from gpt2v.config.base import MOST, Config
from gpt2v.config.choice import Choice, OneOf, SharesOf
from gpt2v.config.effect import refuse_unused
from gpt2v.config.pictures import PictureConfig
from gpt2v.registry import INSTRUCTIONS, TEXT_FORMS

LARGEST = 16  # maximum number of rows and of columns
Delimiter = Literal["|", ",", ";", "/", "&"]
Modality = Literal["text", "image", "text+image"]
Mode = Literal["chained", "independent"]
MODE: Any = Field(
    "independent",
    description="chained: each question is read after the earlier ones; independent: without them",
)
Form = Annotated[Choice, OneOf(TEXT_FORMS, "markdown")]


def bounds(size: int | list[int]) -> tuple[int, int]:
    """The smallest and the largest value of a size, which is a number or a range."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _ordered(size: list[int]) -> list[int]:
    if len(size) != 2 or size[0] > size[1]:
        raise ValueError("must be one number, or [smallest, largest]")
    return size


def _number_or_range(size: Any) -> str:
    return "<range>" if isinstance(size, list) else "<number>"


# Tags appear in the locations of pydantic's errors. The brackets distinguish them from fields.
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


class ContentConfig(Config):
    """The content of a grid: its size and palette. Each cell holds an object of the palette."""

    rows: Side = Field(3, description="number of rows; [1, 8]: random for each sample")
    cols: Side = Field(3, description="number of columns; [1, 8]: random for each sample")
    palette: Palette = Field(
        4,
        description="number of different objects that a grid may hold; [2, 8]: random for each "
        "sample",
    )

    @property
    def size(self) -> str:
        """The shape as text, e.g. `3x3`, or `1-8x1-8` if it is random."""
        return "x".join(_range(size) for size in (self.rows, self.cols))

    @property
    def largest_shape(self) -> tuple[int, int]:
        """The largest number of rows and of columns."""
        return bounds(self.rows)[1], bounds(self.cols)[1]

    @property
    def fixed(self) -> bool:
        """Whether all grids have the same shape and the same number of objects in the palette."""
        return all(isinstance(size, int) for size in (self.rows, self.cols, self.palette))

    @property
    def largest(self) -> Self:
        """A copy in which each size is the largest possible one."""
        names = ("rows", "cols", "palette")
        return self.model_copy(update={name: bounds(getattr(self, name))[1] for name in names})


class AugmentConfig(Config):
    """Random changes of the wording of samples. Cells, questions and answers stay the same."""

    paraphrase: bool = Field(
        False, description="use a random wording for each question and for the prompt"
    )
    held_out: bool = Field(
        False, description="paraphrase: use only wordings that training never uses"
    )
    delimiters: list[Delimiter] = Field(
        ["|"],
        min_length=1,
        description="markdown: separators of cells; one is chosen at random for each sample",
    )
    index_bases: list[Literal[0, 1]] = Field(
        [0], min_length=1, description="first number of rows and columns; random for each sample"
    )
    order: Literal["random", "raster"] = Field(
        "random", description="order of the questions; raster: by row, then by column"
    )
    position_offset: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="training: a random offset from 0 to this is added to the position ids of "
        "each sample, in tokens",
    )

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Self:
        for name in ("delimiters", "index_bases"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must name each choice once")
        if self.held_out and not self.paraphrase and not self._awaits("paraphrase", info):
            raise ValueError("held_out needs paraphrase: true")
        return self


AUGMENT = Field(AugmentConfig(), description="random changes of the wording")


class QuestionsConfig(Config):
    """The questions about a grid and their wording."""

    instructions: Annotated[
        dict[
            Annotated[Choice, OneOf(INSTRUCTIONS)],
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
        ],
        SharesOf(INSTRUCTIONS),
    ] = Field(
        {Choice("lookup", INSTRUCTIONS): 1.0},
        min_length=1,
        description="types of question, each with its relative share",
    )
    questions: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="number of questions per grid; none: all different ones of the instruction "
        "that has the most",
    )
    augment: AugmentConfig = AUGMENT


class PicturedConfig(Config):
    """How a grid is drawn as a picture."""

    picture: PictureConfig = Field(PictureConfig(), description="how the grid is drawn")


class ViewConfig(PicturedConfig):
    """How a grid is shown, as text and as a picture."""

    form: Form = Field(
        Choice("markdown", TEXT_FORMS),
        description="text form of the grid; plain: words and line breaks only",
    )
    patches: int = Field(
        2, ge=1, le=16, description="patch-tiled: number of patches along each side of a cell"
    )
    noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="patch-tiled: chance that all words of a cell are those of a random object",
    )


class WordedConfig(ViewConfig):
    """How a grid is shown, and the wording of its text and of questions about it."""

    augment: AugmentConfig = AUGMENT

    @model_validator(mode="after")
    def _parts_fit(self, info: ValidationInfo) -> Self:
        if self._awaits("form", info):
            return self
        in_words = getattr(self, "modality", "text") != "image"
        if self.form != "patch-tiled":
            refuse_unused(self, ("patches",), f"form: {self.form} has no patches")
        if self.noise and not (in_words and self.form == "patch-tiled"):
            raise ValueError("noise needs form: patch-tiled")
        if self.augment.delimiters != ["|"] and not (in_words and self.form == "markdown"):
            raise ValueError("augment.delimiters needs a grid shown as text and form: markdown")
        return self


# ---- grids of commands --------------------------------------------------------------------------

_TRAINS = "it is for training only"


class SampleSpec(QuestionsConfig, ContentConfig):
    """Grids and the questions about them, without a view."""


class ProbeGridConfig(WordedConfig, ContentConfig):
    """The grids of a probe. It reads every cell of a picture, and asks the model about each."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("instructions", "questions"), "a probe reads every cell, and looks each up"
        ),
        "mode": "each question is asked by itself (independent)",
        "modality": "decoders read pictures, and the model is asked about both",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    @model_validator(mode="after")
    def _has_the_same_cells(self) -> Self:
        if not self.fixed:
            raise ValueError("must have one size: each cell has its own decoders")
        return self

    def asked(self, n_questions: int | None = None) -> "HeldOutGridConfig":
        """These grids with look-ups of so many different cells; None: of all."""
        shown = {name: getattr(self, name) for name in type(self).model_fields}
        return HeldOutGridConfig(**shown, questions=n_questions)


class LadderGridConfig(PicturedConfig, SampleSpec):
    """The grids of a ladder. Its rungs decide how they are shown."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("form", "patches", "noise"), "the ladder starts from the table"),
        "mode": "each question is asked by itself (independent)",
        "modality": "each rung has its own",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }


class HeldOutGridConfig(WordedConfig, SampleSpec):
    """The grids of an evaluation or a suite."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "mode": "the evaluation has a mode of its own",
        "modality": "set modalities instead",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    def shown(self, modality: str) -> str:
        """How a modality shows the grid, e.g. `text/markdown (augmented)`."""
        shown = modality if modality == "image" else f"{modality}/{self.form}"
        if modality != "text" and self.picture.layout == "multi":
            shown += " (multi)"
        if self.noise:
            shown += f" (noise {self.noise:g})"
        return shown + (" (augmented)" if self.augment != AugmentConfig() else "")


class DocumentGridConfig(HeldOutGridConfig):
    """The grids of a preview or an export: whole documents, as text and as pictures."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "modality": "both views are shown",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    mode: Mode = MODE


class GridConfig(DocumentGridConfig):
    """One data spec of grids: content, questions, view, and how often it is used."""

    elsewhere: ClassVar[Mapping[str, str]] = {}

    modality: Modality = Field(
        "text", description="how the grid is shown; text+image: the picture, then the text"
    )
    n_images: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="number of different samples in training, reused in a new order every epoch; "
        "none: every sample is new",
    )
    weight: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="relative chance that a step uses this data spec",
    )

    @property
    def shown_as(self) -> str:
        """How the grid is shown, e.g. `text/markdown (augmented)`."""
        return self.shown(self.modality)

    @property
    def label(self) -> str:
        """A short name for logs, e.g. `text/markdown 3x3`."""
        asked = "" if list(self.instructions) == ["lookup"] else " " + "+".join(self.instructions)
        return f"{self.shown_as} {self.size}{asked}"


def _range(size: int | list[int]) -> str:
    return "-".join(str(end) for end in dict.fromkeys(bounds(size)))
