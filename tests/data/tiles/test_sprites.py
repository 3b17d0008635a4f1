"""Sprites are pure and varied, and only their shape shows the class."""

import numpy as np
import pytest

from gpt2v.data.tiles.sprites import CLASS_NAMES, draw_sprites

N_TRAIN, N_TEST = 1500, 500


def test_class_names_are_those_of_cifar10_in_order():
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(CLASS_NAMES) == names


@pytest.mark.parametrize("size", [16, 32, 48])
def test_shape_and_dtype(size):
    tiles = draw_sprites(np.arange(10), np.arange(10), size)
    assert tiles.shape == (10, size, size, 3)
    assert tiles.dtype == np.uint8


def test_no_labels_make_no_tiles():
    assert draw_sprites(np.zeros(0, int), np.zeros(0, int)).shape == (0, 32, 32, 3)


def test_a_tile_depends_on_its_label_and_variant_only():
    labels, variants = np.arange(40) % 10, np.arange(40, dtype=np.uint64) ** 3
    batch = draw_sprites(labels, variants)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(draw_sprites(labels[order], variants[order]), batch[order])
    for i in (0, 17, 39):
        alone = draw_sprites(labels[i : i + 1].astype(np.uint8), variants[i : i + 1])
        np.testing.assert_array_equal(alone[0], batch[i])


def test_the_whole_range_of_variants_is_used():
    top = 2**64 - 1
    variants = np.array([0, 1, 2**32, 2**53, 2**53 + 1, 2**63, top - 1, top], np.uint64)
    for label in range(10):
        tiles = draw_sprites(np.full(8, label), variants).reshape(8, -1)
        assert len(np.unique(tiles, axis=0)) == 8


@pytest.mark.parametrize("label", range(10), ids=CLASS_NAMES)
def test_variants_differ_by_more_than_noise(label):
    tiles = draw_sprites(np.full(60, label), np.arange(60)).astype(float)
    difference = np.abs(tiles[:, None] - tiles[None]).mean((2, 3, 4))
    assert difference[np.triu_indices(60, 1)].min() > 12  # noise alone is at most about 10


def test_sizes_show_the_same_drawing():
    labels, variants = np.arange(30) % 10, np.arange(30)
    small = draw_sprites(labels, variants, 16).reshape(30, -1)
    large = draw_sprites(labels, variants, 32)
    reduced = large.reshape(30, 16, 2, 16, 2, 3).mean((2, 4)).reshape(30, -1)
    for a, b in zip(small, reduced, strict=True):
        assert np.corrcoef(a, b)[0, 1] > 0.85


@pytest.mark.parametrize(
    ("labels", "variants", "size"),
    [
        ([10], [0], 32),
        ([-1], [0], 32),
        ([0], [-1], 32),
        ([0], [0], 0),
        ([0, 1], [0], 32),
        ([[0]], [[0]], 32),
        ([0.5], [0], 32),
        ([0], [0.5], 32),
    ],
)
def test_wrong_arguments_are_refused(labels, variants, size):
    with pytest.raises(ValueError, match="must"):
        draw_sprites(np.array(labels), np.array(variants), size)


@pytest.fixture(scope="module")
def bank():
    """Balanced labels, and tiles from 0 to 1; the first N_TRAIN are for training."""
    labels = np.arange(N_TRAIN + N_TEST) % 10
    return labels, draw_sprites(labels, np.arange(len(labels)) + 10**6) / 255


def nearest_mean(labels, features):
    """Held-out accuracy of the nearest class mean, after scaling each feature."""
    features = features / features[:N_TRAIN].std(0)
    train, test = features[:N_TRAIN], features[N_TRAIN:]
    means = np.stack([train[labels[:N_TRAIN] == c].mean(0) for c in range(10)])
    guess = ((test[:, None] - means) ** 2).sum(-1).argmin(1)
    return (guess == labels[N_TRAIN:]).mean()


def ridge(labels, features, strength=10.0):
    """Held-out accuracy of ridge regression on one-hot labels."""
    x = (features - features[:N_TRAIN].mean(0)) / (features[:N_TRAIN].std(0) + 1e-6)
    x_train, targets = x[:N_TRAIN], np.eye(10)[labels[:N_TRAIN]] - 0.1
    gram = x_train.T @ x_train + strength * np.eye(x.shape[1])
    guess = (x[N_TRAIN:] @ np.linalg.solve(gram, x_train.T @ targets)).argmax(1)
    return (guess == labels[N_TRAIN:]).mean()


def border(tiles):
    """A border two pixels wide, averaged over eight parts: (n_tiles, 24)."""
    sides = [tiles[:, :2], tiles[:, -2:], tiles[:, :, :2], tiles[:, :, -2:]]
    halves = [h for s in sides for h in np.array_split(s, 2, axis=1 if s.shape[1] > 2 else 2)]
    return np.concatenate([h.mean((1, 2)) for h in halves], 1)


def gradients(tiles):
    """Histograms of eight unsigned edge directions in 8 x 8 squares of 4 pixels: (n_tiles, 512)."""
    gray = tiles.mean(-1)
    dy, dx = np.gradient(gray, axis=(1, 2))
    direction = ((np.arctan2(dy, dx) % np.pi) / np.pi * 8).astype(int) % 8
    votes = np.eye(8)[direction] * np.hypot(dx, dy)[..., None]
    cells = votes.reshape(len(tiles), 8, 4, 8, 4, 8).sum((2, 4))
    return np.sqrt(cells / cells.sum((1, 2, 3), keepdims=True)).reshape(len(tiles), -1)


def test_colour_does_not_show_the_class(bank):
    labels, tiles = bank
    mean_rgb = tiles.mean((1, 2))
    assert nearest_mean(labels, mean_rgb) < 0.2
    assert ridge(labels, mean_rgb) < 0.2


def test_background_does_not_show_the_class(bank):
    labels, tiles = bank
    ring = border(tiles)
    assert nearest_mean(labels, ring) < 0.2
    assert ridge(labels, ring) < 0.2


def test_shape_shows_the_class(bank):
    labels, tiles = bank
    assert ridge(labels, gradients(tiles)) > 0.7
