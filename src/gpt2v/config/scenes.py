"""Captioned scenes, the training data of the encoder."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from gpt2v.config.base import Config


class LayoutConfig(Config):
    """One type of scene: a square lattice of cells, which hold objects."""

    lattice: int = Field(3, ge=1, le=8, description="number of cells along each side")
    scale: list[Annotated[float, Field(ge=0.1, le=4)]] = Field(
        [1.0, 1.0],
        min_length=2,
        max_length=2,
        description="smallest and largest side of an object, as a share of its cell's side",
    )
    occupancy: float = Field(1.0, gt=0, le=1, description="chance that a cell holds an object")
    weight: float = Field(1.0, gt=0, description="relative chance that a step uses this layout")

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be [smallest, largest]")
        return self


class SceneConfig(Config):
    """Captioned scenes of one or several objects that differ in position and size."""

    layouts: list[LayoutConfig] = Field(
        [LayoutConfig()], min_length=1, description="types of scene; each step uses one at random"
    )
    flip: bool = Field(True, description="mirror objects left to right, each with chance 1/2")
    turns: bool = Field(
        False,
        description="show every tile once before any comes again, each time in a new order; with "
        "flip, each is mirrored in every second turn; classes then come as often as their tiles",
    )
    jitter: float = Field(
        0.1, ge=0, lt=1, description="change contrast and brightness by up to this share"
    )
    cut: float = Field(
        0.0, ge=0, le=1, description="chance that a part of another object hides a part of a cell"
    )

    @model_validator(mode="after")
    def _turns_are_whole(self) -> Self:
        """Objects are numbered through all scenes, which must have equally many."""
        first = self.layouts[0].lattice
        if self.turns and any(
            layout.lattice != first or layout.occupancy < 1 for layout in self.layouts
        ):
            raise ValueError("turns: needs layouts of one lattice, each with occupancy: 1")
        return self
