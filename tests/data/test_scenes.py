"""Scenes: pure, with captions of what they show, and with the right object for each patch."""

import numpy as np
import pytest

import helpers
from gpt2v.config.scenes import SceneConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import NOTHING, draw_scenes, object_caption, scene_caption

GEOMETRY = PictureGeometry(48, 8)
PLAIN = {"lattice": 3}
VARIED = {"lattice": 2, "scale": [0.5, 1.6], "occupancy": 0.6}


def scenes(bank, layout, batch=0, split="train", **changes):
    config = SceneConfig.model_validate({"layouts": [layout], **changes})
    return draw_scenes(config, bank, GEOMETRY, 0, split, batch, np.arange(6) + 6 * batch)


def patch_classes(drawn):
    """Class of the object at each patch's centre, or NOTHING."""
    classes = np.take_along_axis(drawn.classes, np.maximum(drawn.patch_objects, 0), axis=1)
    return np.where(drawn.patch_objects == NOTHING, NOTHING, classes)


def test_captions_name_each_type_of_object_once():
    assert scene_caption([]) == "a picture of nothing."
    assert scene_caption(["cat"]) == object_caption("cat") == "a picture of a cat."
    assert scene_caption(["cat", "dog"]) == "a picture of a cat and a dog."
    assert scene_caption(["cat", "dog", "bird"]) == "a picture of a cat, a dog and a bird."


@pytest.mark.parametrize("layout", [PLAIN, VARIED])
def test_a_batch_is_pure_and_batches_differ(bank, layout):
    one, two, other = (scenes(bank, layout, batch) for batch in (3, 3, 4))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert one.captions == two.captions
    assert (one.pixels != other.pixels).any()


@pytest.mark.parametrize("layout", [PLAIN, VARIED])
def test_captions_name_what_the_cells_hold(bank, layout):
    for batch in range(8):
        drawn = scenes(bank, layout, batch)
        for classes, caption in zip(drawn.classes, drawn.captions, strict=True):
            shown = {bank.class_names[c] for c in classes if c != NOTHING}
            assert {n for n in bank.class_names if f"a {n}" in caption} == shown
        on = drawn.patch_objects != NOTHING
        assert (patch_classes(drawn)[on] != NOTHING).all()


def test_plain_scenes_are_the_tiles_themselves(bank):
    drawn = scenes(bank, PLAIN, flip=False, jitter=0.0, split="val")
    for i in range(6):
        for cell, label in enumerate(drawn.classes[i]):
            r, c = divmod(cell, 3)
            pixels = drawn.pixels[i, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16]
            tiles = bank.take(bank.members("val", label))
            assert (tiles == pixels).all((1, 2, 3)).any()
            patches = patch_classes(drawn)[i].reshape(6, 6)[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            assert (patches == label).all()


def test_each_patch_is_labelled_with_the_object_painted_there(bank):
    """Each class has its own grey, so the pixel at a patch's centre shows the class."""
    painted = helpers.repainted(
        bank, lambda pixels, labels: helpers.in_grey(pixels, 10 + 20 * labels)
    )
    objects = empty = 0
    for batch in range(10):
        drawn = scenes(painted, VARIED, batch, jitter=0.0)
        centres = drawn.pixels[:, 4::8, 4::8].reshape(6, 36, 3).astype(int)
        nearest = np.rint((centres[..., 0] - 10) / 20).astype(int)
        grey = (np.abs(centres - (10 + 20 * nearest)[..., None]) <= 1).all(-1)
        labels = patch_classes(drawn)
        on = labels != NOTHING
        assert grey[on].all()
        assert nearest[on].tolist() == labels[on].tolist()
        assert grey[~on].mean() < 0.05  # the background has a random colour
        objects, empty = objects + on.sum(), empty + (~on).sum()
    assert objects > 500
    assert empty > 500


def shown_in_turns(bank, n, **changes):
    """For each object in order: the number of its tile in the split, and whether it is mirrored."""
    config = SceneConfig.model_validate(
        {"layouts": [PLAIN], "turns": True, "jitter": 0, "flip": True, **changes}
    )
    every = bank.take(bank.tiles("val"))
    found = []
    for batch in range(-(-n // (6 * 9))):
        index = np.arange(6) + 6 * batch
        drawn = draw_scenes(config, bank, GEOMETRY, 0, "val", batch, index)
        cells = drawn.pixels.reshape(6, 3, 16, 3, 16, 3).swapaxes(2, 3).reshape(-1, 16, 16, 3)
        for cell in cells:
            plain = (every == cell).all((1, 2, 3))
            mirrored = (every[:, :, ::-1] == cell).all((1, 2, 3))
            (number,) = np.flatnonzero(plain | mirrored)
            found.append((int(number), bool(mirrored[number])))
    return found[:n]


def test_turns_show_every_tile_once_and_mirrored_every_second_time(bank):
    n = len(bank.tiles("val"))
    found = shown_in_turns(bank, 4 * n)
    turns = [found[i * n : (i + 1) * n] for i in range(4)]
    assert all(sorted(number for number, _ in turn) == list(range(n)) for turn in turns)
    assert len({tuple(number for number, _ in turn) for turn in turns}) == 4
    sides = [dict(turn) for turn in turns]
    assert sides[0] == sides[2] != sides[1] == sides[3]
    assert all(sides[0][number] != sides[1][number] for number in range(n))
    assert 0.2 < np.mean(list(sides[0].values())) < 0.8
    assert not any(mirrored for _, mirrored in shown_in_turns(bank, n, flip=False))


def test_cuts_do_not_change_whose_turn_it_is(bank):
    cut, plain = (scenes(bank, PLAIN, turns=True, cut=share, split="val") for share in (0.5, 0.0))
    np.testing.assert_array_equal(plain.classes, cut.classes[:, :9])
    assert (cut.pixels != plain.pixels).any()


def test_occupancy_mirroring_and_jitter_take_effect(bank):
    share = np.mean([(scenes(bank, VARIED, b).classes != NOTHING).mean() for b in range(20)])
    assert abs(share - 0.6) < 0.1
    base = scenes(bank, PLAIN, flip=False, jitter=0.0).pixels
    for changes in ({"flip": True, "jitter": 0.0}, {"flip": False, "jitter": 0.3}):
        changed = scenes(bank, PLAIN, **changes).pixels
        assert (changed != base).any()
        assert (changed != base).any((1, 2, 3)).mean() > 0.5


def test_a_cut_shows_part_of_another_object_whose_patches_name_it(bank):
    """Only pixels in the rectangle of a cut change; labels and captions include the new object."""
    plain, cut = scenes(bank, PLAIN, jitter=0), scenes(bank, PLAIN, jitter=0, cut=1.0)
    changed = (plain.pixels != cut.pixels).any(-1).reshape(6, 6, 8, 6, 8).any((2, 4)).reshape(6, -1)
    hidden = cut.patch_objects >= 9
    assert (changed <= hidden).all()
    assert changed.sum() > 0.9 * hidden.sum()  # some hidden patches look the same by chance
    np.testing.assert_array_equal(cut.patch_objects % 9, plain.patch_objects)
    np.testing.assert_array_equal(cut.classes[:, :9], plain.classes)
    per_cell = hidden.reshape(6, 3, 2, 3, 2).sum((2, 4)).reshape(6, 9)
    assert (per_cell == 1).all()  # a cell has 2 x 2 patches: a rectangle is one of them
    assert (cut.classes[:, 9:] != NOTHING).all()
    for names, row in zip(cut.captions, cut.classes, strict=True):
        assert all(bank.class_names[c] in names for c in row)


def test_a_share_of_the_cells_is_cut(bank):
    batches = [scenes(bank, PLAIN, batch, cut=0.3) for batch in range(20)]
    share = np.mean([batch.classes[:, 9:] != NOTHING for batch in batches])
    assert abs(share - 0.3) < 0.06


def test_layouts_are_drawn_by_weight(bank):
    config = SceneConfig.model_validate({"layouts": [{**PLAIN, "weight": 3}, VARIED]})
    n_cells = [
        draw_scenes(config, bank, GEOMETRY, 0, "train", batch, np.array([batch])).classes.shape[1]
        for batch in range(400)
    ]
    assert abs(np.mean(np.array(n_cells) == 9) - 0.75) < 0.1


def test_resizing_keeps_a_flat_picture_flat(bank):
    """Resizing rounds to the nearest level, so a grey stays the same at every scale."""
    for grey in range(7, 256, 14):
        flat = helpers.repainted(bank, lambda pixels, _, grey=grey: np.full_like(pixels, grey))
        for scale in (0.55, 0.85, 1.3):
            layout = {"lattice": 2, "scale": [scale, scale]}
            drawn = scenes(flat, layout, jitter=0.0)
            assert (drawn.pixels[:, 12, 12] == grey).all()
