"""Figures: what they show, and that they leave pyplot alone."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

import gpt2v
from gpt2v import plot
from gpt2v.config.pictures import PictureConfig
from gpt2v.model.attention import Attention


def records(**columns):
    """Two grids of 1x2 cells in two modalities; the picture of the last cell is misread."""
    plain = {
        "modality": ["text"] * 4 + ["image"] * 4,
        "instruction": ["lookup"] * 8,
        "sample": [0, 0, 1, 1] * 2,
        "row": [0] * 8,
        "col": [0, 1] * 4,
        "exact": [True] * 7 + [False],
    }
    return pa.table({**plain, **columns})


def numbers(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_sample_is_shown_with_its_first_question(bank):
    data = gpt2v.GridDataset(gpt2v.GridConfig(rows=2, cols=3), bank)
    figure = plot.sample(data[0])
    (shown,) = figure.axes[0].get_images()
    np.testing.assert_array_equal(shown.get_array(), data[0].pictures[0])
    title = figure.axes[0].get_title()
    assert title == f"{data[0].questions[0]} {data[0].answers[0]}"


def test_the_pictures_of_cells_are_shown_together(bank):
    spec = gpt2v.GridConfig(rows=2, cols=3, picture=PictureConfig(layout="multi"))
    (shown,) = plot.sample(gpt2v.GridDataset(spec, bank)[0]).axes[0].get_images()
    assert shown.get_array().shape == (2 * 16 + 4, 3 * 16 + 8, 3)


def test_the_accuracy_of_each_cell():
    assert numbers(plot.accuracy_by_cell(records())) == ["100.0%", "75.0%"]
    assert numbers(plot.accuracy_by_cell(records(), modality="image")) == ["100.0%", "50.0%"]
    assert numbers(plot.accuracy_by_cell(records(), modality="text")) == ["100.0%", "100.0%"]


def test_only_look_ups_are_counted():
    asked = records(instruction=["lookup"] * 7 + ["neighbour"])
    assert numbers(plot.accuracy_by_cell(asked)) == ["100.0%", "100.0%"]
    with pytest.raises(gpt2v.UserError, match="no look-up in the records of speech"):
        plot.accuracy_by_cell(records(), modality="speech")


def test_the_records_of_a_probe_are_counted():
    table = pa.table({"row": [0, 0], "col": [0, 1], "truth": ["a", "b"], "prediction": ["a", "a"]})
    assert numbers(plot.accuracy_by_cell(table)) == ["100.0%", "0.0%"]


def test_the_attention_of_layers_and_heads():
    weights = np.random.default_rng(0).random((2, 3, 2, 4), np.float32)
    cells = np.array([[0, 0, 1, 1]] * 2)
    found = Attention("What?", weights, cells, np.zeros((16, 32, 3), np.uint8))
    for layer, head, expected in (
        (None, None, weights.mean((0, 1))),
        (-1, None, weights[-1].mean(0)),
        (None, 2, weights[:, 2].mean(0)),
        (0, 1, weights[0, 1]),
    ):
        _, heat = plot.attention(found, layer, head).axes[0].get_images()
        np.testing.assert_allclose(heat.get_array(), expected, rtol=1e-6)
        assert tuple(heat.get_extent()) == (-0.5, 31.5, 15.5, -0.5)


def asked():
    """Four grids of two sizes in two modalities, with two choices for each question."""
    rows = []
    for modality in ("text", "image"):
        for sample in range(4):
            side = 2 + sample % 2
            sure = 0.9 if modality == "text" else 0.6
            rows += [
                {
                    "model": "gpt2v",
                    "modality": modality,
                    "sample": sample,
                    "content": sample,
                    "rows": side,
                    "cols": side,
                    "slot": col,
                    "palette": ["a", "b"],
                    "instruction": "lookup",
                    "row": 0,
                    "col": col,
                    "tiles": [2 * sample + col],
                    "truth": "a",
                    "exact": (modality, side, col) != ("image", 3, 1),
                    "choices": ["a", "b"],
                    "logprobs": np.log([sure, 1 - sure]).tolist(),
                }
                for col in range(2)
            ]
    return pa.Table.from_pylist(rows)


def lines(figure):
    """The points of each series, by its label."""
    axes = figure.axes[0]
    found = zip(*axes.get_legend_handles_labels(), strict=True)
    return {
        label: np.array((handle[0] if isinstance(handle, tuple) else handle).get_xydata())
        for handle, label in found
    }


def test_the_accuracy_by_size_of_the_grid():
    found = lines(plot.accuracy_by(asked(), "size"))
    assert {label: points[:, 1].tolist() for label, points in found.items()} == {
        "gpt2v, text": [1.0, 1.0],
        "gpt2v, image": [1.0, 0.5],
    }
    figure = plot.accuracy_by(asked(), "question")
    assert figure.axes[0].get_xlabel() == "earlier questions"
    assert lines(figure)["gpt2v, image"][:, 1].tolist() == [1.0, 0.5]
    with pytest.raises(gpt2v.UserError, match="by: hue: no such key; there are size, palette"):
        plot.accuracy_by(asked(), "hue")
    with pytest.raises(gpt2v.UserError, match="the records have no column 'model'"):
        plot.accuracy_by(records(), "size")


def test_the_reliability_of_each_modality():
    found = lines(plot.reliability(asked()))
    assert list(found) == ["gpt2v, text: ECE 10.0%", "gpt2v, image: ECE 40.0%"]
    np.testing.assert_allclose(found["gpt2v, image: ECE 40.0%"], [[0.6, 1.0]])
    none = asked().set_column(14, "choices", pa.array([[]] * 16, pa.list_(pa.string())))
    assert none.column_names.count("choices") == 1
    with pytest.raises(gpt2v.UserError, match="no question in the records has listed choices"):
        plot.reliability(none)


def test_the_learning_curve_has_loss_and_accuracy(lm_run):
    figure = plot.learning_curve(lm_run)
    loss, accuracy = figure.axes
    (line,) = loss.lines
    steps = line.get_xdata()
    assert (steps[-1], len(steps)) == (100, len(set(steps)))
    assert [line.get_label() for line in accuracy.lines] == ["text/markdown 1x2"]


def test_a_run_without_a_log_is_refused(tmp_path):
    with pytest.raises(gpt2v.UserError, match=r"metrics\.jsonl: cannot be read"):
        plot.learning_curve(tmp_path)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(gpt2v.UserError, match=r"metrics\.jsonl: no step is logged"):
        plot.learning_curve(tmp_path)


def test_given_axes_are_drawn_into():
    whole = Figure()
    left, right = whole.subplots(1, 2)
    assert plot.accuracy_by_cell(records(), ax=right) is whole
    assert right.texts
    assert not left.texts


def test_pyplot_is_not_imported():
    code = "import sys, gpt2v; gpt2v.plot.sample; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
