"""The built-in decoders: names, descriptions, options. Their classes are in `probing.decoders`."""

from typing import Annotated, Literal

from pydantic import Field

from gpt2v.config.base import Config
from gpt2v.registry import DECODERS

_CLASSES = "gpt2v.probing.decoders"


class RidgeOptions(Config):
    """Options of the ridge classifier."""

    n_strengths: int = Field(
        20,
        ge=1,
        le=1000,
        description="how many penalties are tried, in equal ratios from the strongest to the "
        "weakest; the one with the best accuracy on `val` is taken",
    )
    strongest: float = Field(
        1e3, gt=0, description="largest penalty, relative to the mean variance of the features"
    )
    weakest: float = Field(
        1e-6,
        ge=1e-10,
        description="smallest penalty, relative to the mean variance of the features",
    )


class LogisticOptions(RidgeOptions):
    """Options of the multinomial logistic regression."""

    strongest: float = Field(
        10.0, gt=0, description="largest penalty, relative to the mean variance of the features"
    )
    weakest: float = Field(
        1e-5,
        ge=1e-10,
        description="smallest penalty, relative to the mean variance of the features",
    )
    tolerance: float = Field(
        1e-5,
        gt=0,
        description="largest slope that a solution may have in any coefficient, in nats, where "
        "features have a mean variance of 1",
    )
    chosen_by: Literal["accuracy", "likelihood"] = Field(
        "accuracy", description="what the penalty that is taken is best in on `val`"
    )


class NetworkOptions(Config):
    """Options of the decoders that are trained by AdamW."""

    weight_decays: list[Annotated[float, Field(ge=0)]] = Field(
        [0.01, 0.1, 1.0],
        min_length=1,
        description="weight decays of AdamW that are tried; the one with the best accuracy on "
        "`val` is taken",
    )
    lr: float = Field(1e-3, gt=0, description="learning rate")
    batch_size: int = Field(256, ge=1, description="training rows in a step")
    epochs: int = Field(60, ge=1, description="most passes over the training rows")
    patience: int = Field(
        5, ge=1, description="passes without a lower loss on `val` after which a training ends"
    )
    seed: int = Field(0, ge=0, description="of the first weights and of the order of the rows")


class ProjectorOptions(NetworkOptions):
    """Options of the decoder with the architecture of a projector."""

    hidden_size: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="width between the two layers; none: four times the features, at most 1024",
    )


class AttentiveOptions(NetworkOptions):
    """Options of the decoder that attends over patches."""

    n_heads: int = Field(4, ge=1, le=1000, description="how many queries attend over the patches")


class NeighbourOptions(Config):
    """Options of the nearest neighbours."""

    distance: Literal["cosine", "euclidean"] = Field(
        "cosine", description="which pictures are near, on centred features"
    )
    neighbours: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 5, 20, 50],
        min_length=1,
        description="how many may decide; the number with the best accuracy on `val` is taken",
    )


@DECODERS.register("ridge", options=RidgeOptions, at=f"{_CLASSES}.ridge:Ridge")
def ridge() -> None:
    """Least squares on targets of 1 and -1, one class against all others."""


@DECODERS.register("logistic", options=LogisticOptions, at=f"{_CLASSES}.logistic:Logistic")
def logistic() -> None:
    """Multinomial logistic regression with an L2 penalty."""


@DECODERS.register("projector", options=ProjectorOptions, at=f"{_CLASSES}.networks:ProjectorProbe")
def projector() -> None:
    """Two layers, as in the projector `mlp`, trained by AdamW with early stopping on `val`."""


@DECODERS.register("attentive", options=AttentiveOptions, at=f"{_CLASSES}.networks:Attentive")
def attentive() -> None:
    """Learnt queries attend over all patches of the picture, and one layer reads what they find."""


@DECODERS.register("knn", options=NeighbourOptions, at=f"{_CLASSES}.knn:Neighbours")
def knn() -> None:
    """The most frequent class among the nearest training pictures."""
