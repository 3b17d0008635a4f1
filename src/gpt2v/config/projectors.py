"""The built-in projectors: names, descriptions, options. Their classes are in `model.projector`."""

from pydantic import Field

from gpt2v.config.base import Config
from gpt2v.registry import PROJECTORS

_CLASSES = "gpt2v.model.projector"


class MLPOptions(Config):
    """Options of the projectors with two layers."""

    hidden_size: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="width between the two layers; none: width of the GPT-2",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="chance to drop each value before each layer, in training: features of trained "
        "pictures are clearer than those of new ones",
    )


@PROJECTORS.register("linear", at=f"{_CLASSES}:LinearProjector")
def linear() -> None:
    """One affine layer on the mean of each region of patches."""


@PROJECTORS.register("mlp", options=MLPOptions, at=f"{_CLASSES}:MLPProjector")
def mlp() -> None:
    """Two layers on the mean of each region of patches, as in LLaVA-1.5."""


@PROJECTORS.register("average", options=MLPOptions, at=f"{_CLASSES}:AverageProjector")
def average() -> None:
    """Two layers on each patch, then the mean of each region."""


@PROJECTORS.register("pixel-shuffle", options=MLPOptions, at=f"{_CLASSES}:PixelShuffleProjector")
def pixel_shuffle() -> None:
    """Two layers on the concatenated patches of each region, as in InternVL 1.5."""


@PROJECTORS.register("convex", at=f"{_CLASSES}:ConvexProjector")
def convex() -> None:
    """Mixtures of word embeddings, as in AlignVLM."""
