"""Every text form, compared with plain Python and read back."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import AugmentConfig, GridConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.data.text_pieces import Strings

FORMS = ["markdown", "csv", "latex", "coordinates", "plain"]


def written(form, grid, base):
    """The lines of a grid of words, in plain Python."""
    if form == "markdown":
        return "".join("| " + " | ".join(row) + " |\n" for row in grid)
    if form == "csv":
        return "".join(",".join(row) + "\n" for row in grid)
    if form == "plain":
        return "".join(" ".join(row) + "\n" for row in grid)
    if form == "latex":
        lines = "".join(" & ".join(row) + " \\\\\n" for row in grid)
        begin = "\\begin{tabular}{" + "c" * len(grid[0]) + "}\n"
        return begin + lines + "\\end{tabular}\n"
    return "".join(
        f"({r + base}, {c + base}): {word}\n"
        for r, row in enumerate(grid)
        for c, word in enumerate(row)
    )


def words_of(samples, i, names):
    rows, cols = samples.rows[i], samples.cols[i]
    return [[names[c] for c in row[:cols]] for row in samples.classes[i][:rows]]


@given(st.sampled_from(FORMS), st.integers(0, 9), st.booleans())
def test_forms_equal_plain_python(bank, long_bank, form, seed, long):
    names = (long_bank if long else bank).class_names
    augment = AugmentConfig(index_bases=[0, 1])
    spec = GridConfig(rows=[1, 4], cols=[1, 11], palette=[1, 8], questions=1, augment=augment)
    samples = draw_samples(spec, bank, seed, "train", np.arange(6))
    for i, text in enumerate(documents(samples, TextView(form), names, Strings())):
        lines = written(form, words_of(samples, i, names), int(samples.base[i]))
        assert text.startswith(lines + "The grid above is size ")


def test_patch_tiled_words_of_grids_of_different_sizes(bank):
    spec = GridConfig(rows=[1, 3], cols=[1, 3], palette=2, questions=1)
    samples = draw_samples(spec, bank, 0, "train", np.arange(20))
    for i, text in enumerate(
        documents(samples, TextView("patch-tiled", 2), bank.class_names, Strings())
    ):
        rows = [
            [w for word in row for w in (word, word)]
            for row in words_of(samples, i, bank.class_names)
            for _ in range(2)
        ]
        assert text.split("\n")[0] == "".join(f" {word}" for row in rows for word in row)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_say_the_same_after_the_grid(bank, form):
    samples = draw_samples(GridConfig(), bank, 0, "train", np.arange(5))
    names = bank.class_names
    plain = documents(samples, TextView(), names, Strings())
    other = documents(samples, TextView(form), names, Strings())
    for one, two in zip(plain, other, strict=True):
        assert one[one.index("The grid above") :] == two[two.index("The grid above") :]


def test_pictures_for_each_cell_are_in_the_grids_lines(bank):
    geometry, picture = PictureGeometry(16, 8), PictureConfig(layout="multi")
    view = ImageView(lambda r, c: geometry.span(r, c, 16, picture), picture=picture)
    spec = GridConfig(rows=[1, 3], cols=[1, 3], palette=2, questions=1)
    samples = draw_samples(spec, bank, 0, "train", np.arange(20))
    for i, text in enumerate(documents(samples, view, bank.class_names, Strings())):
        line = "<image>" * 4 * int(samples.cols[i]) + "\n"
        assert text.startswith(line * int(samples.rows[i]) + "The grid above")
        assert text.count("<image>") == 4 * samples.n_cells[i]


def test_text_and_image_has_the_picture_first_and_then_the_table(bank):
    span = PictureGeometry(48, 8).span
    samples = draw_samples(GridConfig(), bank, 0, "train", np.arange(3))
    view = ImageView(lambda r, c: span(r, c, 16), words=TextView("csv"))
    names = bank.class_names
    for both, text in zip(
        documents(samples, view, names, Strings()),
        documents(samples, TextView("csv"), names, Strings()),
        strict=True,
    ):
        assert both == "<image>" * 36 + "\n" + text


def test_held_out_words_are_never_those_of_training(bank):
    def questions(held_out):
        spec = GridConfig(
            instructions={"lookup": 1.0, "count": 1.0},
            augment=AugmentConfig(paraphrase=True, held_out=held_out),
        )
        samples = draw_samples(spec, bank, 0, "train", np.arange(300))
        texts = documents(samples, TextView(), bank.class_names, Strings())
        lines = [line for text in texts for line in text.splitlines()[3:]]
        blank = "|".join([*bank.class_names, r"\d+", r"\[.*\]"])
        return {re.sub(blank, "_", line.split(" A: ")[0]) for line in lines}

    trained, held_out = questions(False), questions(True)
    assert len(trained) == 3 + 6 + 3  # prompts, look-ups, counts
    assert len(held_out) == 1 + 2 + 1
    assert not trained & held_out
