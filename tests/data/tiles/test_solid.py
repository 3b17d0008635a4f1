"""Solid tiles: every shade is nearest to its own colour, and none is in two splits."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tiles.solid import COLOURS, REACH, shades

CENTRES = np.array(list(COLOURS.values()), float)
ALL = (2 * REACH + 1) ** 3  # shades of a class
EACH = ALL // 3


def cielab(rgb):
    """RGB (n, 3) from 0 to 255 -> CIELAB with the white point D65, by its definition."""
    share = np.asarray(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(matrix).T / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_cielab_has_the_known_values_of_the_corners():
    known = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [100, 0, 0]]
    corners = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]])
    np.testing.assert_allclose(cielab(corners), known, atol=0.05)


@pytest.mark.parametrize("space", [lambda rgb: rgb, cielab], ids=["RGB", "CIELAB"])
def test_the_nearest_colour_of_every_shade_is_its_own(space):
    every = np.concatenate([shades(0, split, EACH) for split in SPLITS])  # all that exist
    labels = np.tile(np.repeat(np.arange(10), EACH), 3)
    away = np.square(space(every)[:, None] - space(CENTRES)).sum(-1)
    assert (away.argmin(1) == labels).all()
    nearest = np.sqrt(np.sort(away, axis=1)[:, :2])
    assert (nearest[:, 1] - nearest[:, 0]).min() > 5  # by far


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_no_shade_is_in_two_splits_and_each_occurs_once(seed):
    found = {s: {tuple(c) for c in shades(seed, s, EACH).tolist()} for s in SPLITS}
    other = {s: {tuple(c) for c in shades(1, s, EACH).tolist()} for s in SPLITS}
    assert [len(own) for own in found.values()] == [10 * EACH] * 3
    assert len(set().union(*found.values())) == 10 * ALL
    assert found == other  # of any seed


@given(st.integers(0, 2**32 - 1), st.sampled_from(SPLITS), st.integers(1, 60), st.integers(0, 60))
def test_a_tile_depends_on_its_split_class_and_number_only(seed, split, n, more):
    few = shades(seed, split, n).reshape(10, n, 3)
    many = shades(seed, split, n + more).reshape(10, n + more, 3)
    np.testing.assert_array_equal(few, many[:, :n])
    assert np.abs(few - CENTRES[:, None]).max() <= REACH
    assert few.min() >= 0
    assert few.max() <= 255


def test_a_bank_of_colours_has_as_many_solid_tiles_as_one_of_sprites():
    config = {"per_class": 30, "test_per_class": 12, "size": 8}
    bank = load_bank(TilesConfig(source="colours", **config))
    assert (bank.name, bank.class_names) == ("colours", tuple(COLOURS))
    np.testing.assert_array_equal(bank.counts, load_bank(TilesConfig(**config)).counts)
    for split in SPLITS:
        pixels = bank.take(bank.tiles(split))
        assert (pixels == pixels[:, :1, :1]).all()
        np.testing.assert_array_equal(pixels[:, 0, 0], shades(0, split, len(pixels) // 10))
        assert len(set(bank.splits[split].sources)) == len(pixels)


def test_the_hash_tells_colours_seeds_sizes_and_splits_apart():
    config = TilesConfig(source="colours", per_class=20, size=8)
    banks = [
        load_bank(config.model_copy(update=change))
        for change in ({}, {"seed": 1}, {"size": 9}, {"per_class": 30}, {"source": "sprites"})
    ]
    hashes = [bank.content_hash(split) for bank in banks for split in SPLITS]
    assert len(set(hashes)) == len(hashes)
    again = load_bank(config)
    assert dataclasses.replace(again).content_hash("test") == banks[0].content_hash("test")


def test_seeds_give_other_shades():
    assert (shades(0, "train", 20) != shades(1, "train", 20)).any(1).mean() > 0.9
