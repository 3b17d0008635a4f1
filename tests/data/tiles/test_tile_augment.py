"""Tile augmentation equals a slow reference in plain Python bit by bit, tile by tile."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.data import rng
from gpt2v.data.tiles.augment import augment, blur, noise

EACH = [
    {"flip": True},
    {"crop": 0.5},
    {"shift": 3},
    {"jitter": 0.4},
    {"blur": 1.5},
    {"noise": 20.0},
]
ALL = {name: value for one in EACH for name, value in one.items()}


def pictures(n, seed=0, size=8, width=None):
    shape = (n, size, width or size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def keys(n, seed=0):
    return rng.keys(seed, "test", np.arange(n))


# ---- the reference: one tile, as nested lists of Python integers -------------------------------


def draw(key, n):
    return [int(word) for word in rng.bits(np.array([key], np.uint64), n)[0]]


def pick(word, bound):
    return ((word >> 32) * bound) >> 32


def clip(x):
    return max(0, min(255, x))


def slow_blur(tile, sigma):
    step = round(sigma * 64)
    reach = math.ceil(3 * step / 64)
    if not step:
        return tile
    weight = [math.exp(-(x * x) / (2 * (step / 64) ** 2)) for x in range(-reach, reach + 1)]
    fixed = [round(w * 4096 / sum(weight)) for w in weight]
    fixed[reach] += 4096 - sum(fixed)
    height, width = len(tile), len(tile[0])

    def at(y, x, c):
        total = 0
        for i, wy in enumerate(fixed):
            row = tile[max(0, min(height - 1, y + i - reach))]
            for j, wx in enumerate(fixed):
                total += wy * wx * row[max(0, min(width - 1, x + j - reach))][c]
        return (total + 2**23) // 2**24

    return [[[at(y, x, c) for c in range(3)] for x in range(width)] for y in range(height)]


def slow_noise(tile, std, key):
    step, width = round(std * 256), len(tile[0])
    words = draw(key, len(tile) * width * 3)
    scale = round(2**48 / (256 * math.sqrt((2**32 - 1) / 3)))

    def at(y, x, c):
        word = words[(y * width + x) * 3 + c]
        total = sum((word >> shift) % 2**16 for shift in (0, 16, 32, 48)) - 2 * 65535
        return clip(tile[y][x][c] + math.floor((total * step * scale + 2**47) / 2**48))

    return [[[at(y, x, c) for c in range(3)] for x in range(width)] for y in range(len(tile))]


def slow_crop(tile, side, top, left):
    size = len(tile)

    def along(i):
        """The two pixels next to an output pixel's centre, and their weights in 1/(2 size)."""
        centre = (2 * i + 1) * side - size
        low = math.floor(centre / (2 * size))
        share = centre - low * 2 * size
        return [max(0, min(side - 1, low + k)) for k in range(2)], [2 * size - share, share]

    def at(y, x, c):
        (rows, wy), (cols, wx) = along(y), along(x)
        total = sum(
            wy[i] * wx[j] * tile[top + rows[i]][left + cols[j]][c]
            for i in range(2)
            for j in range(2)
        )
        return (total + 2 * size * size) // (4 * size * size)

    return [[[at(y, x, c) for c in range(3)] for x in range(size)] for y in range(size)]


def grey(pixel):
    return (19595 * pixel[0] + 38470 * pixel[1] + 7471 * pixel[2] + 32768) // 65536


def slow_jitter(tile, brightness, contrast, colour):
    def away(base, value, factor):
        return clip(base + ((value - base) * factor + 2048) // 4096)

    tile = [[[away(0, v, brightness) for v in p] for p in row] for row in tile]
    greys = [grey(p) for row in tile for p in row]
    mean = math.floor(sum(greys) / len(greys) + 0.5)
    tile = [[[away(mean, v, contrast) for v in p] for p in row] for row in tile]
    return [[[away(grey(p), v, colour) for v in p] for p in row] for row in tile]


def slow_shift(tile, down, right):
    """The tile cut out of itself, padded by mirroring: NumPy's `reflect`."""
    size = len(tile)
    wide = np.pad(np.array(tile), [(size - 1, size - 1)] * 2 + [(0, 0)], mode="reflect")
    top, left = size - 1 - down, size - 1 - right
    return wide[top : top + size, left : left + size].tolist()


def slow_augment(tile, key, config):
    words, size = draw(key, 12), len(tile)
    if config.flip and words[0] >> 63:
        tile = [row[::-1] for row in tile]
    if config.crop:
        side = size - pick(words[1], int(config.crop * size) + 1)
        tile = slow_crop(tile, side, *(pick(word, size - side + 1) for word in words[2:4]))
    if config.shift:
        most = min(config.shift, size - 1)
        down, right = (pick(word, 2 * most + 1) - most for word in words[10:12])
        tile = slow_shift(tile, down, right)
    if config.jitter:
        most = round(config.jitter * 4096)
        tile = slow_jitter(tile, *(4096 - most + pick(w, 2 * most + 1) for w in words[4:7]))
    tile = slow_blur(tile, pick(words[7], round(config.blur * 64) + 1) / 64)
    if config.noise:
        tile = slow_noise(tile, pick(words[8], round(config.noise * 256) + 1) / 256, words[9])
    return tile


# ---- tests -------------------------------------------------------------------------------------

shares = st.one_of(st.just(0.0), st.floats(0, 0.99))
configs = st.builds(
    TileAugmentConfig,
    flip=st.booleans(),
    crop=shares,
    shift=st.integers(0, 12),
    jitter=shares,
    blur=st.one_of(st.just(0.0), st.floats(0, 3)),
    noise=st.one_of(st.just(0.0), st.floats(0, 255)),
)


@settings(max_examples=60)
@given(configs, st.integers(1, 9), st.integers(0, 2**32), st.sampled_from([0, 1, 255, None]))
def test_augmentation_equals_the_reference(config, size, seed, flat):
    tiles = pictures(3, seed, size)
    if flat is not None:  # at the ends of the range, rounding could leave the range
        tiles[0] = flat
    augmented = augment(tiles, keys(3, seed), config)
    for tile, key, result in zip(tiles, keys(3, seed), augmented, strict=True):
        assert result.tolist() == slow_augment(tile.tolist(), int(key), config)


@pytest.mark.parametrize("size", [5, 16])
@pytest.mark.parametrize("width", [7, 16])
def test_blur_and_noise_of_pictures_with_different_strengths(size, width):
    tiles, strengths = pictures(4, size=size, width=width), np.array([0, 0.3, 1, 2.71])
    augmented = blur(tiles, strengths)
    for tile, sigma, result in zip(tiles, strengths, augmented, strict=True):
        assert result.tolist() == slow_blur(tile.tolist(), sigma)
    augmented = noise(tiles, strengths * 20, keys(4))
    for tile, std, key, result in zip(tiles, strengths * 20, keys(4), augmented, strict=True):
        assert result.tolist() == slow_noise(tile.tolist(), std, int(key))


def test_one_strength_is_for_all_pictures_and_zero_is_the_identity():
    tiles = pictures(3)
    np.testing.assert_array_equal(blur(tiles, 1.0), blur(tiles, np.ones(3)))
    np.testing.assert_array_equal(noise(tiles, 9.0, keys(3)), noise(tiles, np.full(3, 9), keys(3)))
    np.testing.assert_array_equal(blur(tiles, 0), tiles)
    np.testing.assert_array_equal(noise(tiles, 0, keys(3)), tiles)
    assert blur(tiles[:0], np.zeros(0)).shape == noise(tiles[:0], 3, keys(0)).shape == (0, 8, 8, 3)


def test_no_augmentation_is_the_identity():
    tiles = pictures(5)
    np.testing.assert_array_equal(augment(tiles, keys(5), TileAugmentConfig()), tiles)


@pytest.mark.parametrize("strengths", [*EACH, ALL], ids=[*(next(iter(e)) for e in EACH), "all"])
def test_a_tile_is_augmented_by_its_key_alone(strengths):
    """Other tiles in the batch do not matter, and the given array does not change."""
    config, tiles = TileAugmentConfig(**strengths), pictures(40, size=12)
    before = tiles.copy()
    augmented = augment(tiles, keys(40), config)
    np.testing.assert_array_equal(tiles, before)
    for part in (slice(3, 4), slice(7, 40), slice(None, None, -1)):
        np.testing.assert_array_equal(augment(tiles[part], keys(40)[part], config), augmented[part])
    same = augment(np.repeat(tiles[:1], 40, 0), keys(40), config)
    different = len(np.unique(same.reshape(40, -1), axis=0))
    assert different == 2 if strengths == {"flip": True} else different > 20
    assert (augmented != tiles).any((1, 2, 3)).mean() > 0.3


def test_each_augmentation_has_draws_of_its_own():
    """Tiles are flipped in the same way with and without noise."""
    tiles = pictures(20)
    flipped = augment(tiles, keys(20), TileAugmentConfig(flip=True))
    both = augment(tiles, keys(20), TileAugmentConfig(flip=True, noise=20.0))
    alone = augment(flipped, keys(20), TileAugmentConfig(noise=20.0))
    np.testing.assert_array_equal(both, alone)


def test_noise_is_nearly_normal():
    flat = np.full((50, 40, 40, 3), 128, np.uint8)
    change = noise(flat, 20.0, keys(50)).astype(float) - 128
    assert abs(change.mean()) < 0.2
    assert change.std() == pytest.approx(20, rel=0.01)
    assert (np.abs(change) <= 20.5).mean() == pytest.approx(0.683, abs=0.03)
    assert abs(np.corrcoef(change[:, :, :-1].ravel(), change[:, :, 1:].ravel())[0, 1]) < 0.01


def test_blur_keeps_the_mean_of_a_point_and_has_its_sigma():
    point = np.zeros((1, 41, 41, 3), np.uint8)
    point[0, 20, 20] = 255
    mass = blur(point, 1.0)[0, :, :, 0].astype(float)
    x = np.arange(41) - 20
    assert mass.sum() == pytest.approx(255, rel=0.05)
    assert (mass.sum(0) * x).sum() == 0
    assert np.sqrt((mass.sum(0) * x**2).sum() / mass.sum()) == pytest.approx(1, rel=0.05)


def test_strengths_stay_within_what_is_asked():
    """A crop is never smaller than its share; the colours of the corners show its size."""
    ramp = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (100, 100))
    tiles = np.repeat(np.stack([ramp, ramp.T, ramp], -1)[None], 60, 0)
    augmented = augment(tiles, keys(60), TileAugmentConfig(crop=0.2)).astype(int)
    seen = augmented[:, -1, 0, 0] - augmented[:, 0, 0, 0] + 1  # rows of the square
    assert seen.min() >= 80
    assert seen.max() <= 100
    assert len(set(seen)) > 10
    columns = augmented[:, 0, -1, 1] - augmented[:, 0, 0, 1] + 1
    np.testing.assert_array_equal(columns, seen)  # it is a square


@pytest.mark.parametrize("versions", [1, 3])
def test_a_tile_has_so_many_versions(bank, versions):
    change = {"flip": True, "crop": 0.3, "jitter": 0.5, "noise": 20}
    free = dataclasses.replace(bank, augment=TileAugmentConfig(**change))
    few = dataclasses.replace(bank, augment=TileAugmentConfig(**change, versions=versions))
    tiles = np.repeat(bank.tiles("train")[[0, 50]], 60)
    keys = rng.keys(0, "a draw", np.arange(120))
    drawn = few.take(tiles, keys)
    of_each = [{pixels.tobytes() for pixels in part} for part in np.split(drawn, 2)]
    assert [len(results) for results in of_each] == [versions, versions]
    assert len({pixels.tobytes() for pixels in free.take(tiles, keys)}) == 120
    other = few.take(tiles, rng.keys(1, "a draw", np.arange(120)))
    assert {pixels.tobytes() for pixels in np.split(other, 2)[0]} == of_each[0]
    np.testing.assert_array_equal(few.take(tiles[7:9], keys[7:9]), drawn[7:9])
    assert few.content_hash("train") != free.content_hash("train")


def test_versions_of_nothing_are_refused():
    with pytest.raises(ValueError, match="versions: nothing changes tiles"):
        TileAugmentConfig(versions=2)
