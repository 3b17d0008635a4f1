"""Documents equal those of the design, character by character, in every form."""

import numpy as np
import pytest

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.spans import cell_span
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import ImageView, TextView
from gpt2v.data.text_pieces import Strings

NAMES = ("bird", "cat", "frog", "horse")
PROMPT = (
    "The grid above is size 3 by 3. "
    "Each cell contains an object from ['horse', 'bird', 'cat', 'frog'].\n"
    "What object is in row 2, column 2? A: bird\n"
    "What object is in row 0, column 1? A: frog\n"
)
TABLE = "| bird | frog | frog |\n| cat | bird | bird |\n| horse | bird | bird |\n"


@pytest.fixture
def example() -> Samples:
    """The example of the task's definition."""
    return Samples(
        index=np.array([0]),
        split=np.array([2]),
        key=np.zeros(1, np.uint64),
        classes=np.array([[[0, 2, 2], [1, 0, 0], [3, 0, 0]]]),
        tiles=np.zeros((1, 3, 3), np.int64),
        palette=np.array([[3, 0, 1, 2]]),
        row=np.array([[2, 0]]),
        col=np.array([[2, 1]]),
    )


def test_the_example_as_text(example):
    assert documents(example, TextView("markdown"), NAMES, Strings()) == [TABLE + PROMPT]


def test_the_example_as_a_picture_differs_in_the_table_only(example):
    view = ImageView(cell_span(9))
    (text,) = documents(example, view, NAMES, Strings())
    assert text == "<image>" * 9 + "\n" + PROMPT


def test_the_example_patch_tiled(example):
    (text,) = documents(example, TextView("patch-tiled", patches=2), NAMES, Strings())
    top = " bird bird frog frog frog frog"
    middle = " cat cat bird bird bird bird"
    bottom = " horse horse bird bird bird bird"
    assert text == top * 2 + middle * 2 + bottom * 2 + "\n" + PROMPT


@pytest.mark.parametrize("patches", [1, 3])
def test_documents_equal_plain_python(long_bank, patches):
    names = long_bank.class_names
    spec = GridConfig(rows=2, cols=11, palette=7)
    samples = draw_samples(spec, long_bank, 0, "train", np.arange(8))
    tables = documents(samples, TextView("markdown"), names, Strings())
    tiled = documents(samples, TextView("patch-tiled", patches), names, Strings())
    for i in range(8):
        after = helpers.chat(samples, i, names)
        grid = helpers.markdown(samples, i, names)
        assert tables[i] == helpers.prefix(samples, i, names, grid) + after
        grid = helpers.patch_tiled(samples, i, names, patches)
        assert tiled[i] == helpers.prefix(samples, i, names, grid) + after


def test_noise_misreads_its_share_of_the_cells_and_nothing_else(bank):
    names, share = bank.class_names, 0.4
    samples = draw_samples(GridConfig(palette=3), bank, 0, "train", np.arange(400))
    clean = documents(samples, TextView("patch-tiled", 2), names, Strings())
    noisy = documents(samples, TextView("patch-tiled", 2, noise=share), names, Strings())
    again = documents(samples, TextView("patch-tiled", 2, noise=share), names, Strings())
    assert noisy == again
    words = [[text.split("\n", 1)[0].split() for text in texts] for texts in (clean, noisy)]
    assert [t.split("\n", 1)[1] for t in clean] == [t.split("\n", 1)[1] for t in noisy]
    differs = (np.array(words[0]) != np.array(words[1])).reshape(400, 3, 2, 3, 2)
    assert (differs == differs[:, :, :1, :, :1]).all()  # all words of a cell
    differs = differs[:, :, 0, :, 0]
    expected = share * (1 - 1 / len(names))
    assert abs(differs.mean() - expected) < 4 * np.sqrt(expected / differs.size)
    assert abs(differs.mean(0) - expected).max() < 0.12  # every cell alike
