"""Numberings: each is stored as one integer, and found again, whatever the order of the palette."""

from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.numbering import MOST, numbering_of, numbers_of
from gpt2v.data.grids.samples import draw_samples

sizes = st.lists(st.integers(1, MOST), min_size=1, max_size=6)


def padded(rows, width):
    return np.array([[*row, *[-1] * (width - len(row))] for row in rows])


@given(sizes, st.randoms(use_true_random=False))
def test_a_numbering_is_found_again(sizes, random):
    width = max(sizes)
    palettes = padded([random.sample(range(100), n) for n in sizes], width)
    numbers = padded([random.sample(range(n), n) for n in sizes], width)
    stored = numbering_of(np.where(palettes < 0, 99, numbers), palettes)  # what is past is ignored
    assert (stored >= 0).all()
    assert [s < factorial(n) for s, n in zip(stored.tolist(), sizes, strict=True)] == [True] * len(
        sizes
    )
    np.testing.assert_array_equal(numbers_of(stored, palettes), numbers)
    shuffled = np.array([random.sample(range(width), width) for _ in sizes])
    moved = [np.take_along_axis(one, shuffled, axis=1) for one in (palettes, numbers)]
    whole = [n == width for n in sizes]  # a palette is padded at its end
    np.testing.assert_array_equal(
        numbers_of(stored, moved[0])[whole], moved[1][whole], "in another order"
    )


@pytest.mark.parametrize("n", range(1, 6))
def test_every_numbering_has_its_own_integer(n):
    every = np.array(list(permutations(range(n))))
    palettes = np.tile(np.arange(n) * 3, (len(every), 1))
    assert sorted(numbering_of(every, palettes).tolist()) == list(range(factorial(n)))


def test_numberings_are_drawn_evenly_and_do_not_depend_on_the_cells(bank):
    """24 numberings of four objects: a chi-squared test, and its like for one cell's number."""
    spec = GridConfig(instructions={"matrix": 1.0})
    n = 4800
    samples = draw_samples(spec, bank, 0, "train", np.arange(n))
    counts = np.bincount(samples.numbering[:, 0], minlength=24)
    assert ((counts - n / 24) ** 2 / (n / 24)).sum() < 49.7  # its 99.9% point, 23 degrees
    numbers = numbers_of(samples.numbering[:, 0], samples.palette)
    place = (samples.palette == samples.classes[:, 0, 0, None]).argmax(1)
    said = np.bincount(numbers[np.arange(n), place], minlength=4)
    assert ((said - n / 4) ** 2 / (n / 4)).sum() < 16.3  # 3 degrees


def test_few_objects_in_a_wide_palette():
    palette = np.full((1, 30), -1)
    palette[0, :2] = [4, 1]
    numbers = np.full((1, 30), -1)
    numbers[0, :2] = [1, 0]
    np.testing.assert_array_equal(numbers_of(numbering_of(numbers, palette), palette), numbers)
