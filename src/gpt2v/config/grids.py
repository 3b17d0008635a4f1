"""Grids: what they hold (content), what is asked about them (questions), how they are shown (view).

Each is a class of its own, and a command's grid is made of those that it can use, so that the keys
stand side by side in YAML (`{rows: 2, palette: 3, form: csv}`) and what a command cannot use is an
unknown key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf, SharesOf
from gpt2v.config.pictures import PictureConfig
from gpt2v.registry import INSTRUCTIONS, TEXT_FORMS, Choice

LARGEST = 16  # rows, columns
Delimiter = Literal["|", ",", ";", "/", "&"]
Modality = Literal["text", "image", "text+image"]
Form = Annotated[Choice, OneOf(TEXT_FORMS, "markdown")]


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


class ContentConfig(Config):
    """What a grid holds: cells, each with an object of its palette."""

    rows: Side = Field(3, description="rows of the grid; [1, 8]: drawn per sample")
    cols: Side = Field(3, description="columns of the grid; [1, 8]: drawn per sample")
    palette: Palette = Field(
        4, description="objects that a grid may hold; [2, 8]: drawn per sample"
    )

    @property
    def size(self) -> str:
        """The shape in words, e.g. `3x3`, or `1-8x1-8` where it is drawn."""
        return "x".join(_range(size) for size in (self.rows, self.cols))

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


class AugmentConfig(Config):
    """How samples vary in their words; a cell, a question and its answer stay what they are."""

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


class QuestionsConfig(Config):
    """What is asked about a grid, and in which words."""

    instructions: Annotated[
        dict[
            Annotated[Choice, OneOf(INSTRUCTIONS)],
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
        ],
        SharesOf(INSTRUCTIONS),
    ] = Field(
        {Choice("lookup", INSTRUCTIONS): 1.0},
        min_length=1,
        description="what is asked, each with its share",
    )
    questions: int | None = Field(
        None,
        ge=1,
        description="per grid; none: every different one, of the instruction that has most",
    )
    augment: AugmentConfig = Field(AugmentConfig(), description="how samples vary in their words")


class PicturedConfig(Config):
    """How a grid is shown as a picture."""

    picture: PictureConfig = Field(PictureConfig(), description="how the grid is drawn")


class ViewConfig(PicturedConfig):
    """How a grid is shown: in words and as a picture."""

    form: Form = Field(
        Choice("markdown", TEXT_FORMS),
        description="text form; plain: words and line breaks only",
    )
    patches: int = Field(2, ge=1, le=16, description="patch-tiled: patches along a cell's side")
    noise: float = Field(
        0.0, ge=0, lt=1, description="patch-tiled: chance that a word is any object's, at random"
    )


# ---- put together ----------------------------------------------------------------------------

_TRAINS = "it is for training"


class SampleSpec(QuestionsConfig, ContentConfig):
    """What samples are drawn from: grids and questions about them, in whatever view."""


class ProbeGridConfig(PicturedConfig, ContentConfig):
    """The grids of a probe: it sees every cell of a picture, and is asked nothing."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("instructions", "questions", "mode", "form", "patches", "noise", "augment"),
            "a probe sees every cell",
        ),
        "modality": "a probe sees pictures",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    @model_validator(mode="after")
    def _has_the_same_cells(self) -> Self:
        if not self.fixed or self.picture.layout != "composite":
            raise ValueError("must have one size and the composite layout: a probe per cell")
        return self


class LadderGridConfig(PicturedConfig, SampleSpec):
    """The grids of a ladder, whose rungs say how they are shown."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("form", "patches", "noise"), "the ladder starts from the table"),
        "mode": "each question is asked by itself (independent)",
        "modality": "each rung has its own",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }


class HeldOutGridConfig(ViewConfig, SampleSpec):
    """The grids of an evaluation or a suite, with independent questions in each modality."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "mode": "each question is asked by itself (independent)",
        "modality": "set modalities",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    def shown(self, modality: str) -> str:
        """How a grid is shown in a modality, e.g. `text/markdown (augmented)`."""
        shown = modality if modality == "image" else f"{modality}/{self.form}"
        if modality != "text" and self.picture.layout == "multi":
            shown += " (multi)"
        if self.noise:
            shown += f" (noise {self.noise:g})"
        return shown + (" (augmented)" if self.augment != AugmentConfig() else "")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        in_words = getattr(self, "modality", "text") != "image"
        if self.noise and not (in_words and self.form == "patch-tiled"):
            raise ValueError("noise needs form: patch-tiled")
        if self.augment.delimiters != ["|"] and not (in_words and self.form == "markdown"):
            raise ValueError("augment.delimiters needs a grid in words and form: markdown")
        return self


class DocumentGridConfig(HeldOutGridConfig):
    """The grids of a preview or an export: whole documents, in both views."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "modality": "both views are shown",
        "n_images": _TRAINS,
        "weight": _TRAINS,
    }

    mode: Literal["chained", "independent"] = Field(
        "independent", description="whether a question sees the earlier ones"
    )


class GridConfig(DocumentGridConfig):
    """One data spec of a training: content, questions and view, and how often it is drawn."""

    elsewhere: ClassVar[Mapping[str, str]] = {}

    modality: Modality = Field(
        "text", description="how the grid is shown: in words, as a picture, or picture then words"
    )
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
