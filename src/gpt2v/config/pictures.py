"""Tiles (small pictures of one object each), and how they are drawn as a picture of a grid."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import Choice, OneOf
from gpt2v.config.effect import refuse_unused
from gpt2v.registry import TILE_SOURCES

FILES = ("cifar10", "cifar100", "folder")  # sources that are read from files
DRAWN = ("sprites", "colours")  # sources that are drawn
DRAWN_ONLY = ("per_class", "test_per_class", "seed")  # fields that sources of files do not use
# Sprites of one class in one split. Their numbers, three splits and 2**32 seeds fit into 64 bits.
MAX_SPRITES = 2**30


class TileAugmentConfig(Config):
    """Random changes of tiles, different for each sample and cell."""

    flip: bool = Field(False, description="mirror tiles left to right, each with chance 1/2")
    crop: float = Field(
        0.0, ge=0, lt=1, description="cut off up to this share of the side, then resize to `size`"
    )
    shift: int = Field(
        0,
        ge=0,
        le=256,
        description="move by up to this many pixels along each side; what comes in is mirrored",
    )
    jitter: float = Field(
        0.0, ge=0, le=1, description="change brightness, contrast and colour by up to this share"
    )
    blur: float = Field(0.0, ge=0, le=16, description="maximum sigma of a Gaussian blur in pixels")
    noise: float = Field(
        0.0, ge=0, le=255, description="maximum standard deviation of noise in grey levels, of 256"
    )
    versions: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="number of different results for each tile; none: every one is a new draw",
    )

    @model_validator(mode="after")
    def _has_versions_of_a_change(self) -> Self:
        if self.versions is not None and self == TileAugmentConfig.model_construct(
            versions=self.versions
        ):
            raise ValueError("versions: nothing changes tiles; set flip, crop, shift or another")
        return self


class TilesConfig(Config):
    """Where tiles come from, and how they are read."""

    source: Annotated[Choice, OneOf(TILE_SOURCES, "sprites")] = Field(
        Choice("sprites", TILE_SOURCES), description="where tiles come from"
    )
    path: str | None = Field(
        None,
        description="folder of the tiles; cifar10, cifar100: or a hub id; none: uoft-cs/... from "
        "the hub (sprites and colours need no path)",
    )
    size: int = Field(32, ge=4, le=512, description="side of a tile in pixels")
    per_class: int = Field(
        1000,
        ge=10,
        le=MAX_SPRITES,
        description="sprites, colours: number per class for training; a tenth as many for val "
        "and for test",
    )
    test_per_class: int | None = Field(
        None,
        ge=1,
        le=MAX_SPRITES,
        description="sprites, colours: number per class for test; none: a tenth of per_class",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="sprites, colours: seed")
    decode: Literal["once", "on-the-fly"] = Field(
        "once",
        description="folder: decode all tiles at the start and hold them in memory, or decode a "
        "tile whenever it is shown",
    )
    corrupt: Literal["refuse", "skip"] = Field(
        "refuse", description="files that cannot be read: stop with an error, or skip them"
    )
    augment: TileAugmentConfig = Field(
        TileAugmentConfig(), description="random changes of training tiles"
    )

    @model_validator(mode="after")
    def _is_used(self, info: ValidationInfo) -> Self:
        """A source of the user's own may use every field."""
        if self._awaits("source", info):
            return self
        if self.decode == "on-the-fly" and self.source != "folder":
            raise ValueError("decode: on-the-fly needs source: folder")
        if self.source in DRAWN:
            refuse_unused(
                self, ("path", "corrupt"), f"{self.source} are drawn, not read from files"
            )
        if self.source in FILES:
            refuse_unused(self, DRAWN_ONLY, f"source: {self.source} has its own pictures")
        return self


_Level = Annotated[int, Field(ge=0, le=255)]


class PictureConfig(Config):
    """How a grid is drawn. Blur, noise and random sizes are used in every split."""

    layout: Literal["composite", "multi"] = Field(
        "composite", description="composite: one picture of the grid; multi: one picture per cell"
    )
    cell: int | None = Field(
        None, ge=4, le=512, description="side of a cell in pixels; none: tiles.size"
    )
    gap: int = Field(0, ge=0, le=256, description="space between cells in pixels")
    border: int = Field(0, ge=0, le=256, description="space around the grid in pixels")
    background: list[_Level] = Field(
        [128, 128, 128],
        min_length=3,
        max_length=3,
        description="colour: red, green, blue, from 0 to 255",
    )
    scale: list[Annotated[float, Field(ge=0.1, le=1)]] = Field(
        [1.0, 1.0],
        min_length=2,
        max_length=2,
        description="smallest and largest side of a tile, as a share of its cell's side",
    )
    jitter: int = Field(
        0, ge=0, le=256, description="maximum shift of a tile from its cell's centre in pixels"
    )
    blur: float = Field(0.0, ge=0, le=16, description="sigma of a Gaussian blur in pixels")
    noise: float = Field(
        0.0, ge=0, le=128, description="standard deviation of noise in grey levels, of 256"
    )
    resize: bool = Field(
        False, description="scale pictures to the size that the vision tower takes"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self, info: ValidationInfo) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be [smallest, largest]")
        if self.jitter and self.scale[0] == 1 and not self._awaits("scale", info):
            raise ValueError(
                "jitter needs a scale below 1: tiles that fill their cells cannot move"
            )
        return self


def refuse_gap(picture: PictureConfig, key: str) -> None:
    """Refuse a gap between cells that are not in one picture.

    Args:
        key: of the picture, for the message.

    Raises:
        ValueError: there is such a gap.
    """
    if picture.layout == "multi":
        why = "layout: multi draws each cell as its own picture"
        refuse_unused(picture, ("gap",), why, f"{key}.")
