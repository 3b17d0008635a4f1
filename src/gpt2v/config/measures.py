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


@MEASURES.register("beside", at=f"{_CLASSES}.answers:Beside")
def beside() -> None:
    """Each decoder's accuracy minus the model's, among the listed objects, by site."""


@MEASURES.register("attribution", at=f"{_CLASSES}.answers:Attribution")
def attribution() -> None:
    """What wrong answers about pictures are due to, and which faults they show."""


@MEASURES.register("routing", at=f"{_CLASSES}.routing:Routing")
def routing() -> None:
    """Which cells' objects can be read where a question is read, in every layer."""


@MEASURES.register("causal", at=f"{_CLASSES}.causal:CausalUse")
def causal() -> None:
    """Answers when the class of a cell is erased or moved: does the model use it?"""
