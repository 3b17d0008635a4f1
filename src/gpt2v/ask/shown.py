"""What a user shows to a model becomes one grid: a sample, a picture, a table in words, or both."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gpt2v.ask.grids import OneGrid, own_samples
from gpt2v.ask.pictures import Picture, lay_out, read_picture
from gpt2v.ask.words import class_of, read_table
from gpt2v.config.grids import Modality, bounds
from gpt2v.data.render.examples import Example
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError

if TYPE_CHECKING:
    from gpt2v.ask.model import Model


def one_grid(
    model: "Model",
    image: Picture | Sequence[Picture] | None = None,
    text: str | None = None,
    sample: Example | None = None,
    palette: Sequence[str] | None = None,
    modality: Modality | None = None,
) -> OneGrid:
    """The grid that is shown; see `grids.Shown` for the arguments.

    Raises:
        UserError: nothing is shown, or the model cannot see it.
    """
    if sample is not None:
        for key, given in (("image", image), ("text", text), ("palette", palette)):
            if given is not None:
                raise UserError(f"{key}: a sample has its own")
        shown_as: Modality = modality or ("text" if model.gpt2v is None else "image")
        if shown_as != "text":
            _check_eyes(model, "modality")
        return OneGrid(sample.samples, sample.spec, sample.bank, shown_as)
    if image is None and text is None:
        raise UserError("nothing is shown: give image, text or sample")
    if modality is not None:
        raise UserError("modality: is for a sample; image and text are shown as they are")
    spec, bank = model.spec, model.bank
    classes = None if text is None else read_table(text, model.class_names)
    shape, pixels = (0, 0), None
    if image is not None:
        _check_eyes(model, "image")
        if model.gpt2v is None or not model.sees_pixels:
            raise UserError(f"image: {model.name}: was trained without pictures")
        pictures = [read_picture(one) for one in _each(image)]
        shape, pixels = lay_out(pictures, spec, bank.size, model.gpt2v.geometry)
        if classes is not None and classes.shape != shape:
            sizes = [f"{rows}x{cols}" for rows, cols in (shape, classes.shape)]
            raise UserError(f"image: shows a {sizes[0]} grid, but text a {sizes[1]} one")
    listed, note = _palette(model, classes, palette), ""
    fewest, most = bounds(spec.palette)
    if palette is None and classes is None and not fewest <= len(listed) <= most:
        note = (
            f"palette: all {len(listed)} objects, but the model was trained with {spec.palette} in "
            "the prompt; name those that the picture may show"
        )
    cells = np.full(shape, listed[0]) if classes is None else classes
    samples = own_samples(cells, listed, spec.augment.index_bases[0])
    seen: Modality = "text"
    if pixels is not None:
        seen = "image" if classes is None else "text+image"
    return OneGrid(samples, spec, bank, seen, pixels, known=classes is not None, note=note)


def _palette(model: "Model", classes: Ints | None, given: Sequence[str] | None) -> list[int]:
    """The classes that the prompt lists, in order.

    Args:
        classes: of the cells, (rows, columns); None: unknown.
        given: names of the objects.
    """
    names = model.class_names
    if given is not None:
        listed = [class_of(name, names, "palette") for name in given]
        missing = sorted(set(() if classes is None else classes.flat) - set(listed))
        if missing:
            raise UserError(f"palette: lacks {names[missing[0]]}, which the grid holds")
        if not listed or len(set(listed)) < len(listed):
            raise UserError("palette: must name each object once")
        return listed
    if classes is None:
        return list(range(len(names)))
    here = list(dict.fromkeys(classes.reshape(-1).tolist()))
    others = [label for label in range(len(names)) if label not in here]
    fewest, _ = bounds(model.spec.palette)
    return sorted(here + others[: max(0, fewest - len(here))])


def _check_eyes(model: "Model", key: str) -> None:
    if model.gpt2v is None:
        raise UserError(f"{key}: {model.name} is a GPT-2 without vision tower: it reads text only")


def _each(image: Picture | Sequence[Picture]) -> Sequence[Picture]:
    if isinstance(image, str | os.PathLike | Image.Image | np.ndarray):
        return [image]
    return image
