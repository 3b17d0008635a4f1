"""The user's own pictures: read, compared with the sizes that a model takes, and laid out for it.

Shapes: P pictures, S side of a picture in pixels.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from gpt2v.config.grids import ContentConfig, bounds
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.render.pictures import Pictures, on_canvas
from gpt2v.data.render.spans import PictureGeometry, natural_size
from gpt2v.data.render.views import picture_of
from gpt2v.data.tiles.decoding import Unreadable, decode_as
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.resizing import resize
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.storage.files import reason

Picture = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclass(frozen=True)
class GivenPictures(Pictures):
    """Pictures that are not drawn from tiles."""

    given: Pixels  # (P, S, S, 3)

    @property
    def pixels(self) -> Pixels:
        """Pixels of all pictures, (P, S, S, 3) uint8."""
        return self.given

    def __len__(self) -> int:
        return len(self.given)


def read_picture(picture: Picture) -> Pixels:
    """The pixels of a picture, (height, width, 3) uint8.

    Args:
        picture: a file, an image of Pillow, or an array (height, width, 3) of uint8.

    Raises:
        UserError: the file cannot be read, or does not convert to RGB exactly; or the array is no
            such array.
    """
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UserError(
                f"image: an array {picture.dtype} {picture.shape}; expected uint8 "
                "(height, width, 3)"
            )
        return picture
    try:
        return decode_as(np.asarray, Path(picture).read_bytes())
    except OSError as error:
        raise UserError(f"image: {picture}: cannot be read: {reason(error)}") from None
    except Unreadable as error:
        raise UserError(f"image: {picture}: {error}") from None


def lay_out(
    pictures: Sequence[Pixels], spec: ContentConfig, cell_size: int, geometry: PictureGeometry
) -> tuple[tuple[int, int], Pixels]:
    """The shape of the grid that pictures show, and the pictures as the vision tower takes them.

    Args:
        pictures: one of the grid; or, with layout multi, one of each cell in raster order.
        spec: the grids that the model was trained on.
        cell_size: side of a tile in pixels.
        geometry: of the vision tower.

    Returns:
        (rows, columns), and pixels (P, S, S, 3).

    Raises:
        UserError: the model was trained on no grid with such pictures.
    """
    picture = picture_of(spec)
    cell = picture.cell or cell_size
    (rows, most_rows), (cols, most_cols) = bounds(spec.rows), bounds(spec.cols)
    shapes = list(product(range(rows, most_rows + 1), range(cols, most_cols + 1)))
    multi = picture.layout == "multi"
    if multi:
        fits = [shape for shape in shapes if shape[0] * shape[1] == len(pictures)]
        if len(fits) != 1:
            counts = sorted({rows * cols for rows, cols in shapes})
            raise UserError(
                f"image: {len(pictures)} pictures; the model takes one of each cell, of a "
                f"{spec.size} grid: {', '.join(map(str, counts))}"
            )
        sizes = {natural_size(1, 1, cell, picture): fits[0]}
    else:
        if len(pictures) != 1:
            raise UserError(
                f"image: {len(pictures)} pictures; the model takes one picture of the whole grid"
            )
        sizes = {natural_size(*shape, cell, picture): shape for shape in shapes}
    shape, sheets = (0, 0), []
    for pixels in pictures:
        shape, sheet = _fitted(pixels, sizes, picture)
        sheets.append(on_canvas(sheet[None], geometry.image_size, picture))
    return shape, np.concatenate(sheets)


def _fitted(
    pixels: Pixels, sizes: dict[tuple[int, int], tuple[int, int]], picture: PictureConfig
) -> tuple[tuple[int, int], Pixels]:
    """The shape of the grid with a picture of this size; the picture, scaled if that was trained.

    Args:
        sizes: (height, width) -> (rows, columns).
    """
    height, width = pixels.shape[:2]
    if (height, width) in sizes:
        return sizes[height, width], pixels
    seen = f"image: {width}x{height} pixels"
    if picture.resize and len(sizes) == 1:
        ((to_height, to_width), shape) = next(iter(sizes.items()))
        say(f"{seen}: scaled to {to_width}x{to_height}, the size of a {_named(shape)} grid")
        return shape, resize(pixels[None], to_height, to_width)[0]
    listed = [f"{w}x{h} ({_named(shape)} cells)" for (h, w), shape in sizes.items()]
    if len(listed) > 4:
        listed = [*listed[:2], "...", listed[-1]]
    raise UserError(f"{seen}; the model takes {', '.join(listed)}, as it was trained")


def _named(shape: tuple[int, int]) -> str:
    return "x".join(map(str, shape))
