"""Learning curves: their names in words, and that none is cut off."""

import re

import pytest

from elements import elements
from gpt2v.report.curves import MOST_ROWS, curve_name, learning_curves

LONG = "text/markdown, text/patch-tiled, text/coordinates: 3x3 of a very long label"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("loss", "training"),
        ("val/text/markdown 3x3_accuracy", "text as markdown 3x3"),
        ("val/image 3x3_accuracy", "image 3x3"),
        ("val/cell_accuracy", "cells of a grid"),
        ("val/stories_loss", "held out: stories"),
    ],
)
def test_names_of_curves_are_words(key, words):
    assert curve_name(key) == words


def lines(*keys, n=60):
    return [
        {"step": step, "loss": 3 / step, **({} if step % 2 else dict.fromkeys(keys, step / n))}
        for step in range(1, n + 1)
    ]


def test_legends_stay_within_the_chart():
    keys = [f"val/{name}_accuracy" for name in (LONG, "image 3x3", "text/markdown 3x3", "a", "b")]
    svg = learning_curves("curve", "Training", lines(*keys)).svg
    texts = [text for text in elements(svg).all("text") if text.text]
    assert sum(text.text in ("a", "b", "image 3x3", "text as markdown 3x3") for text in texts) == 4
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
    for text in texts:
        x, y = map(float, re.search(r"translate\((\S+) (\S+?)\)", _placed(text)).groups())
        assert 0 <= y <= height
        assert x + 0.62 * 8.5 * len(text.text) <= width, text.text


def _placed(text):
    """Its place as `translate(x y)`; charts write it either way."""
    attributes = text.attributes
    where = f"translate({attributes.get('x')} {attributes.get('y')})"
    return attributes["transform"] if "translate" in attributes.get("transform", "") else where


@pytest.mark.parametrize("loss", [0.0, float("nan"), float("inf")])
def test_a_loss_without_a_scale_is_drawn(loss):
    assert (
        "<svg" in learning_curves("c", "Training", [{"step": s, "loss": loss} for s in (1, 2)]).svg
    )


def test_the_table_has_the_values_of_the_curves():
    values = learning_curves("curve", "Training", lines("val/image 3x3_accuracy", n=4)).values
    assert list(values.heads) == ["step", "loss, training", "accuracy, image 3x3"]
    assert values.rows == [
        ["1", "3.000", ""], ["2", "1.500", "50.0%"], ["3", "1.000", ""], ["4", "0.750", "100.0%"],
    ]  # fmt: skip


def test_a_long_training_s_table_is_thinned_out():
    logged = lines("val/image 3x3_accuracy", n=2000)
    values = learning_curves("curve", "Training", logged).values
    assert MOST_ROWS // 2 <= len(values.rows) <= MOST_ROWS
    assert (values.rows[0][0], values.rows[-1]) == ("1", ["2,000", "0.002", "100.0%"])
    assert sum(row[2] != "" for row in values.rows) >= MOST_ROWS // 2
