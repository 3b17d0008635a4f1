"""Numberings: the objects of a palette get the numbers from 0, each object one of its own.

Like every field of a question, a numbering is stored as one integer. In the order of their classes,
it counts for each object the earlier ones that have a larger number, as digits of the factorial
number system; 0 numbers the objects in that order. So it does not depend on the order in which a
prompt lists the palette.

Shapes: J questions in a flat list.
"""

from math import factorial

import numpy as np

from gpt2v.data.rng import Ints

MOST = 20  # objects; the numberings of more do not fit into 64 bits
_LAST = np.iinfo(np.int64).max


def numbering_of(numbers: Ints, palette: Ints) -> Ints:
    """The integer that stores each numbering, (J,).

    Args:
        numbers: (J, max_objects) number of each object of the palette.
        palette: (J, max_objects) classes, -1 past a palette's end.
    """
    in_order = np.take_along_axis(numbers, _by_class(palette), axis=1)
    size = (palette >= 0).sum(1)
    stored = np.zeros(len(palette), np.int64)
    for i in range(min(palette.shape[1], MOST)):
        larger = (in_order[:, :i] > in_order[:, i : i + 1]).sum(1)
        stored += np.where(i < size, larger, 0) * factorial(i)
    return stored


def numbers_of(numbering: Ints, palette: Ints) -> Ints:
    """The number of each object of the palette, (J, max_objects); -1 past its end.

    Args:
        numbering: (J,) as `numbering_of` stores them.
        palette: (J, max_objects) classes, -1 past a palette's end.
    """
    size = (palette >= 0).sum(1)
    in_order = np.zeros(palette.shape, np.int64)
    for i in range(
        min(palette.shape[1], MOST)
    ):  # the numbers of the first objects, among themselves
        own = i - numbering // factorial(i) % (i + 1)
        in_order[:, :i] += (in_order[:, :i] >= own[:, None]) & (i < size)[:, None]
        in_order[:, i] = own
    numbers = np.empty_like(in_order)
    np.put_along_axis(numbers, _by_class(palette), in_order, axis=1)
    return np.where(palette >= 0, numbers, -1)


def _by_class(palette: Ints) -> Ints:
    """The places of a palette's objects in the order of their classes, (J, max_objects)."""
    return np.argsort(np.where(palette < 0, _LAST, palette), axis=1, kind="stable")
