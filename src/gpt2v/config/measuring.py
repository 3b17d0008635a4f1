"""One configuration for each kind of measurement: evaluations, exports, probes, ladders, suites."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf
from gpt2v.config.grids import (
    DocumentGridConfig,
    HeldOutGridConfig,
    LadderGridConfig,
    ProbeGridConfig,
)
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.registry import CONTROLS, METRICS, RUNGS, Choice

N = TypeVar("N", bound=str)


def _each_once(names: list[N]) -> list[N]:
    if len(set(names)) < len(names):
        raise ValueError("must name each once")
    return names


Modalities = Annotated[
    list[Literal["text", "image", "text+image"]], Field(min_length=1), AfterValidator(_each_once)
]
_Metrics = Annotated[list[Annotated[Choice, OneOf(METRICS)]], AfterValidator(_each_once)]
_Rungs = Annotated[list[Annotated[Choice, OneOf(RUNGS)]], AfterValidator(_each_once)]
_Controls = Annotated[list[Annotated[Choice, OneOf(CONTROLS)]], AfterValidator(_each_once)]


class _DrawnConfig(Config):
    """Which samples: of which tiles, split and data set."""

    tiles: TilesConfig = TilesConfig()
    split: Literal["train", "val", "test"] = Field("test", description="split of the tiles, grids")
    seed: int = Field(1, ge=0, description="data set seed")


class PreviewConfig(_DrawnConfig):
    """`gpt2v data preview`: which samples are shown; keys of evaluations and exports are let be."""

    grid: DocumentGridConfig = DocumentGridConfig()


class ExportConfig(PreviewConfig):
    """`gpt2v data export`: which samples are written for other tools."""

    n_images: int = Field(1000, ge=1, description="samples: the first so many of the split")
    shard_size: int = Field(500, ge=1, description="samples that are written, and kept, together")


class _HeldOutConfig(_DrawnConfig):
    """Which samples a model is measured on, with independent questions."""

    n_images: int = Field(1000, ge=2, description="grids")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")


class EvalConfig(_HeldOutConfig):
    """`gpt2v eval`: what is measured, and on which grids."""

    grid: HeldOutGridConfig = HeldOutGridConfig()
    modalities: Modalities = Field(["text", "image"], description="how the grids are shown")
    metrics: _Metrics = Field(
        [Choice("accuracy", METRICS)], description="what is computed from the records"
    )
    examples: int = Field(24, ge=0, description="pictures kept for the report")


class LadderConfig(_HeldOutConfig):
    """The vision-token ladder of one GPT-2v."""

    grid: LadderGridConfig = LadderGridConfig()
    model: str = Field(description="run of `mm train`, or its checkpoint")
    rungs: _Rungs = Field(
        [Choice(name, RUNGS) for name in ("R0", "R1", "R2", "R3", "R4")],
        min_length=1,
        description="what stands at the image positions, from text to picture",
    )


class ProbeConfig(Config):
    """Linear probes of the patch embeddings before the projector, one per grid cell."""

    tiles: TilesConfig = TilesConfig()
    model: str = Field(description="run of `mm train`, or its checkpoint")
    grid: ProbeGridConfig = ProbeGridConfig()
    n_train: int = Field(4000, ge=10, description="training pictures")
    n_test: int = Field(1000, ge=10, description="held-out pictures")
    seed: int = Field(1, ge=0, description="data set seed; the test pictures are `eval`'s")
    controls: _Controls = Field(
        [Choice("shuffled-labels", CONTROLS)],
        description="what a probe must not find anything in, beside the labels themselves",
    )
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")


# ---- suites ----------------------------------------------------------------------------------


class PartConfig(Config):
    """Some grids of a suite that are reported together."""

    name: str = Field(description="name of the part, within its suite")
    grid: HeldOutGridConfig = Field(HeldOutGridConfig(), description="the grids")
    n_images: int = Field(ge=2, description="number of grids")
    modalities: list[Literal["text", "image"]] = Field(
        ["text", "image"], min_length=1, description="how they may be shown"
    )


class SuiteConfig(Config):
    """A benchmark: held-out grids in parts, the same for every model."""

    description: str = Field(description="what it measures")
    split: Literal["val", "test"] = Field("test", description="split of the tiles and grids")
    seed: int = Field(1, ge=0, description="data set seed")
    tiles_per_class: int = Field(
        10, ge=1, description="pictures that each class must have in the split"
    )
    parts: list[PartConfig] = Field(min_length=1, description="its parts")


class SuiteTilesConfig(Config):
    """A named suite, as it is, for one tile bank."""

    suite: str = Field(description="name of the suite; `gpt2v data suites` lists them")
    tiles: TilesConfig = TilesConfig()


class SuiteEvalConfig(SuiteTilesConfig):
    """`gpt2v eval --suite NAME`: a named suite, as it is, for one tile bank."""

    parts: list[str] | None = Field(None, min_length=1, description="measure these alone")
    modalities: Modalities = Field(["text", "image"], description="how the grids are shown")
    metrics: _Metrics = Field(
        [Choice("accuracy", METRICS)], description="what is computed from the records"
    )
    examples: int = Field(24, ge=0, description="pictures kept for the report")
    features: FeaturesConfig = Field(FeaturesConfig(), description="kept of the vision tower")


class SuiteExportConfig(SuiteTilesConfig):
    """`gpt2v data export SUITE`: every part of a named suite, with its own samples."""

    shard_size: int = Field(500, ge=1, description="samples that are written, and kept, together")
