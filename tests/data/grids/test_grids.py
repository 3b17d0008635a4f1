"""Samples are pure, uniform, right, and never shared between splits."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.cells import content_split
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.tiles.bank import SPLITS, class_of, split_of
from gpt2v.errors import UserError

SPEC = GridConfig(questions=5)


def rows_of(samples, which=slice(None)):
    return [getattr(samples, f.name)[which] for f in dataclasses.fields(samples)]


@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=6),
    st.integers(0, 3),
    st.sampled_from(SPLITS),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_a_sample_does_not_depend_on_its_batch(bank, index, seed, split, rows, cols):
    spec = GridConfig(rows=rows, cols=cols, palette=3)
    together = draw_samples(spec, bank, seed, split, np.array(index))
    turned = draw_samples(spec, bank, seed, split, np.array(index[::-1]))
    for a, b in zip(rows_of(together), rows_of(turned), strict=True):
        np.testing.assert_array_equal(a, b[::-1])
    for i in range(len(index)):
        alone = draw_samples(spec, bank, seed, split, np.array([index[i]]))
        for a, b in zip(rows_of(together, slice(i, i + 1)), rows_of(alone), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_last_of_a_trillion_samples(bank):
    last = draw_samples(SPEC, bank, 0, "train", np.array([10**12 - 1]))
    assert last.index.tolist() == [10**12 - 1]
    assert set(last.classes.reshape(-1)) <= set(last.palette[0])


def test_seed_split_and_index_all_matter(bank):
    index = np.arange(50)
    base = draw_samples(SPEC, bank, 0, "train", index).classes
    for seed, split, shift in ((1, "train", 0), (0, "val", 0), (0, "train", 50)):
        other = draw_samples(SPEC, bank, seed, split, index + shift).classes
        assert (base == other).all((1, 2)).sum() == 0


def test_every_cell_is_asked_for_once(bank):
    samples = draw_samples(GridConfig(rows=2, cols=5), bank, 0, "val", np.arange(200))
    for i in range(200):
        asked = list(zip(samples.row[i].tolist(), samples.col[i].tolist(), strict=True))
        assert sorted(asked) == [(r, c) for r in range(2) for c in range(5)]


def test_cells_and_palettes_are_uniform_and_the_listed_order_tells_nothing(bank):
    n = 6000
    samples = draw_samples(SPEC, bank, 0, "train", np.arange(n))
    listed_at = (samples.classes.reshape(n, 9, 1) == samples.palette[:, None, :]).argmax(-1)
    assert (
        np.take_along_axis(samples.palette, listed_at, 1) == samples.classes.reshape(n, 9)
    ).all()
    for cell in range(9):  # index of a cell's object in the palette
        counts = np.bincount(listed_at[:, cell], minlength=4)
        assert ((counts - n / 4) ** 2 / (n / 4)).sum() < 25  # 3 degrees of freedom
    for column in samples.palette.T:
        counts = np.bincount(column, minlength=10)
        assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 40  # 9 degrees of freedom
    pairs = np.bincount(listed_at[:, 0] * 4 + listed_at[:, 8], minlength=16)
    assert ((pairs - n / 16) ** 2 / (n / 16)).sum() < 50  # 15 degrees of freedom
    asked = np.bincount((samples.row * 3 + samples.col)[:, 0], minlength=9)
    assert ((asked - n / 9) ** 2 / (n / 9)).sum() < 40


def test_the_tile_shows_the_cells_class_and_comes_from_the_split(bank):
    for split in SPLITS:
        samples = draw_samples(SPEC, bank, 0, split, np.arange(300))
        np.testing.assert_array_equal(class_of(samples.tiles), samples.classes)
        assert set(split_of(samples.tiles).reshape(-1)) == {SPLITS.index(split)}
        assert set(samples.tiles.reshape(-1)) <= set(bank.tiles(split))


def contents(samples):
    return {
        (tuple(sorted(p)), tuple(c.reshape(-1)))
        for p, c in zip(samples.palette.tolist(), samples.classes, strict=True)
    }


def test_from_3x3_up_no_content_is_in_two_splits(bank):
    # Two objects make few contents (45 * 512), so that thousands of draws must collide by chance.
    spec = GridConfig(palette=2)
    by_split = []
    for split in SPLITS:
        samples = draw_samples(spec, bank, 0, split, np.arange(4000))
        assert set(content_split(samples.classes, samples.palette)) == {SPLITS.index(split)}
        by_split.append(contents(samples))
    assert not by_split[0] & by_split[1]
    assert not by_split[0] & by_split[2]
    assert not by_split[1] & by_split[2]
    other = contents(draw_samples(spec, bank, 7, "train", np.arange(4000)))
    assert other & by_split[0]  # another seed draws from the same contents ...
    assert not other & (by_split[1] | by_split[2])  # ... and from no other split's


def test_the_content_split_knows_the_palette_as_a_set(bank):
    samples = draw_samples(SPEC, bank, 0, "train", np.arange(500))
    turned = content_split(samples.classes, samples.palette[:, ::-1])
    np.testing.assert_array_equal(turned, content_split(samples.classes, samples.palette))
    shares = np.bincount(content_split(samples.classes, (samples.palette + 1) % 10), minlength=3)
    assert 350 < shares[0] < 450  # 80% in train when the palette is another one


def test_a_palette_larger_than_the_classes_is_refused(bank):
    with pytest.raises(UserError, match="palette: 11 objects, but the sprites tiles have 10"):
        draw_samples(GridConfig(palette=11), bank, 0, "train", np.arange(2))


@pytest.mark.parametrize("split", SPLITS)
def test_a_palette_of_one_object_ends_or_is_refused(bank, split):
    """There are only ten contents. A split that has none of them must not be searched for ever."""

    def draw():
        try:
            return len(draw_samples(GridConfig(palette=1), bank, 0, split, np.arange(20)).index)
        except UserError as error:
            return str(error)

    result = helpers.within(3, draw)
    assert result == 20 or "palette" in result
