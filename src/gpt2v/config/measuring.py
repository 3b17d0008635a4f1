"""Configurations of previews, exports, evaluations, ladders and suites."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from gpt2v.config.base import MOST, Config
from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.effect import EffectConfig
from gpt2v.config.grids import (
    MODE,
    DocumentGridConfig,
    HeldOutGridConfig,
    LadderGridConfig,
    Mode,
    SampleSpec,
)
from gpt2v.config.hf import HFConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.pictures import MAX_SPRITES, TilesConfig, refuse_gap
from gpt2v.registry import METRICS, RUNGS, TILE_SOURCES

WORDS = ("grid.form", "grid.patches", "grid.noise", "grid.augment.delimiters")  # of a text view
MOST_SHARDS = 100_000  # their numbers have five digits
N = TypeVar("N", bound=str)


def each_once(names: list[N]) -> list[N]:
    if len({str(name) for name in names}) < len(names):
        raise ValueError("must name each once")
    return names


def _with_accuracy(metrics: list[Choice]) -> list[Choice]:
    if "accuracy" not in metrics:
        raise ValueError("must include accuracy, which every evaluation reports")
    return metrics


Modalities = Annotated[
    list[Literal["text", "image", "text+image"]], Field(min_length=1), AfterValidator(each_once)
]
_Metrics = Annotated[
    list[Annotated[Choice, OneOf(METRICS)]],
    AfterValidator(each_once),
    AfterValidator(_with_accuracy),
]
_Allowed = Annotated[list[Literal["other-classes", "trained-pictures"]], AfterValidator(each_once)]
_Rungs = Annotated[list[Annotated[Choice, OneOf(RUNGS)]], AfterValidator(each_once)]


class MeasuringConfig(EffectConfig):
    """A measurement of a model, which takes what is not given from the run of the model."""

    filled_later: ClassVar[bool] = True

    allow: _Allowed = Field(
        [],
        description="what is refused otherwise: class names that the model was not trained on, "
        "pictures that it was trained on",
    )
    features: FeaturesConfig = Field(FeaturesConfig(), description="cache of features")


class _DrawnConfig(EffectConfig):
    """Samples: their tiles, split and seed."""

    tiles: TilesConfig = TilesConfig()
    split: Literal["train", "val", "test"] = Field("test", description="split of tiles and grids")
    seed: int = Field(1, ge=0, description="seed of the samples")

    @property
    def without_effect(self) -> dict[str, str]:
        keys = super().without_effect
        if self.split != "test":
            keys |= {"tiles.test_per_class": f"split: {self.split} shows no tiles for test"}
        if self.split == "train":
            return keys
        shows = f"split: {self.split} shows"
        return {
            **keys,
            "grid.augment.position_offset": f"{shows} no offsets; only training has them",
            "tiles.augment": f"{shows} tiles as they are; only training changes them",
        }

    @model_validator(mode="after")
    def _has_gaps_between_cells(self) -> Self:
        grid: LadderGridConfig | HeldOutGridConfig = self.grid  # type: ignore[attr-defined]
        refuse_gap(grid.picture, "grid.picture")
        return self


class PreviewConfig(_DrawnConfig):
    """`gpt2v data preview`: samples to show. Keys of evaluations and exports are ignored."""

    grid: DocumentGridConfig = DocumentGridConfig()


class ExportConfig(PreviewConfig):
    """`gpt2v data export`: samples to write for other tools."""

    n_images: int = Field(1000, ge=1, le=MOST, description="number of samples")
    shard_size: int = Field(500, ge=1, le=1_000_000, description="number of samples in a shard")

    @model_validator(mode="after")
    def _has_few_shards(self) -> Self:
        if self.n_images > MOST_SHARDS * self.shard_size:
            raise ValueError(
                f"n_images {self.n_images} in shards of {self.shard_size} samples are more than "
                f"{MOST_SHARDS:,} files; increase shard_size"
            )
        return self


class _HeldOutConfig(MeasuringConfig, _DrawnConfig):
    """Held-out samples that a model is measured on."""

    n_images: int = Field(1000, ge=2, le=10_000_000, description="number of grids")


class _ScoredConfig(MeasuringConfig):
    """How the grids of an evaluation are read, and what is computed from the answers."""

    modalities: Modalities = Field(
        ["text", "image"], description="how the grids are shown; each is measured separately"
    )
    mode: Mode = MODE
    metrics: _Metrics = Field(
        [Choice("accuracy", METRICS)], description="metrics computed from the records"
    )
    examples: int = Field(
        24,
        ge=0,
        le=10_000,
        description="number of pictures saved for the report, if some are shown",
    )
    attention: int = Field(
        0,
        ge=0,
        le=10_000,
        description="number of grids, of those shown as pictures, whose attention is kept",
    )
    hf: HFConfig = Field(HFConfig(), description="how a model named hf:NAME is asked")

    @model_validator(mode="after")
    def _shows_pictures(self) -> Self:
        if self.attention and set(self.modalities) == {"text"}:
            raise ValueError(
                f"attention: {self.attention}, but modalities: [text] shows no pictures"
            )
        if self.features.mode == "require" and set(self.modalities) == {"text"}:
            raise ValueError("features.mode: require, but modalities: [text] shows no pictures")
        return self


class EvalConfig(_ScoredConfig, _HeldOutConfig):
    """`gpt2v eval`: grids to measure a model on, and metrics."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "parts": "only a named suite has parts",
        "limit": "n_images is the number of grids",
        **dict.fromkeys(("field", "separator", "clean", "stride"), "only corpus has it"),
        "n_pairs": "only pairs has it",
        **dict.fromkeys(("include_path", "num_fewshot"), "only lm_eval has it"),
    }

    grid: HeldOutGridConfig = HeldOutGridConfig()

    @property
    def without_effect(self) -> dict[str, str]:
        keys = super().without_effect
        if self.modalities == ["image"]:
            keys |= dict.fromkeys(WORDS, "modalities: [image] shows no text")
        if self.grid.questions == 1:
            keys["mode"] = "grid.questions: 1 leaves no earlier one"
        return keys


class LadderConfig(_HeldOutConfig):
    """`gpt2v ablate tokens`: the ladder of one GPT-2v, from text to picture."""

    grid: LadderGridConfig = LadderGridConfig()
    model: str = Field(description="GPT-2v to measure: a run of `mm train`, or a checkpoint")
    rungs: _Rungs = Field(
        [Choice(name, RUNGS) for name in ("R0", "R1", "R2", "R3", "R4")],
        min_length=1,
        description="rungs of the ladder, each with other tokens at the image positions",
    )


# ---- suites ----------------------------------------------------------------------------------


class PartConfig(Config):
    """Grids of a suite that are measured and reported together."""

    name: str = Field(description="name of the part in its suite")
    grid: HeldOutGridConfig = Field(HeldOutGridConfig(), description="grids of the part")
    n_images: int = Field(ge=2, le=10_000_000, description="number of grids")
    modalities: Modalities = Field(
        ["text", "image", "text+image"], description="how the grids can be shown"
    )


class SuiteConfig(Config):
    """A benchmark: held-out grids in parts, the same for every model."""

    description: str = Field(description="what the suite measures")
    split: Literal["val", "test"] = Field("test", description="split of tiles and grids")
    seed: int = Field(1, ge=0, description="seed of the samples")
    tiles_per_class: int = Field(
        10, ge=1, le=1_000_000, description="minimum number of tiles of each class in the split"
    )
    sprites_per_class: int | None = Field(
        None,
        ge=1,
        le=MAX_SPRITES,
        description="drawn tiles of each class for test; none: as tiles.test_per_class says",
    )
    source: Annotated[Choice | None, OneOf(TILE_SOURCES, optional=True)] = Field(
        None, description="where tiles come from, if tiles.source is not given; none: as trained"
    )
    metrics: _Metrics = Field(
        [Choice("accuracy", METRICS)], description="metrics, if none are given"
    )
    renderings: bool = Field(
        False,
        description="the parts show the same grids otherwise, so their accuracies have a spread",
    )
    parts: list[PartConfig] = Field(min_length=1, description="parts of the suite")

    @model_validator(mode="after")
    def _renderings_are_of_the_same_grids(self) -> Self:
        if not self.renderings:
            return self
        first, *others = self.parts
        for part in others:
            for key in ("n_images", *(f"grid.{name}" for name in SampleSpec.model_fields)):
                if _drawn(first, key) != _drawn(part, key):
                    raise ValueError(
                        f"renderings: part {part.name} shows other grids or questions than "
                        f"{first.name}; make their {key} equal"
                    )
        return self


def _drawn(part: PartConfig, key: str) -> Any:
    """The value of a key of a part, as far as it decides which grids and questions are drawn."""
    if key == "grid.augment":  # the rest changes the words only
        return part.grid.augment.order
    return part.n_images if key == "n_images" else getattr(part.grid, key.removeprefix("grid."))


class SuiteTilesConfig(EffectConfig):
    """A named suite with the tiles to draw it from."""

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("grid", "n_images", "split", "seed"), "a named suite has its own grids"
    )
    only_default: ClassVar[tuple[str, ...]] = ("tiles.augment",)

    suite: str = Field(description="name of the suite; `gpt2v data suites` lists them")
    tiles: TilesConfig = TilesConfig()

    @property
    def without_effect(self) -> dict[str, str]:
        why = "a suite shows tiles as they are; only training changes them"
        return {**super().without_effect, "tiles.augment": why}


class SuiteEvalConfig(_ScoredConfig, SuiteTilesConfig):
    """`gpt2v eval --suite NAME`: a named suite to measure a model on."""

    parts: list[str] | None = Field(None, min_length=1, description="parts to measure; none: all")
    limit: int | None = Field(
        None, ge=2, description="number of grids of each part that are measured; none: all"
    )


class SuiteExportConfig(SuiteTilesConfig):
    """`gpt2v data export SUITE`: a named suite to write for other tools, part by part."""

    shard_size: int = Field(500, ge=1, le=1_000_000, description="number of samples in a shard")
