"""The built-in projectors: names, descriptions, options. The classes are in `model.projector`."""

from pydantic import Field

from gpt2v.config.base import Config
from gpt2v.registry import PROJECTORS

_CLASSES = "gpt2v.model.projector"


class MLPOptions(Config):
    """Options of the projectors that have two layers."""

    hidden_size: int | None = Field(
        None, ge=1, description="width between the two layers; none: GPT-2's width"
    )


@PROJECTORS.register("linear", at=f"{_CLASSES}:LinearProjector")
def linear() -> None:
    """One affine map of the mean of each region of patches."""


@PROJECTORS.register("mlp", options=MLPOptions, at=f"{_CLASSES}:MLPProjector")
def mlp() -> None:
    """Two layers on the mean of each region of patches, as in LLaVA-1.5."""


@PROJECTORS.register("average", options=MLPOptions, at=f"{_CLASSES}:AverageProjector")
def average() -> None:
    """Two layers on every patch, then the mean of each region."""


@PROJECTORS.register("pixel-shuffle", options=MLPOptions, at=f"{_CLASSES}:PixelShuffleProjector")
def pixel_shuffle() -> None:
    """Two layers on the patches of a region side by side, as in InternVL 1.5."""


@PROJECTORS.register("convex", at=f"{_CLASSES}:ConvexProjector")
def convex() -> None:
    """Mixtures of word embeddings, as in AlignVLM."""
