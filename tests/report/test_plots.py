"""Charts with names of classes of every script."""

import warnings

import numpy as np
import pytest

from gpt2v.report import maps, plots
from gpt2v.report.analysis import Confusion

NAMES = ["猫", "قطة", "गाय", "café", "US$ a $x"]


def test_names_of_every_script_are_text_in_charts_without_a_word_about_fonts():
    """matplotlib's font lacks some letters; the browser that shows the page has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dots = plots.class_dots("a", "b", NAMES, {"c": (np.linspace(0, 1, 5), "text")}).svg
        confusion = Confusion(NAMES, NAMES, np.eye(5, dtype=int))
        shares = maps.confusion_map("a", "b", confusion, "text", 1.0).svg
    for name in NAMES:
        assert f">{name}</text>" in dots
        assert f">{name}</text>" in shares


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 1), (8, 8), (3, 5)])
def test_maps_of_every_shape_have_room_for_their_numbers(shape):
    """matplotlib warns of a drawing without room."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = maps.cell_map("a", "b", np.full(shape, 0.5), 0.0, "text")
    assert chart.svg.count(">50.0%</text>") == shape[0] * shape[1]
    assert len(chart.values.rows) == shape[0]
    assert len(chart.values.heads) == 1 + shape[1]
