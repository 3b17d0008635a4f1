"""The built-in measures of a probe: names and descriptions. Their classes are in
`gpt2v.probing.measures`."""

from gpt2v.registry import MEASURES

_CLASSES = "gpt2v.probing.measures"


@MEASURES.register("selectivity", at=f"{_CLASSES}.selectivity:Selectivity")
def selectivity() -> None:
    """True classes minus random ones of each source picture, on training pictures in new grids."""


@MEASURES.register("learning-curve", at=f"{_CLASSES}.learning_curve:LearningCurve")
def learning_curve() -> None:
    """Every decoder with 1/16 to all of the training pictures."""


@MEASURES.register("leakage", at=f"{_CLASSES}.leakage:Leakage")
def leakage() -> None:
    """The object of each cell from the patches of each cell."""


@MEASURES.register("transfer", at=f"{_CLASSES}.transfer:Transfer")
def transfer() -> None:
    """Decoders of one cell at the patches of another."""


@MEASURES.register("equal-dimension", at=f"{_CLASSES}.equal_dimension:EqualDimension")
def equal_dimension() -> None:
    """Every site by equally many principal components."""


@MEASURES.register("description-length", at=f"{_CLASSES}.description_length:DescriptionLength")
def description_length() -> None:
    """Bits of the classes by a logistic decoder's online code."""
