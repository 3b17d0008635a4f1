"""Configuration of probes: what is read where, from which patches, by which decoders."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import Choice, OneOf, choose
from gpt2v.config.effect import refuse_unused
from gpt2v.config.grids import ProbeGridConfig
from gpt2v.config.measuring import MeasuringConfig, each_once
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.sites import OF_PATCHES, Site, name_of
from gpt2v.registry import CONTROLS, DECODERS, MEASURES

MAIN = Site("pre-projector")  # where all decoders read
ROWS_PER_FEATURE, FEWEST_ROWS = 6, 4000  # of training pictures, if n_train is not given
MEASURED = (  # by default, in this order
    *("beside", "attribution", "selectivity", "learning-curve", "leakage", "transfer"),
    *("equal-dimension", "routing", "causal"),
)


_ASKING = {  # measures that ask the model, and about what
    **dict.fromkeys(("beside", "attribution"), ("image", "text")),
    **dict.fromkeys(("routing", "causal"), ("image",)),
}


def _known(names: list[str]) -> list[str]:
    for name in map(name_of, names):
        if name not in OF_PATCHES:
            raise ValueError(f"{name} is of questions; the measure routing reads it")
    return names


_Controls = Annotated[list[Annotated[Choice, OneOf(CONTROLS)]], AfterValidator(each_once)]
_Decoders = Annotated[list[Annotated[Choice, OneOf(DECODERS)]], AfterValidator(each_once)]
_Measures = Annotated[list[Annotated[Choice, OneOf(MEASURES)]], AfterValidator(each_once)]
_Sites = Annotated[list[str], AfterValidator(each_once), AfterValidator(_known)]


class CellsConfig(Config):
    """Which patches belong to a cell, where their edges need not be the same."""

    rule: Literal["concat", "mean", "centre"] = Field(
        "concat",
        description="concat: all patches that lie in the cell, side by side; mean: all that it "
        "touches, weighted with their areas in it; centre: the one that holds its centre",
    )
    threshold: float = Field(
        0.5,
        gt=0,
        le=1,
        description="concat: least share of a patch's area that must lie in the cell",
    )

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        if self.rule != "concat":
            refuse_unused(self, ("threshold",), f"rule: {self.rule} has none")
        return self


class ProbeConfig(MeasuringConfig):
    """`gpt2v probe`: decoders of the object in each cell, from hidden states of its patches."""

    tiles: TilesConfig = TilesConfig()
    model: str = Field(description="GPT-2v to measure: a run of `mm train`, or a checkpoint")
    grid: ProbeGridConfig = ProbeGridConfig()
    sites: _Sites = Field(
        ["pixels", "random.-1", "vision", "post-projector"],
        description="where ridge decoders read beside the projector's input: pixels, vision (all "
        "layers, or vision.LAYER), random (the tower with random weights), post-projector, lm "
        "(the GPT-2 at image positions)",
    )
    cells: CellsConfig = Field(CellsConfig(), description="which patches belong to a cell")
    decoders: _Decoders = Field(
        [choose(DECODERS, name) for name in ("ridge", "logistic", "projector")],
        description="decoders at the projector's input, ridge among them",
        min_length=1,
    )
    n_train: int | None = Field(
        None,
        ge=10,
        le=10_000_000,
        description=f"number of training pictures; none: {ROWS_PER_FEATURE} for each number that a "
        f"cell has at the projector's input, at least {FEWEST_ROWS}",
    )
    n_val: int = Field(
        1000, ge=10, le=10_000_000, description="number of pictures that choose the strengths"
    )
    n_test: int = Field(1000, ge=10, le=10_000_000, description="number of test pictures")
    seed: int = Field(
        1, ge=0, description="seed of the samples; `eval` with this seed has the same test grids"
    )
    controls: _Controls = Field(
        [Choice("shuffled-labels", CONTROLS)],
        description="wrong labels for ridge decoders at every site, which should find nothing",
    )
    measures: _Measures | None = Field(
        None,
        description="what else is measured, with the same hidden states; none: all but "
        "description-length",
    )
    measured_sites: _Sites = Field(
        ["vision.0", "pre-projector"],
        min_length=1,
        description="where measures read, if they do not need all sites",
    )
    measured_cells: int = Field(
        3, ge=1, description="number of cells, from the first to the last, that measures read"
    )

    @model_validator(mode="after")
    def _has_ridge(self) -> Self:
        if "ridge" not in self.decoders:
            raise ValueError("decoders must include ridge, which reads every site")
        return self

    @property
    def modalities(self) -> list[str]:
        """In which the model reads grids, as the sites and measures need it: `image`, `text`."""
        found = {m for measure in self.chosen_measures for m in _ASKING.get(str(measure), ())}
        if any(name_of(site) == "lm" for site in (*self.sites, *self.measured_sites)):
            found.add("image")
        return sorted(found)

    @property
    def ridge(self) -> Choice:
        """The ridge decoder."""
        return next(decoder for decoder in self.decoders if decoder == "ridge")

    @property
    def chosen_measures(self) -> list[Choice]:
        """The measures, in their order."""
        if self.measures is not None:
            return self.measures
        return [choose(MEASURES, name) for name in MEASURED]
