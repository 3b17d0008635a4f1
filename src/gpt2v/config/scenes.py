"""Captioned scenes, which the encoder is trained on."""

from pydantic import Field

from gpt2v.config.base import Config


class LayoutConfig(Config):
    """One kind of scene: objects in the slots of a lattice."""

    lattice: int = Field(3, ge=1, le=8, description="slots along a side")
    scale: list[float] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="object side / slot side, from, to"
    )
    occupancy: float = Field(1.0, gt=0, le=1, description="chance that a slot holds an object")
    weight: float = Field(1.0, gt=0, description="share of this layout among all")


class SceneConfig(Config):
    """Captioned scenes of one to several objects of varied place and size."""

    layouts: list[LayoutConfig] = Field(
        [LayoutConfig()], min_length=1, description="kinds of scene; each step draws one"
    )
    flip: bool = Field(True, description="mirror objects at random")
    jitter: float = Field(0.1, ge=0, lt=1, description="random change of contrast, brightness")
    cut: float = Field(
        0.0, ge=0, le=1, description="chance that part of a slot shows part of another object"
    )
