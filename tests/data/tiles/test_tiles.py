"""Tile banks: disjoint splits, pictures taken as they are or augmented, and hashes that say so."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import GridConfig
from gpt2v.config.load import dump, load, validate
from gpt2v.config.pictures import TileAugmentConfig, TilesConfig
from gpt2v.config.scenes import SceneConfig
from gpt2v.data import rng
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import draw_scenes
from gpt2v.data.tiles.augment import augment
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from helpers import check_disjoint

AUGMENTED = TileAugmentConfig(flip=True, crop=0.3, jitter=0.2, blur=1, noise=5)
# SHA-256 of sprites with `per_class: 20, size: 16`: results refer to it
SPRITES = "41a5bdbd37b61e2cef2c4237547dfd7955628cc9b20a45a0deff33b405af070d"


def test_sprite_splits_are_disjoint_and_of_the_asked_size(bank):
    check_disjoint(bank)
    counts = [len(bank.members(split, label)) for split in SPLITS for label in range(10)]
    assert counts == [20] * 10 + [2] * 20
    assert bank.counts.ravel().tolist() == counts


def test_what_one_bank_holds_out_no_other_bank_trains_on(bank):
    """Whatever the number of sprites: a model of one bank may be measured on another's."""
    more = load_bank(TilesConfig(per_class=40, size=16))
    for one, other in ((bank, more), (more, bank)):
        trained = {p.tobytes() for p in one.pixels[one.split == 0]}
        held_out = [p.tobytes() for p in other.pixels[other.split > 0]]
        assert not trained.intersection(held_out)


def test_members_have_the_split_and_the_label(bank):
    for split in SPLITS:
        members = bank.members(split, 3)
        assert set(bank.labels[members]) == {3}
        assert set(bank.split[members]) == {SPLITS.index(split)}


def test_pick_reaches_every_member_and_no_other(bank):
    words = np.arange(400, dtype=np.uint64) * np.uint64(2**64 // 400)
    picked = bank.pick("val", np.full(400, 6), words)
    assert sorted(set(picked.tolist())) == sorted(bank.members("val", 6).tolist())


def test_the_seed_of_the_tiles_draws_other_sprites_and_the_hash_says_so(bank):
    other = load_bank(TilesConfig(per_class=20, size=16, seed=1))
    assert not {p.tobytes() for p in bank.pixels} & {p.tobytes() for p in other.pixels}
    assert other.content_hash != bank.content_hash
    again = load_bank(TilesConfig(per_class=20, size=16))
    assert again.content_hash == bank.content_hash


def test_the_hash_is_of_all_that_the_tiles_are_and_stays_what_it_was(bank):
    assert bank.content_hash == SPRITES
    pixels = bank.pixels.copy()
    pixels[-1, -1, -1, -1] ^= 1
    changes = [
        {"pixels": pixels},
        {"labels": np.roll(bank.labels, 1)},
        {"split": np.roll(bank.split, 1)},
        {"class_names": bank.class_names[::-1]},
        {"augment": AUGMENTED},
        {"augment": TileAugmentConfig(noise=5)},
    ]
    hashes = {dataclasses.replace(bank, **change).content_hash for change in changes}
    assert len(hashes | {SPRITES}) == len(changes) + 1


def test_configurations_with_nothing_new_are_written_as_they_were(tmp_path):
    plain = validate(TilesConfig, {"seed": 3}, "x")
    assert list(plain.model_dump()) == ["source", "path", "size", "per_class", "seed"]
    given = {"source": "folder", "decode": "on-the-fly", "corrupt": "skip", "augment": {"blur": 1}}
    file = tmp_path / "c.yaml"
    file.write_text(dump(validate(TilesConfig, given, "x")))
    assert load(TilesConfig, file, {}) == validate(TilesConfig, given, "x")
    assert "on-the-fly" in file.read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"decode": "on-the-fly"}, "on-the-fly needs source: folder"),
        ({"source": "mnist"}, r"source: .*'cifar100'"),
        ({"augment": {"crop": 1.0}}, r"augment\.crop"),
        ({"augment": {"blur": float("nan")}}, r"augment\.blur"),
        ({"augment": {"noise": -1}}, r"augment\.noise"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        validate(TilesConfig, given, "f.yaml")


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2**32))
def test_take_gives_tiles_of_any_shape(bank, shape, seed):
    """With augmentation, each tile by its own key; without keys or augmentation, as they are."""
    tiles = np.random.default_rng(seed).integers(0, len(bank.labels), shape)
    keys = rng.keys(seed, "test", tiles.reshape(-1)).reshape(shape)
    varied = dataclasses.replace(bank, augment=AUGMENTED)
    for found in (bank.take(tiles), bank.take(tiles, keys), varied.take(tiles)):
        np.testing.assert_array_equal(found, bank.pixels[tiles])
    found = varied.take(tiles, keys)
    assert found.shape == (*shape, 16, 16, 3)
    assert found.dtype == np.uint8
    for where in np.ndindex(*shape):
        alone = augment(bank.pixels[tiles[where]][None], keys[where][None], AUGMENTED)
        np.testing.assert_array_equal(found[where], alone[0])


def test_take_refuses_keys_of_another_shape(bank):
    varied = dataclasses.replace(bank, augment=AUGMENTED)
    with pytest.raises(ValueError, match="must have the shape"):
        varied.take(np.arange(6).reshape(2, 3), np.arange(6, dtype=np.uint64))


def test_the_configuration_s_augmentation_reaches_grids_and_scenes(bank):
    """The same objects in the same places, each tile seen anew, and always in the same way."""
    varied = load_bank(TilesConfig(per_class=20, size=16, augment=AUGMENTED))
    assert varied.augment == AUGMENTED
    np.testing.assert_array_equal(varied.pixels, bank.pixels)

    spec = GridConfig(rows=2, cols=2)
    samples = draw_samples(spec, varied, 0, "train", np.arange(4))
    plain, one, two = (compose(samples, b, 32) for b in (bank, varied, varied))
    np.testing.assert_array_equal(one, two)
    later = draw_samples(spec, varied, 0, "train", np.arange(2, 4))
    np.testing.assert_array_equal(compose(later, varied, 32), one[2:])
    same = samples.tiles.copy()
    same[:] = same[0, 0, 0]  # one tile everywhere
    cells = compose(dataclasses.replace(samples, tiles=same), varied, 32)
    cells = cells.reshape(4, 2, 16, 2, 16, 3).swapaxes(2, 3).reshape(16, -1)
    assert len(np.unique(cells, axis=0)) == 16
    assert (plain != one).mean() > 0.5

    config = SceneConfig.model_validate({"layouts": [{"lattice": 3}], "jitter": 0.0})
    place = (PictureGeometry(48, 8), 0, "train", 0, np.arange(3))
    before, after = (draw_scenes(config, b, *place) for b in (bank, varied))
    np.testing.assert_array_equal(before.classes, after.classes)
    assert before.captions == after.captions
    assert (before.pixels != after.pixels).mean() > 0.5
