"""The built-in token sources: what stands at the image positions of the language model's input.

Their classes are in `model.vision_tokens`.
"""

from gpt2v.registry import TOKEN_SOURCES

_CLASSES = "gpt2v.model.vision_tokens"


@TOKEN_SOURCES.register("patches", at=f"{_CLASSES}:ProjectedPatches")
def patches() -> None:
    """The projected patches of the picture."""


@TOKEN_SOURCES.register("spliced-text", at=f"{_CLASSES}:SplicedText")
def spliced_text() -> None:
    """The word embeddings of the table, at image positions."""


@TOKEN_SOURCES.register("cell-embeddings", at=f"{_CLASSES}:CellEmbedding")
def cell_embeddings() -> None:
    """One fixed embedding of each cell's object: the mean of its word's token embeddings."""
