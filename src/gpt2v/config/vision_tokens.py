"""The built-in token sources: which embeddings the GPT-2 gets at the image positions.

Their classes are in `model.vision_tokens`.
"""

from gpt2v.registry import TOKEN_SOURCES

_CLASSES = "gpt2v.model.vision_tokens"


@TOKEN_SOURCES.register("patches", at=f"{_CLASSES}:ProjectedPatches")
def patches() -> None:
    """The projected patches of the picture."""


@TOKEN_SOURCES.register("spliced-text", at=f"{_CLASSES}:SplicedText")
def spliced_text() -> None:
    """The word embeddings of the table as text."""


@TOKEN_SOURCES.register("cell-embeddings", at=f"{_CLASSES}:CellEmbedding")
def cell_embeddings() -> None:
    """One fixed embedding for each cell: the mean of the token embeddings of its object's word."""
