"""The built-in decoders: names, descriptions, options. Their classes are in `probing.decoders`."""

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
        1e-6, gt=0, description="smallest penalty, relative to the mean variance of the features"
    )


class LogisticOptions(RidgeOptions):
    """Options of the multinomial logistic regression."""

    strongest: float = Field(
        10.0, gt=0, description="largest penalty, relative to the mean variance of the features"
    )
    weakest: float = Field(
        1e-5, gt=0, description="smallest penalty, relative to the mean variance of the features"
    )
    tolerance: float = Field(
        1e-5,
        gt=0,
        description="largest slope that a solution may have in any coefficient, in nats, where "
        "features have a mean variance of 1",
    )


@DECODERS.register("ridge", options=RidgeOptions, at=f"{_CLASSES}.ridge:Ridge")
def ridge() -> None:
    """Least squares on targets of 1 and -1, one class against all others."""


@DECODERS.register("logistic", options=LogisticOptions, at=f"{_CLASSES}.logistic:Logistic")
def logistic() -> None:
    """Multinomial logistic regression with an L2 penalty."""
