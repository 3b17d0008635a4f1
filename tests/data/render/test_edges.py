"""Edges of cells: those that pictures show; and pure shares, against counting pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import GridConfig
from gpt2v.config.pictures import PictureConfig, TilesConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.edges import Edges, cell_edges
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.tiles.load import load_bank

BACKGROUND = [128, 128, 128]  # no colour of a tile is near it


@pytest.fixture(scope="module")
def colours():
    return load_bank(TilesConfig(source="colours", per_class=10, size=16))


@pytest.mark.parametrize(
    ("rows", "cols", "size", "picture"),
    [
        (2, 3, 96, {}),
        (2, 3, 96, {"border": 5, "gap": 7, "cell": 9}),
        (3, 3, 96, {"resize": True}),
        (2, 4, 128, {"resize": True, "border": 8}),
        (4, 2, 96, {"resize": True, "gap": 8}),
        (1, 1, 50, {"resize": True}),
    ],
)
def test_a_picture_shows_each_cell_within_its_edges_and_nowhere_else(
    colours, rows, cols, size, picture
):
    spec = GridConfig(rows=rows, cols=cols, palette=1, picture=PictureConfig(**picture))
    samples = draw_samples(spec, colours, 0, "test", np.arange(1))
    pixels = compose(samples, colours, size, spec.picture)[0].astype(int)
    edges = cell_edges(rows, cols, 16, spec.picture, PictureGeometry(size, 8))
    shown = np.zeros((size, size), bool)
    for r, c in np.ndindex(rows, cols):
        (top, bottom), (left, right) = edges.rows[r], edges.cols[c]
        own = colours.take(samples.tiles[:, r, c])[0, 0, 0]
        inner = np.s_[
            int(np.ceil(top)) + 2 : int(bottom) - 2, int(np.ceil(left)) + 2 : int(right) - 2
        ]
        assert pixels[inner].size
        assert (np.abs(pixels[inner] - own) <= 1).all()  # of scaling
        shown[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    outside = np.abs(pixels - BACKGROUND).max(-1)[~_near(shown)]
    assert (outside <= 1).all()
    filled = cell_edges(rows, cols, 16, spec.picture, PictureGeometry(size, 8), fills=True)
    longest = max(filled.rows[-1, 1], filled.cols[-1, 1])
    scale = size / max(2 * spec.picture.border + n * 16 for n in (rows, cols))
    if not picture or picture == {"resize": True}:
        assert longest == pytest.approx(size)
    assert scale > 0


def _near(shown):
    """The pixels that are at most two away from those that are shown."""
    wide = np.pad(shown, 2)
    n = len(shown)
    return np.any([wide[y : y + n, x : x + n] for y in range(5) for x in range(5)], axis=0)


@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 12), st.integers(0, 5), st.integers(0, 4),
    st.integers(2, 9),
)  # fmt: skip
def test_pure_shares_are_those_of_counted_pixels(rows, cols, cell, border, gap, patch):
    """Each pixel of a picture that is not scaled belongs to one patch, and to one cell or none."""
    picture = PictureConfig.model_construct(
        **{**dict(PictureConfig()), "border": border, "gap": gap}
    )
    side = max(2 * border + n * cell + (n - 1) * gap for n in (rows, cols))
    size = max(side, patch)
    owner = np.full((size, size), -1)
    for r, c in np.ndindex(rows, cols):
        top, left = border + r * (cell + gap), border + c * (cell + gap)
        owner[top : top + cell, left : left + cell] = r * cols + c
    counts = np.zeros((rows, cols))
    for y, x in np.ndindex(size // patch, size // patch):
        inside = set(owner[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].ravel())
        if len(inside) == 1 and -1 not in inside:
            counts[divmod(inside.pop(), cols)] += patch**2
    geometry = PictureGeometry(size, patch)
    found = cell_edges(rows, cols, cell, picture, geometry).pure(geometry)
    np.testing.assert_allclose(found, counts / cell**2)


@pytest.mark.parametrize(
    ("n", "image_size", "patch_size", "first"),
    [(2, 224, 16, 1), (7, 224, 16, 1), (4, 224, 16, (6 / 7) ** 2), (3, 96, 16, 1), (8, 96, 16, 0)],
)
def test_an_aligned_cell_is_all_pure(n, image_size, patch_size, first):
    geometry = PictureGeometry(image_size, patch_size)
    pure = cell_edges(n, n, 32, PictureConfig(resize=True), geometry).pure(geometry)
    assert pure[0, 0] == pytest.approx(first)
    assert (pure == 1).all() == (first == 1)


def test_pixels_past_the_last_patch_are_in_none():
    edges = Edges(np.array([[0.0, 10.0]]), np.array([[0.0, 10.0]]), (10, 10))
    assert edges.pure(PictureGeometry(10, 4))[0, 0] == pytest.approx(0.64)
