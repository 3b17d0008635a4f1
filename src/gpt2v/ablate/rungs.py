"""Rungs of the vision-token ladder, from text to picture. Each is a class registered in `RUNGS`.

A rung has a layout (it decides where the image positions are), a token source (it gives the
embeddings there) and a parent (the rung that it is compared with). The first line of the class's
docstring is the rung's description in the results and in the report.
"""

from typing import Any, ClassVar

from gpt2v.registry import RUNGS


class Rung:
    """One rung of the ladder.

    Attributes:
        title: a few words.
        layout: a name in `data.render.views.LAYOUTS`.
        source: name of a token source, or a mapping with a name and options; None: the layout has
            no image positions.
        parent: name of the rung that it is compared with.
        equals_parent: whether every logit must be equal to the parent's.
    """

    title: ClassVar[str]
    layout: ClassVar[str]
    source: ClassVar[Any] = None
    parent: ClassVar[str | None] = None
    equals_parent: ClassVar[bool] = False


@RUNGS.register("R0")
class Text(Rung):
    """The table as text."""

    title = "text"
    layout = "text"


@RUNGS.register("R1")
class SplicedText(Rung):
    """The table's own word embeddings, put in at image positions."""

    title = "text through the splice"
    layout, source, parent = "spliced", "spliced-text", "R0"
    equals_parent = True


@RUNGS.register("R2")
class OnePerCell(Rung):
    """One fixed embedding of the object for each cell, no delimiters."""

    title = "one embedding per cell"
    layout, source, parent = "cells", "cell-embeddings", "R1"


@RUNGS.register("R3")
class OnePerVisionToken(Rung):
    """The cell's fixed embedding at each of its vision tokens, laid out as in a picture."""

    title = "one embedding per vision token"
    layout, source, parent = "positions", "cell-embeddings", "R2"


@RUNGS.register("R4")
class Picture(Rung):
    """The projected patches."""

    title = "picture"
    layout, source, parent = "image", "patches", "R3"
