"""Rungs of the vision-token ladder, from text to picture. Each is a class registered in `RUNGS`.

A rung names a layout (where image positions are), a token source (what stands at them) and its
parent, the rung that it is compared with.
"""

from typing import Any, ClassVar

from gpt2v.registry import RUNGS


class Rung:
    """What stands at the image positions; the first line of the docstring describes it.

    Attributes:
        title: a few words.
        layout: a name in `data.render.views.LAYOUTS`.
        source: a token source's name, or a mapping of a name and options; none: no image positions.
        parent: the rung that it is compared with.
        equals_parent: whether every logit must be its parent's.
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
