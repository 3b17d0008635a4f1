"""Charts with names of classes of every script."""

import warnings

import numpy as np

from gpt2v.report import plots

NAMES = ["猫", "قطة", "गाय", "café", "US$ a $x"]


def test_names_of_every_script_are_text_in_charts_without_a_word_about_fonts():
    """matplotlib's font lacks some letters; the browser that shows the page has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dots = plots.class_dots("a", "b", NAMES, {"c": (np.linspace(0, 1, 5), "text")})
        shares = plots.confusion_map("a", "b", np.eye(5), NAMES, "text", 1.0)
    for name in NAMES:
        assert f">{name}</text>" in dots
        assert f">{name}</text>" in shares
