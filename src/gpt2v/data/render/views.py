"""Views: how a sample is laid out in a model's input, without saying what stands for its pictures.

A layout has a name, by which data specs, evaluations and rungs choose it; of a spec and a vision
tower's geometry it makes a view. A new one is one function, and its place in LAYOUTS.
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
    """The grid as words: in a form, which for `patch-tiled` has `patches` x `patches` words a cell.

    With `noise` each patch-tiled word is, with that chance, drawn anew from all objects, so that
    a reader has to weigh a cell's words against each other and against the palette.
    With `spliced` the table's tokens become image placeholders that stand for themselves: the
    same embeddings reach the language model through the image splice.
    """

    form: str = "markdown"  # a name in TEXT_FORMS, or a choice with options
    patches: int = 1
    noise: float = 0.0
    spliced: bool = False

    @classmethod
    def of(cls, spec: Config) -> Self:
        """As a data spec says, or the table where it says nothing."""
        shown = spec if isinstance(spec, ViewConfig) else ViewConfig()
        return cls(shown.form, shown.patches, shown.noise)


@dataclass(frozen=True)
class ImageView:
    """The grid as the placeholders of its picture (or of one embedding each), and then, in words.

    `span` says what the placeholders of a grid stand for; those of several pictures have a line
    for each row of the grid.
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
    """How a spec's pictures are drawn; the usual way where it does not say."""
    return spec.picture if isinstance(spec, PicturedConfig) else PictureConfig()


def view_of(
    spec: ContentConfig, layout: str, cell_size: int, geometry: PictureGeometry | None
) -> View:
    """A layout of the grids of a spec.

    Args:
        layout: a name in LAYOUTS.
        cell_size: side of a tile in pixels.
        geometry: the pictures that the model takes, in vision tokens; none: it takes none.

    Raises:
        UserError: the layout shows pictures, but the model has no vision tower.
        KeyError: there is no such layout.
    """
    return LAYOUTS[layout](spec, cell_size, geometry)


_Make = Callable[[ContentConfig, int, PictureGeometry | None], View]


def _text(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> TextView:
    """The grid in words."""
    return TextView.of(spec)


def _spliced(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> TextView:
    """The grid in words, whose tokens are image positions."""
    return replace(TextView.of(spec), spliced=True)


def _image(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """The vision tokens of the grid's picture, or of each cell's."""
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
    """The positions of the picture's vision tokens, with no picture drawn."""
    return replace(_image(spec, cell_size, geometry), with_pixels=False)


def _cells(spec: ContentConfig, cell_size: int, geometry: PictureGeometry | None) -> ImageView:
    """One image position for each cell, in raster order, with no picture drawn."""
    return ImageView(lambda rows, cols: cell_span(rows * cols), with_pixels=False)


LAYOUTS: dict[str, _Make] = {
    "text": _text,
    "image": _image,
    "text+image": _both,
    "spliced": _spliced,
    "positions": _positions,
    "cells": _cells,
}
