"""Pictures of every layout hold the grid: tiles are read back from them and compared."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.config.pictures import PictureConfig, TileAugmentConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import Pictures, compose, natural_pictures, picture_keys
from gpt2v.data.render.spans import PictureGeometry, natural_size
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import Strings
from gpt2v.data.tiles.bank import class_of, tile_ids
from gpt2v.data.tiles.resizing import resize

RAGGED = GridConfig(rows=[1, 3], cols=[1, 4], palette=3)


def nearest_tile(bank, pixels):
    """Class of the tile that looks most like `pixels`."""
    tiles = helpers.all_tiles(bank)
    apart = np.abs(bank.take(tiles).astype(int) - pixels.astype(int)).sum((1, 2, 3))
    return bank.class_names[class_of(tiles[apart.argmin()])], int(apart.min())


def table_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[word.strip() for word in line.split("|")[1:-1]] for line in lines]


@given(
    st.integers(0, 9),
    st.integers(0, 20),
    st.integers(0, 12),
    st.sampled_from(["composite", "multi"]),
)
def test_the_picture_shows_the_table(bank, seed, border, gap, layout):
    """The classes read from the pixels, cell by cell, are those of the same sample as text."""
    picture = PictureConfig(layout=layout, border=border, gap=gap, background=[9, 8, 7])
    samples = draw_samples(RAGGED, bank, seed, "test", np.arange(4))
    texts = documents(samples, TextView(), bank.class_names, Strings())
    pictures = natural_pictures(samples, bank, picture)
    for text, own in zip(texts, pictures, strict=True):
        table = table_of(text)
        shape = (1, 1) if layout == "multi" else (len(table), len(table[0]))
        assert len(own) == (len(table) * len(table[0]) if layout == "multi" else 1)
        seen = []
        for pixels in own:
            assert pixels.shape == (*natural_size(*shape, 16, picture), 3)
            left = np.ones(pixels.shape[:2], bool)
            for r in range(shape[0]):
                for c in range(shape[1]):
                    y, x = border + r * (16 + gap), border + c * (16 + gap)
                    name, apart = nearest_tile(bank, pixels[y : y + 16, x : x + 16])
                    assert apart == 0
                    seen.append(name)
                    left[y : y + 16, x : x + 16] = False
            assert (pixels[left] == [9, 8, 7]).all()
        assert seen == [word for row in table for word in row]


def test_a_planted_wrong_tile_is_seen(bank):
    """The comparison above can fail."""
    samples = draw_samples(GridConfig(), bank, 0, "test", np.arange(1))
    wrong = samples.tiles.copy()
    label = (samples.classes[0, 1, 1] + 1) % 10
    wrong[0, 1, 1] = bank.members("test", label)[0]
    (pixels,) = natural_pictures(dataclasses.replace(samples, tiles=wrong), bank)[0]
    name, _ = nearest_tile(bank, pixels[16:32, 16:32])
    assert name != bank.class_names[samples.classes[0, 1, 1]]


@given(st.integers(0, 9), st.sampled_from([8, 16, 24]), st.integers(0, 6))
def test_scaled_and_jittered_tiles_stay_in_their_cells(bank, seed, cell, jitter):
    flat = helpers.repainted(bank, lambda pixels, labels: helpers.in_grey(pixels, labels * 20 + 40))
    picture = PictureConfig(cell=cell, scale=[0.5, 0.9], jitter=jitter, background=[0, 0, 0])
    samples = draw_samples(GridConfig(rows=2, cols=3), flat, seed, "test", np.arange(4))
    offsets = set()
    for i, (pixels,) in enumerate(natural_pictures(samples, flat, picture)):
        assert pixels.shape == (2 * cell, 3 * cell, 3)
        for r in range(2):
            for c in range(3):
                part = pixels[r * cell : (r + 1) * cell, c * cell : (c + 1) * cell, 0]
                shown = part != 0
                assert set(part[shown].tolist()) == {int(samples.classes[i, r, c]) * 20 + 40}
                rows, cols = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
                height, width = len(rows), len(cols)
                assert shown.sum() == height * width
                assert height == width
                assert round(cell * 0.5) <= height <= round(cell * 0.9)
                middle = (cell - height) // 2
                assert abs(rows[0] - middle) <= jitter
                assert abs(cols[0] - middle) <= jitter
                offsets.add((rows[0] - middle, cols[0] - middle))
    assert len(offsets) > 1 or jitter == 0


@given(st.integers(0, 9), st.sampled_from(["composite", "multi"]), st.booleans())
def test_a_picture_does_not_depend_on_its_batch(bank, seed, layout, resized):
    picture = PictureConfig(layout=layout, scale=[0.5, 1.0], jitter=3, noise=9.0, blur=0.7,
                            border=2, resize=resized)  # fmt: skip
    varied = dataclasses.replace(bank, augment=TileAugmentConfig(flip=True, noise=20.0))
    together = draw_samples(RAGGED, bank, seed, "train", np.arange(5))
    whole = compose(together, varied, 128, picture)
    alone = [
        compose(draw_samples(RAGGED, bank, seed, "train", np.array([i])), varied, 128, picture)
        for i in range(5)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


def test_tiles_vary_in_training_and_never_elsewhere(bank):
    varied = dataclasses.replace(bank, augment=TileAugmentConfig(jitter=0.5))
    for split, same in (("train", False), ("val", True), ("test", True)):
        samples = draw_samples(GridConfig(), bank, 0, split, np.arange(3))
        plain, other = compose(samples, bank, 48), compose(samples, varied, 48)
        assert np.array_equal(plain, other) == same


def test_corruptions_belong_to_the_picture_in_every_split(bank):
    for split in ("train", "test"):
        samples = draw_samples(GridConfig(), bank, 0, split, np.arange(20))
        clean = compose(samples, bank, 48).astype(int)
        noisy = compose(samples, bank, 48, PictureConfig(noise=10.0)).astype(int)
        middle = (clean > 60) & (clean < 195)  # where nothing is clipped
        assert abs((noisy - clean)[middle].std() - 10) < 0.3
        blurred = compose(samples, bank, 48, PictureConfig(blur=2.0)).astype(int)
        rough = [np.abs(np.diff(pixels, axis=2)).mean() for pixels in (clean, blurred)]
        assert rough[1] < 0.5 * rough[0]


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 2), (1, 4), (4, 1), (3, 2), (1, 8)])
@pytest.mark.parametrize(("border", "gap"), [(0, 0), (3, 1), (10, 6)])
def test_patches_of_resized_pictures_belong_to_the_nearest_cell(bank, rows, cols, border, gap):
    n = rows * cols
    colours = np.arange(1, 11, dtype=np.uint8) * 25  # of each class
    painted = helpers.repainted(
        bank, lambda pixels, labels: helpers.in_grey(pixels, colours[labels])
    )
    samples = draw_samples(GridConfig(rows=rows, cols=cols), bank, 0, "test", np.arange(1))
    samples = dataclasses.replace(
        samples, tiles=tile_ids("test", np.arange(n), 0).reshape(1, rows, cols)
    )
    picture = PictureConfig(resize=True, border=border, gap=gap, background=[0, 0, 0])
    pixels = compose(samples, painted, 96, picture)[0, :, :, 0]
    height, width = natural_size(rows, cols, 16, picture)
    span = PictureGeometry(96, 4).span(rows, cols, 16, picture)
    assert len(span) == len(set(span.patch.tolist()))
    looked = 0
    for cell, patch in zip(span.cell, span.patch, strict=True):
        at = (np.array(divmod(int(patch), 24)) * 4 + 2) * max(height, width) / 96
        middles = [border + 8 + np.array(divmod(k, cols)) * (16 + gap) for k in range(n)]
        away = [np.abs(at - middle) for middle in middles]
        assert away[cell].max() <= min(d.max() for d in away) + 1e-9
        if away[cell].max() < 8 - 2 * max(1, max(height, width) / 96):  # well inside
            y, x = divmod(int(patch), 24)
            assert pixels[4 * y + 2, 4 * x + 2] == colours[cell]
            looked += 1
    assert looked >= n


def test_several_pictures_have_a_run_of_patches_each(bank):
    picture = PictureConfig(layout="multi", resize=True)
    span = PictureGeometry(32, 8).span(2, 3, 16, picture)
    assert len(span) == 6 * 16
    assert span.n_pictures == 6
    np.testing.assert_array_equal(span.cell, np.repeat(np.arange(6), 16))
    np.testing.assert_array_equal(span.picture, span.cell)
    np.testing.assert_array_equal(span.patch, np.tile(np.arange(16), 6))
    np.testing.assert_array_equal(span.line, np.repeat([0, 1], 48))
    samples = draw_samples(GridConfig(rows=2, cols=3), bank, 0, "test", np.arange(3))
    pixels = compose(samples, bank, 32, picture)
    flat = bank.take(samples.tiles.reshape(-1))
    np.testing.assert_array_equal(pixels, resize(flat, 32, 32))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resizing_is_close_to_pillows_and_exact_on_flat_pictures(h, w, height, width):
    rng = np.random.default_rng(h * 41 + w)
    pixels = rng.integers(0, 256, (2, h, w, 3), np.uint8)
    resized = resize(pixels, height, width)
    for one, two in zip(pixels, resized, strict=True):
        expected = Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(expected).astype(int) - two.astype(int)).max() <= 2
    flat = np.full((1, h, w, 3), 77, np.uint8)
    assert (resize(flat, height, width) == 77).all()


def test_resizing_does_not_depend_on_the_order_of_sums():
    """Sums of float32 products are whole numbers that float32 holds, so float64 gives the same."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 37, 37, 3), np.uint8)
    from gpt2v.data.tiles import resizing

    resized = resize(pixels, 96, 96)
    weights = resizing._weights(37, 96).astype(np.int64)
    assert (weights.sum(1) == 2**14).all()
    rows = (np.einsum("yh,nhwc->nywc", weights, pixels.astype(np.int64)) + 2**13) // 2**14
    whole = (np.einsum("xw,nywc->nyxc", weights, rows) + 2**13) // 2**14
    np.testing.assert_array_equal(resized, whole)


def test_size_and_offset_are_independent_of_the_augmentation(bank):
    """With one key for both, small tiles would never be mirrored and large ones always."""
    slope = np.arange(0, 160, 10, dtype=np.uint8)[:, None]
    rising = helpers.repainted(bank, lambda pixels, _: np.broadcast_to(slope, pixels.shape).copy())
    varied = dataclasses.replace(rising, augment=TileAugmentConfig(flip=True))
    picture = PictureConfig(scale=[0.5, 1.0], background=[255, 255, 255])
    samples = draw_samples(GridConfig(), varied, 0, "train", np.arange(200))
    mirrored = {True: [], False: []}
    for (pixels,) in natural_pictures(samples, varied, picture):
        for cell in pixels.reshape(3, 16, 3, 16, 3).transpose(0, 2, 1, 3, 4).reshape(9, 16, 16, 3):
            row = cell[8, :, 0][cell[8, :, 0] != 255].astype(int)
            mirrored[len(row) > 12].append(row[0] > row[-1])
    for values in mirrored.values():
        assert abs(np.mean(values) - 0.5) < 0.1


def test_pictures_have_noise_of_their_own(bank):
    flat = helpers.repainted(bank, lambda pixels, _: np.full_like(pixels, 128))
    samples = draw_samples(GridConfig(), flat, 0, "test", np.arange(8))
    noisy = compose(samples, flat, 48, PictureConfig(noise=9.0))
    assert len({pixels.tobytes() for pixels in noisy}) == 8


@st.composite
def drawings(draw):
    """A picture's configuration that tiles of 16 pixels fit, and tiles that vary or not."""
    scaled = draw(st.sampled_from([[1.0, 1.0], [0.5, 0.5], [0.5, 1.0]]))
    picture = PictureConfig(
        layout=draw(st.sampled_from(["composite", "multi"])),
        cell=draw(st.sampled_from([None, 12])),
        gap=draw(st.integers(0, 3)),
        scale=scaled,
        jitter=draw(st.sampled_from([0, 2])) if scaled[0] < 1 else 0,
        noise=draw(st.sampled_from([0.0, 6.0])),
        resize=draw(st.booleans()),
    )
    return picture, TileAugmentConfig(noise=draw(st.sampled_from([0.0, 8.0])))


@given(drawings(), st.sampled_from(["train", "test"]), st.integers(0, 99), st.booleans())
def test_keys_are_equal_where_the_pictures_are(bank, drawing, split, seed, same_draws):
    picture, varying = drawing
    varied = dataclasses.replace(bank, augment=varying)
    spec = GridConfig(rows=[1, 2], cols=[1, 2], palette=2)
    samples = draw_samples(spec, varied, seed, split, np.arange(12))
    few = bank.members(split, 0)[:2]  # so that equal grids occur
    samples = dataclasses.replace(
        samples,
        tiles=np.where(samples.tiles >= 0, few[samples.tiles % 2], -1),
        key=samples.key[np.arange(12) % 3] if same_draws else samples.key,
    )
    pictures = Pictures(samples, varied, 64, picture)
    keys = pictures.keys
    assert keys.dtype == np.uint64
    assert keys.shape == (len(pictures),) == (len(pictures.pixels),)
    equal = keys[:, None] == keys
    pixels = pictures.pixels.reshape(len(keys), -1)
    same = (pixels[:, None] == pixels).all(-1)
    assert same[equal].all()
    # The strength of tile noise is drawn, too, and can be too weak to change a pixel.
    if picture.scale[0] == picture.scale[1] and not picture.jitter and not varying.noise:
        assert equal[same].all()  # else two draws may give the same picture
    salted = picture_keys(samples, varied, picture, salt=1)
    np.testing.assert_array_equal(equal, salted[:, None] == salted)
    assert not set(salted.tolist()) & set(keys.tolist())
    again = [picture_keys(draw_one(samples, i), varied, picture) for i in range(12)]
    np.testing.assert_array_equal(np.concatenate(again), keys)


def draw_one(samples, i):
    one = {f.name: getattr(samples, f.name)[i : i + 1] for f in dataclasses.fields(samples)}
    return dataclasses.replace(samples, **one)


def test_another_tile_or_another_way_to_draw_is_another_key(bank):
    samples = draw_samples(GridConfig(), bank, 0, "test", np.arange(1))
    (before,) = picture_keys(samples, bank)
    keys = {before}
    for cell in np.ndindex(3, 3):
        tiles = samples.tiles.copy()
        tiles[0][cell] += 1
        keys |= set(picture_keys(dataclasses.replace(samples, tiles=tiles), bank))
    assert len(keys) == 10
    moved = np.roll(samples.tiles, 1, axis=2)
    for changes in ({"gap": 1}, {"resize": True}, {"background": [0, 0, 0]}, {"blur": 0.5}):
        keys |= set(picture_keys(samples, bank, PictureConfig(**changes)))
    keys |= set(picture_keys(dataclasses.replace(samples, tiles=moved), bank))
    assert len(keys) == 15


def test_a_tile_alone_has_one_key_in_all_grids(bank):
    samples = draw_samples(GridConfig(rows=[2, 3], cols=[2, 4]), bank, 0, "train", np.arange(200))
    keys = picture_keys(samples, bank, PictureConfig(layout="multi"))
    tiles = samples.tiles[samples.inside]
    assert (
        len(set(keys.tolist()))
        == len(set(tiles.tolist()))
        == len(set(zip(tiles, keys, strict=True)))
    )
    alone = draw_samples(GridConfig(rows=1, cols=1, palette=1), bank, 0, "train", np.arange(50))
    assert set(picture_keys(alone, bank).tolist()) <= set(keys.tolist())


def test_pictures_are_drawn_when_their_pixels_are_asked_for(bank, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "gpt2v.data.render.pictures.compose", lambda *a: drawn.append(a) or compose(*a)
    )
    samples = draw_samples(RAGGED, bank, 0, "test", np.arange(3))
    for layout, n in (("composite", 3), ("multi", int(samples.n_cells.sum()))):
        pictures = Pictures(samples, bank, 64, PictureConfig(layout=layout))
        assert len(pictures) == n
        assert not drawn
        assert pictures.pixels is pictures.pixels
        assert len(drawn) == 1
        drawn.clear()
