"""Views: how a sample is laid out in a model's input, but not the embeddings of its pictures.

Data specs, evaluations and rungs choose a layout by its name. A layout makes a view from a spec and
the geometry of a vision tower. A new layout is one function and its entry in LAYOUTS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

from gpt2v.config.base import Config
from gpt2v.config.grids import ContentConfig, PicturedConfig, ViewConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.render.spans import ImageSpan, PictureGeometry, Spans, cell_span
from gpt2v.errors import UserError


@dataclass(frozen=True)
class TextView:
    """The grid as words.

    Attributes:
        form: the text form.
        patches: form `patch-tiled` has `patches` x `patches` words for each cell.
        noise: chance that a patch-tiled cell is written as a random one of all objects, in all its
            words, as an object is mistaken as a whole. A reader then has to weigh the words against
            the palette.
        spliced: the table's tokens become image placeholders that stand for the same tokens: the
            same embeddings reach the language model through the image splice.
    """

    form: str = "markdown"  # a name in TEXT_FORMS, or a choice with options
    patches: int = 1
    noise: float = 0.0
    spliced: bool = False

    @classmethod
    def of(cls, spec: Config) -> Self:
        """The form of a data spec; the plain table if the spec has none."""
        shown = spec if isinstance(spec, ViewConfig) else ViewConfig()
        return cls(shown.form, shown.patches, shown.noise)


@dataclass(frozen=True)
class ImageView:
    """The grid as image placeholders, and after them optionally in words.

    Attributes:
        span: what the placeholders of a grid stand for. With a picture for each cell, the
            placeholders have one line for each row of the grid.
        with_pixels: whether pictures are drawn.
        picture: how they are drawn; None: the default way.
        words: the view in words that follows; None: no words follow.
    """

    span: ImageSpan | Spans
    with_pixels: bool = True
    picture: PictureConfig | None = None
    words: TextView | None = None

    def span_of(self, rows: int, cols: int) -> ImageSpan:
        """The placeholders of a grid of this shape."""
        return self.span if isinstance(self.span, ImageSpan) else self.span(rows, cols)


View = TextView | ImageView


def picture_of(spec: Config) -> PictureConfig:
    """How the pictures of a spec are drawn; the default way if the spec does not say it."""
    return spec.picture if isinstance(spec, PicturedConfig) else PictureConfig()


def view_of(
    spec: ContentConfig, layout: str, cell_size: int, geometry: PictureGeometry | None
) -> View:
    """The view of a spec's grids in a layout.

    Args:
        layout: a name in LAYOUTS.
        cell_size: side of a tile in pixels.
        geometry: of the pictures that the model takes; None: it takes no pictures.

    Raises:
        UserError: the layout shows pictures, but the model has no vision tower.
        KeyError: no such layout.
    """
    return LAYOUTS[layout](spec, cell_size, geometry)


_Make = Callable[[ContentConfig, int, PictureGeometry | None], View]


def _text(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> TextView:
    """The grid in words."""
    return TextView.of(spec)


def _spliced(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> TextView:
    """The grid in words whose tokens are image positions."""
    return replace(TextView.of(spec), spliced=True)


def _image(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """The vision tokens of the grid's picture, or of the picture of each cell."""
    if geometry is None:
        raise UserError("modality: image needs a model with a vision tower")
    picture = picture_of(spec)

    @cache
    def span(rows: int, cols: int) -> ImageSpan:
        return geometry.span(rows, cols, cell_size, picture)

    return ImageView(span, picture=picture)


def _both(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """The picture, and then the grid in words."""
    return replace(_image(spec, cell_size, geometry), words=TextView.of(spec))


def _positions(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """The image positions of the picture's vision tokens; no picture is drawn."""
    return replace(_image(spec, cell_size, geometry), with_pixels=False)


def _cells(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """One image position for each cell in raster order; no picture is drawn."""
    return ImageView(lambda rows, cols: cell_span(rows * cols), with_pixels=False)


LAYOUTS: dict[str, _Make] = {
    "text": _text,
    "image": _image,
    "text+image": _both,
    "spliced": _spliced,
    "positions": _positions,
    "cells": _cells,
}
