"""Tile banks: disjoint splits, tiles with and without augmentation, and hashes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helpers
from gpt2v.config.base import hash_of
from gpt2v.config.grids import GridConfig
from gpt2v.config.load import dump, load, validate
from gpt2v.config.pictures import TileAugmentConfig, TilesConfig
from gpt2v.config.scenes import SceneConfig
from gpt2v.data import rng
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import compose
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import draw_scenes
from gpt2v.data.tiles import sprites
from gpt2v.data.tiles.augment import augment
from gpt2v.data.tiles.bank import SPLITS, class_of, split_of
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from helpers import all_tiles, check_disjoint, hashes_of, repainted

AUGMENTED = TileAugmentConfig(flip=True, crop=0.3, jitter=0.2, blur=1, noise=5)
# SHA-256 of the pixels of sprites with `per_class: 20, size: 16`
SPRITES = {
    "train": "1a9479d383718484518da2dc1255155caca2af95f206127837a88d2c10495102",
    "val": "a4230ab57f161d0c6c50ecd7351857b1f5d45fbff046d605a1e25d605b7b275b",
    "test": "fc7c794eef76d8fa955ee3f36d0e7d9742c40bcdaca7eca08802b3068e548810",
}


def every_pixel(bank):
    """(n_tiles, size, size, 3), all splits one after another, in the order of `all_tiles`."""
    return np.concatenate([bank.splits[split].pixels for split in SPLITS])


def test_sprite_splits_are_disjoint_and_have_the_configured_size(bank):
    check_disjoint(bank)
    counts = [len(bank.members(split, label)) for split in SPLITS for label in range(10)]
    assert counts == [20] * 10 + [2] * 20
    assert bank.counts.ravel().tolist() == counts


def test_held_out_sprites_are_in_no_training_split_of_another_bank(bank):
    """With any number of sprites: a model of one bank may be evaluated with another bank."""
    more = load_bank(TilesConfig(per_class=40, size=16))
    for one, other in ((bank, more), (more, bank)):
        trained = {p.tobytes() for p in one.splits["train"].pixels}
        held_out = [p.tobytes() for name in ("val", "test") for p in other.splits[name].pixels]
        assert held_out
        assert not trained.intersection(held_out)


def test_members_have_the_split_and_the_label(bank):
    for split in SPLITS:
        members = bank.members(split, 3)
        assert set(class_of(members)) == {3}
        assert set(split_of(members)) == {SPLITS.index(split)}
        assert len(set(members.tolist())) == len(members)


def test_the_tiles_of_a_split_are_those_of_its_classes_one_after_another(bank):
    for split in SPLITS:
        own, tiles = bank.splits[split], bank.tiles(split)
        members = [bank.members(split, label) for label in range(10)]
        np.testing.assert_array_equal(tiles, np.concatenate(members))
        np.testing.assert_array_equal(class_of(tiles), own.labels)
        assert len(own.sources) == len(own.pixels) == len(tiles)
    everything = all_tiles(bank)
    assert len(set(everything.tolist())) == len(everything) == bank.counts.sum()


def test_pick_reaches_every_member_and_no_other(bank):
    words = np.arange(400, dtype=np.uint64) * np.uint64(2**64 // 400)
    picked = bank.pick("val", np.full(400, 6), words)
    assert sorted(set(picked.tolist())) == sorted(bank.members("val", 6).tolist())


def test_another_seed_draws_other_sprites_and_changes_the_hash(bank):
    other = load_bank(TilesConfig(per_class=20, size=16, seed=1))
    assert not {p.tobytes() for p in every_pixel(bank)} & {p.tobytes() for p in every_pixel(other)}
    again = load_bank(TilesConfig(per_class=20, size=16))
    for split in SPLITS:
        assert other.content_hash(split) != bank.content_hash(split)
        assert again.content_hash(split) == bank.content_hash(split)


def test_the_hash_covers_everything_about_the_tiles_and_has_not_changed(bank):
    bank = helpers.by_pixels(bank)

    def flipped(pixels, _):
        pixels = pixels.copy()
        pixels[-1, -1, -1, -1] ^= 1
        return pixels

    assert hashes_of(bank) == SPRITES
    others = repainted(bank, flipped).splits
    for split, following in zip(SPLITS, (*SPLITS[1:], SPLITS[0]), strict=True):
        own = bank.splits[split]
        one_more = np.where(np.arange(10) == 0, 1, np.where(np.arange(10) == 9, -1, 0))
        relabelled = dataclasses.replace(own, counts=own.counts + one_more)
        changes = [
            {"splits": {**bank.splits, split: others[split]}},
            {"splits": {**bank.splits, split: relabelled}},
            {"splits": {**bank.splits, split: bank.splits[following]}},
            {"splits": {**bank.splits, following: own}},
        ]
        changed = [hashes_of(dataclasses.replace(bank, **change)) for change in changes]
        for hashes in changed[:3]:  # only the hash of this split changes
            assert {k for k, v in hashes.items() if v != SPRITES[k]} == {split}
        assert changed[3][following] != SPRITES[split]  # the same tiles in another split
        alone = {hashes[split] for hashes in changed[:3]} | {changed[3][following], SPRITES[split]}
        assert len(alone) == 5
    renamed = hashes_of(dataclasses.replace(bank, class_names=bank.class_names[::-1]))
    assert all(renamed[split] != SPRITES[split] for split in SPLITS)
    varied = [
        hashes_of(dataclasses.replace(bank, augment=augment))
        for augment in (AUGMENTED, TileAugmentConfig(noise=5))
    ]
    assert len({hashes["train"] for hashes in (*varied, renamed, SPRITES)}) == 4
    for hashes in varied:  # only training tiles are augmented
        assert {k for k, v in hashes.items() if v != SPRITES[k]} == {"train"}


def test_the_version_of_sprites_stands_for_their_pixels(bank):
    """If the test above fails for other drawings: increase `sprites.VERSION`, then mend both."""
    recipe = "9ae59c11adf5b432e672e6d992c1bc0b337c08c2d0b6081809052c81750a5f57"
    assert (sprites.VERSION, bank.content_hash("train")) == (1, recipe)
    changes = ({"size": 17}, {"seed": 1}, {"per_class": 30})
    others = [load_bank(TilesConfig(**{"per_class": 20, "size": 16, **c})) for c in changes]
    assert len({own.content_hash("train") for own in (bank, *others)}) == 4


def test_another_version_of_sprites_changes_the_hash(bank, monkeypatch):
    monkeypatch.setattr(sprites, "VERSION", sprites.VERSION + 1)
    other = load_bank(TilesConfig(per_class=20, size=16))
    assert all(other.content_hash(split) != bank.content_hash(split) for split in SPLITS)


def test_configurations_are_written_with_all_fields_and_defaults_change_no_hash(tmp_path):
    plain = validate(TilesConfig, {"seed": 3}, "x")
    fields = plain.model_dump()
    assert list(fields) == list(TilesConfig.model_fields)
    assert validate(TilesConfig, fields, "x") == plain
    assert hash_of(validate(TilesConfig, fields, "x")) == hash_of(plain) != hash_of(TilesConfig())
    given = {"source": "folder", "decode": "on-the-fly", "corrupt": "skip", "augment": {"blur": 1}}
    file = tmp_path / "c.yaml"
    file.write_text(dump(validate(TilesConfig, given, "x")))
    assert load(TilesConfig, file, {}) == validate(TilesConfig, given, "x")
    assert "on-the-fly" in file.read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"decode": "on-the-fly"}, "on-the-fly needs source: folder"),
        ({"source": "mnist"}, r"source: no such tile source: 'mnist'; choose from .*cifar100"),
        ({"augment": {"crop": 1.0}}, r"augment\.crop"),
        ({"augment": {"blur": float("nan")}}, r"augment\.blur"),
        ({"augment": {"noise": -1}}, r"augment\.noise"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(given, says):
    with pytest.raises(UserError, match=says):
        validate(TilesConfig, given, "f.yaml")


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2**32))
def test_take_returns_tiles_of_any_shape(bank, shape, seed):
    """Each tile is augmented by its own key; without keys or augmentation it does not change."""
    pixels = every_pixel(bank)
    index = np.random.default_rng(seed).integers(0, len(pixels), shape)
    tiles, expected = all_tiles(bank)[index], pixels[index]
    keys = rng.keys(seed, "test", tiles.reshape(-1)).reshape(shape)
    varied = dataclasses.replace(bank, augment=AUGMENTED)
    for taken in (bank.take(tiles), bank.take(tiles, keys), varied.take(tiles)):
        np.testing.assert_array_equal(taken, expected)
    taken = varied.take(tiles, keys)
    assert taken.shape == (*shape, 16, 16, 3)
    assert taken.dtype == np.uint8
    for where in np.ndindex(*shape):
        alone = augment(expected[where][None], keys[where][None], AUGMENTED)
        np.testing.assert_array_equal(taken[where], alone[0])


def test_take_refuses_keys_of_another_shape(bank):
    varied = dataclasses.replace(bank, augment=AUGMENTED)
    with pytest.raises(ValueError, match="must have the shape"):
        varied.take(bank.tiles("train")[:6].reshape(2, 3), np.arange(6, dtype=np.uint64))


def test_the_configuration_s_augmentation_reaches_grids_and_scenes(bank):
    """The same objects in the same cells; each tile is augmented by its own key, reproducibly."""
    varied = load_bank(TilesConfig(per_class=20, size=16, augment=AUGMENTED))
    assert varied.augment == AUGMENTED
    np.testing.assert_array_equal(varied.take(all_tiles(bank)), bank.take(all_tiles(bank)))

    spec = GridConfig(rows=2, cols=2)
    samples = draw_samples(spec, varied, 0, "train", np.arange(4))
    plain, one, two = (compose(samples, b, 32) for b in (bank, varied, varied))
    np.testing.assert_array_equal(one, two)
    later = draw_samples(spec, varied, 0, "train", np.arange(2, 4))
    np.testing.assert_array_equal(compose(later, varied, 32), one[2:])
    same = samples.tiles.copy()
    same[:] = same[0, 0, 0]  # the same tile in every cell
    cells = compose(dataclasses.replace(samples, tiles=same), varied, 32)
    cells = cells.reshape(4, 2, 16, 2, 16, 3).swapaxes(2, 3).reshape(16, -1)
    assert len(np.unique(cells, axis=0)) == 16
    assert (plain != one).mean() > 0.5

    config = SceneConfig.model_validate({"layouts": [{"lattice": 3}], "jitter": 0.0})
    arguments = (PictureGeometry(48, 8), 0, "train", 0, np.arange(3))
    before, after = (draw_scenes(config, b, *arguments) for b in (bank, varied))
    np.testing.assert_array_equal(before.classes, after.classes)
    assert before.captions == after.captions
    assert (before.pixels != after.pixels).mean() > 0.5
