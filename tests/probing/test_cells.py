"""Which patches belong to which cell, and what a cell's features are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.pictures import PictureConfig
from gpt2v.config.probing import CellsConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.errors import UserError
from gpt2v.probing.cells import CellMap


def cell_map(shape, size, image, patch, picture=None, **rule):
    geometry = PictureGeometry(image, patch)
    return CellMap.of(shape, size, picture or PictureConfig(), geometry, CellsConfig(**rule))


def by_pixels(shape, size, image, patch, picture):
    """The overlap, counted pixel by pixel."""
    rows, cols = shape
    owner = np.full((image, image), -1)
    step = size + picture.gap
    for r in range(rows):
        for c in range(cols):
            top, left = picture.border + r * step, picture.border + c * step
            owner[top : top + size, left : left + size] = r * cols + c
    n = image // patch
    cut = owner[: n * patch, : n * patch].reshape(n, patch, n, patch).transpose(0, 2, 1, 3)
    cut = cut.reshape(n * n, -1)
    return np.stack([(cut == cell).mean(1) for cell in range(rows * cols)])


@given(
    rows=st.integers(1, 3),
    cols=st.integers(1, 3),
    size=st.integers(4, 9),
    patch=st.integers(2, 7),
    gap=st.integers(0, 3),
    border=st.integers(0, 3),
)
def test_the_overlap_is_that_of_the_pixels(rows, cols, size, patch, gap, border):
    picture = PictureConfig(gap=gap, border=border)
    image = max(rows, cols) * (size + gap) + 2 * border + patch
    found = cell_map((rows, cols), size, image, patch, picture, rule="mean")
    expected = by_pixels((rows, cols), size, image, patch, picture)
    np.testing.assert_allclose(found.overlap, expected, atol=1e-12)
    for cell in range(rows * cols):
        assert found.patches(cell).tolist() == np.flatnonzero(expected[cell]).tolist()


def test_seven_patches_over_three_cells():
    """224 pixels in 32-pixel patches show three cells of 74 2/3 pixels."""
    found = cell_map((1, 3), 75, 225, 32)  # 7 x 7 patches
    assert found.overlap.shape == (3, 49)
    first = found.overlap[:, :7]  # the first row of patches
    assert np.round(first, 3).tolist() == [
        [1, 1, 0.344, 0, 0, 0, 0],
        [0, 0, 0.656, 1, 0.688, 0, 0],
        [0, 0, 0, 0, 0.312, 1, 1],
    ]
    assert [len(found.patches(cell)) for cell in range(3)] == [4, 6, 4]
    lower = cell_map((1, 3), 75, 225, 32, threshold=0.3)
    assert [len(lower.patches(cell)) for cell in range(3)] == [8, 7, 8]
    centre = cell_map((1, 3), 75, 225, 32, rule="centre")
    assert [centre.patches(cell).tolist() for cell in range(3)] == [[8], [10], [12]]


def test_features_are_side_by_side_weighted_or_of_the_centre():
    states = np.random.default_rng(0).normal(size=(5, 49, 3)).astype(np.float32)
    concat, mean, centre = (
        cell_map((1, 3), 75, 225, 32, rule=rule) for rule in ("concat", "mean", "centre")
    )
    patches = concat.patches(1)
    assert concat.x(states, 1).tolist() == states[:, patches].reshape(5, -1).tolist()
    weight = mean.overlap[1]
    expected = (states * weight[:, None]).sum(1) / weight.sum()
    np.testing.assert_allclose(mean.x(states, 1), expected, atol=1e-6)
    assert centre.x(states, 1).tolist() == states[:, 10].tolist()
    assert [m.n_features(3) for m in (concat, mean, centre)] == [18, 3, 3]


def test_with_a_picture_for_each_cell_each_has_its_own_patches():
    found = cell_map((2, 2), 8, 8, 4, PictureConfig(layout="multi"))
    assert found.overlap.shape == (4, 16)
    assert found.facts["patches_across"] is None
    assert [found.patches(cell).tolist() for cell in range(4)] == [
        [*range(4 * cell, 4 * cell + 4)] for cell in range(4)
    ]


def test_among_some_patches():
    found = cell_map((1, 2), 8, 16, 4)  # 4 x 4 patches, the upper half of which are the grid's
    upper = found.among(np.arange(8))
    assert upper.patches(1).tolist() == found.patches(1).tolist()
    with pytest.raises(UserError, match="no patch lies to 50% in the cell of row 0, column 1"):
        found.among(np.array([0, 1]))


def test_a_cell_without_a_patch_is_refused():
    with pytest.raises(UserError, match=r"row 0, column 0 \(14% at most\); use a lower cells"):
        cell_map((2, 2), 3, 8, 8)
    assert len(cell_map((2, 2), 3, 8, 8, rule="mean").patches(3)) == 1
