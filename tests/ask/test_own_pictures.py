"""Own pictures: sizes that a model takes, and what happens with others."""

import numpy as np
import pytest
from PIL import Image

from gpt2v.ask.pictures import lay_out, read_picture
from gpt2v.config.grids import GridConfig
from gpt2v.config.pictures import PictureConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.errors import UserError

TOWER = PictureGeometry(image_size=48, patch_size=8)


def black(height, width):
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rows": [1, 3], "cols": 2},
        {"rows": 2, "cols": 2, "picture": PictureConfig(gap=2, border=3)},
        {"rows": 4, "picture": PictureConfig(resize=True)},
        {"rows": 1, "cols": 2, "picture": PictureConfig(layout="multi")},
    ],
)
def test_the_picture_of_a_sample_is_laid_out_as_in_training(bank, changes):
    spec = GridConfig(**changes)
    data = GridDataset(spec, bank, 5, "test")
    for sample in data.examples(np.arange(3)):
        shape, pixels = lay_out(sample.pictures, spec, bank.size, TOWER)
        assert shape == (len(sample.classes), len(sample.classes[0]))
        drawn = GridDataset(spec, bank, 5, "test", sample.index + 1)
        expected = list(drawn.pictures(TOWER.image_size, size=1))[-1].pixels
        np.testing.assert_array_equal(pixels, expected)


def test_another_size_is_scaled_where_that_was_trained(capsys):
    spec = GridConfig(rows=2, cols=4, picture=PictureConfig(resize=True))
    shape, pixels = lay_out([black(100, 199)], spec, 16, TOWER)
    assert shape == (2, 4)
    assert pixels[0, :24].max() == 0
    assert pixels[0, 24:].min() == 128
    said = "image: 199x100 pixels: scaled to 64x32, the size of a 2x4 grid"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "image: 40x30 pixels; the model takes 48x48 (3x3 cells), as it was trained"),
        (
            {"rows": 1, "cols": [1, 2]},
            "image: 40x30 pixels; the model takes 16x16 (1x1 cells), 32x16 (1x2 cells), as it "
            "was trained",
        ),
        (
            {"rows": [1, 3]},
            "image: 40x30 pixels; the model takes 48x16 (1x3 cells), 48x32 (2x3 cells), "
            "48x48 (3x3 cells), as it was trained",
        ),
        (
            {"rows": [1, 2], "picture": PictureConfig(resize=True)},
            "image: 40x30 pixels; the model takes 48x16 (1x3 cells), 48x32 (2x3 cells), as it "
            "was trained",
        ),
        (
            {"rows": 1, "cols": 2, "picture": PictureConfig(layout="multi")},
            "image: 1 pictures; the model takes one of each cell, of a 1x2 grid: 2",
        ),
    ],
)
def test_a_picture_of_another_size_is_refused(changes, says):
    with pytest.raises(UserError) as error:
        lay_out([black(30, 40)], GridConfig(**changes), 16, TOWER)
    assert str(error.value) == says


def test_several_pictures_of_one_grid_are_refused():
    with pytest.raises(UserError, match="image: 2 pictures; the model takes one picture of the"):
        lay_out([black(48, 48)] * 2, GridConfig(), 16, TOWER)


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    Image.new("RGBA", (4, 4)).save(tmp_path / "clear.png")
    for picture, says in (
        (tmp_path / "none.png", "none.png: cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "words.png", "words.png: no picture in a format that is read"),
        (tmp_path / "clear.png", "clear.png: mode RGBA; convert it to RGB"),
        (np.zeros((4, 4)), "an array float64 (4, 4); expected uint8 (height, width, 3)"),
    ):
        with pytest.raises(UserError) as error:
            read_picture(picture)
        assert str(error.value).startswith("image: ")
        assert says in str(error.value)
