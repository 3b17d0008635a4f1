"""Pictures decode back to their tiles, and a span says which cell each patch is in."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry, cell_span, patch_tiled_cells
from gpt2v.data.tiles.bank import tile_ids
from gpt2v.errors import UserError


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 20))
def test_a_picture_is_its_tiles(bank, rows, cols, spare):
    spec = GridConfig(rows=rows, cols=cols, palette=2)
    samples = draw_samples(spec, bank, 0, "test", np.arange(3))
    tiles = dict(zip(bank.tiles("test").tolist(), bank.splits["test"].pixels, strict=True))
    size = max(rows, cols) * 16 + spare
    pictures = compose(samples, bank, size)
    assert pictures.shape == (3, size, size, 3)
    assert pictures.dtype == np.uint8
    for i in range(3):
        for r in range(rows):
            for c in range(cols):
                cell = pictures[i, r * 16 : (r + 1) * 16, c * 16 : (c + 1) * 16]
                np.testing.assert_array_equal(cell, tiles[int(samples.tiles[i, r, c])])
    outside = np.ones((size, size), bool)
    outside[: rows * 16, : cols * 16] = False
    assert (pictures[:, outside] == 128).all()


@pytest.mark.parametrize(
    ("rows", "cols", "image", "patch"),
    [(3, 3, 48, 8), (3, 3, 48, 16), (2, 3, 48, 8), (1, 2, 64, 16), (2, 1, 48, 4), (3, 3, 60, 12)],
)
def test_each_patch_belongs_to_the_cell_painted_there(bank, rows, cols, image, patch):
    n = rows * cols
    colours = np.arange(1, 11, dtype=np.uint8) * 20  # of each class, never the background's 128
    painted = helpers.repainted(
        bank, lambda pixels, labels: helpers.in_grey(pixels, colours[labels])
    )
    samples = draw_samples(GridConfig(rows=rows, cols=cols), bank, 0, "train", np.arange(1))
    samples = dataclasses.replace(
        samples, tiles=tile_ids("train", np.arange(n), 0).reshape(1, rows, cols)
    )
    picture = compose(samples, painted, image)[0, :, :, 0]
    span = PictureGeometry(image, patch).span(rows, cols, 16)
    side = image // patch
    seen = {}
    for index in range(side * side):
        y, x = divmod(index, side)
        centre = picture[y * patch + patch // 2, x * patch + patch // 2]
        if centre != 128:
            seen[index] = int(centre) // 20 - 1
    assert dict(zip(span.patch.tolist(), span.cell.tolist(), strict=True)) == seen
    assert span.patch.tolist() == sorted(seen)
    assert set(span.cell.tolist()) == set(range(n))


def test_the_patch_tiled_form_is_laid_out_as_the_picture():
    span = PictureGeometry(48, 8).span(3, 3, 16)
    np.testing.assert_array_equal(patch_tiled_cells(3, 3, 2), span.cell)
    small = PictureGeometry(48, 8).span(1, 2, 16)
    np.testing.assert_array_equal(patch_tiled_cells(1, 2, 2), small.cell)


def test_a_span_of_cells_repeats_each_cell():
    assert cell_span(3, 2).cell.tolist() == [0, 0, 1, 1, 2, 2]
    assert set(cell_span(3, 2).patch.tolist()) == {-1}


def test_a_grid_that_does_not_fit_or_cells_without_a_patch_are_refused():
    with pytest.raises(UserError, match="needs 64 pixels, but the vision tower takes 48"):
        PictureGeometry(48, 8).span(3, 4, 16)
    with pytest.raises(UserError, match="no patch"):
        PictureGeometry(48, 24).span(3, 3, 16)
