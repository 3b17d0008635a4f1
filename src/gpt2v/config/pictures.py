"""Tiles, the small pictures of single objects, and how grids of them are drawn."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf
from gpt2v.registry import TILE_SOURCES, Choice

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

    source: Annotated[Choice, OneOf(TILE_SOURCES, "sprites")] = Field(
        Choice("sprites", TILE_SOURCES), description="where tiles come from"
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


_Level = Annotated[int, Field(ge=0, le=255)]


class PictureConfig(Config):
    """How a grid is drawn; corruptions among it belong to the picture, whatever its split."""

    layout: Literal["composite", "multi"] = Field(
        "composite", description="one picture of the whole grid, or one for each cell"
    )
    cell: int | None = Field(
        None, ge=4, le=512, description="pixels of a cell's side; none: tiles.size"
    )
    gap: int = Field(0, ge=0, le=256, description="pixels between cells")
    border: int = Field(0, ge=0, le=256, description="pixels around the grid")
    background: list[_Level] = Field(
        [128, 128, 128], min_length=3, max_length=3, description="red, green, blue; 0 to 255"
    )
    scale: list[Annotated[float, Field(ge=0.1, le=1)]] = Field(
        [1.0, 1.0], min_length=2, max_length=2, description="tile side / cell side, from, to"
    )
    jitter: int = Field(
        0, ge=0, le=256, description="pixels that a tile is off its cell's middle, at most"
    )
    blur: float = Field(0.0, ge=0, le=16, description="of the whole picture: sigma in pixels")
    noise: float = Field(0.0, ge=0, le=128, description="of the whole picture: grey levels")
    resize: bool = Field(
        False, description="scale pictures to the vision tower's size; else they keep theirs"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be [smallest, largest]")
        if self.jitter and self.scale[0] == 1:
            raise ValueError("jitter needs a scale below 1: other tiles fill their cells")
        return self
