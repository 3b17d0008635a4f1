"""One configuration for each kind of measurement: evaluations, exports, probes, ladders."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gpt2v.config import Config, FeaturesConfig, TilesConfig
from gpt2v.specs import GridConfig


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

    added_later = ("features",)

    n_images: int = Field(1000, ge=2, description="grids")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")

    @model_validator(mode="after")
    def _grid_is_asked_in_each_modality(self) -> Self:
        if self.grid.mode != "independent":
            raise ValueError("grid.mode must be independent: each question is asked by itself")
        if self.grid.modality != "text":
            raise ValueError("grid.modality has no meaning here; set modalities")
        return self


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

    added_later = ("features",)

    parts: list[str] | None = Field(None, min_length=1, description="measure these alone")
    modalities: Modalities = Field(["text", "image"], description="how the grids are shown")
    examples: int = Field(24, ge=0, description="pictures kept for the report")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")


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

    added_later = ("features",)

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
