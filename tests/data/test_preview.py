"""Pictures that are written equal the arrays that models see, and the texts beside them."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.config.measuring import PreviewConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.preview import contact_sheet, montage, preview
from gpt2v.data.render.pictures import compose


@pytest.mark.parametrize("layout", ["composite", "multi"])
def test_pictures_in_png_files_are_the_arrays_that_a_model_sees(bank, layout):
    picture = {"layout": layout, "gap": 2, "border": 1, "noise": 9.0}
    data = GridDataset(GridConfig.model_validate({"rows": 2, "cols": 2, "picture": picture}), bank)
    for example in data.examples(np.arange(3)):
        grids = data.grids(np.array([example.index]))
        seen = compose(grids, bank, 64, data.spec.picture)
        assert len(example.pngs) == len(seen) == (4 if layout == "multi" else 1)
        for png, pixels, shown in zip(example.pngs, seen, example.pictures, strict=True):
            with Image.open(io.BytesIO(png)) as image:
                assert (image.mode, image.info) == ("RGB", {})
                written = np.asarray(image)
            np.testing.assert_array_equal(written, shown)
            height, width = written.shape[:2]
            np.testing.assert_array_equal(written, pixels[:height, :width])


def test_the_contact_sheet_shows_each_pixel_as_a_square(bank):
    """Enlarged by a whole number, without smoothing."""
    data = GridDataset(GridConfig(rows=2, cols=2), bank)
    rows = [example.by_row(example.pictures) for example in data.examples(np.arange(2))]
    pictures = [montage(of_one) for of_one in rows]
    sheet = np.asarray(contact_sheet(pictures, ["a", "b"]))
    side = 32 * 6  # 2 x 2 tiles of 16 pixels, 192 pixels wide
    for number, pixels in enumerate(pictures):
        at = 8 + number * (side + 16)
        large = pixels.repeat(6, axis=0).repeat(6, axis=1)
        np.testing.assert_array_equal(sheet[at : at + side, 8 : 8 + side], large)


def test_a_preview_says_which_letters_its_font_lacks(tmp_path, capsys):
    said = []
    for names in (("ant", "bee"), ("ant", "蜂")):
        root = helpers.picture_folder(tmp_path / names[1], names=names, n=3)
        tiles = TilesConfig(source="folder", path=str(root), size=16)
        spec = GridConfig(rows=2, cols=2, palette=2)
        preview(PreviewConfig(tiles=tiles, grid=spec), 1, tmp_path / "p.png")
        out, err = capsys.readouterr()
        assert f"| {names[1]} |" in out
        said.append(err)
    assert said[0] == ""
    assert said[1].startswith(f"gpt2v: --png: {tmp_path / 'p.png'}: its font lacks 蜂; ")
    assert len(said[1].splitlines()) == 1


def test_a_terminal_that_lacks_letters_shows_their_numbers(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", names=("ant", "蜂"), n=3)
    spec = {"grid": {"rows": 1, "cols": 2, "palette": 2}}
    config = helpers.write_yaml(tmp_path / "c.yaml", spec)
    options = ["--png", tmp_path / "p.png", "--tiles.source", "folder", "--tiles.path", root]
    done = subprocess.run(
        [sys.executable, "-m", "gpt2v", "data", "preview", config, "--n", "2", *options],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert r"\u8702" in done.stdout
