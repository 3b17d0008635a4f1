"""Scenes: pure, captioned with what they show, and each patch labelled with what lies on it."""

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


def patch_classes(found):
    """Class of the object at each patch's centre, or NOTHING."""
    classes = np.take_along_axis(found.classes, np.maximum(found.patch_slots, 0), axis=1)
    return np.where(found.patch_slots == NOTHING, NOTHING, classes)


def test_captions_name_each_kind_of_object_once():
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
def test_captions_hold_what_the_slots_hold(bank, layout):
    for batch in range(8):
        found = scenes(bank, layout, batch)
        for classes, caption in zip(found.classes, found.captions, strict=True):
            shown = {bank.class_names[c] for c in classes if c != NOTHING}
            assert {n for n in bank.class_names if f"a {n}" in caption} == shown
        on = found.patch_slots != NOTHING
        assert (patch_classes(found)[on] != NOTHING).all()


def test_plain_scenes_are_the_tiles_themselves(bank):
    found = scenes(bank, PLAIN, flip=False, jitter=0.0, split="val")
    for i in range(6):
        for slot, label in enumerate(found.classes[i]):
            r, c = divmod(slot, 3)
            cell = found.pixels[i, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16]
            tiles = bank.take(bank.members("val", label))
            assert (tiles == cell).all((1, 2, 3)).any()
            patches = patch_classes(found)[i].reshape(6, 6)[2 * r : 2 * r + 2, 2 * c : 2 * c + 2]
            assert (patches == label).all()


def test_each_patch_is_labelled_with_the_object_painted_there(bank):
    """Each class in a grey of its own: the pixel at a patch's centre says what lies there."""
    painted = helpers.repainted(
        bank, lambda pixels, labels: helpers.in_grey(pixels, 10 + 20 * labels)
    )
    objects = empty = 0
    for batch in range(10):
        found = scenes(painted, VARIED, batch, jitter=0.0)
        centres = found.pixels[:, 4::8, 4::8].reshape(6, 36, 3).astype(int)
        nearest = np.rint((centres[..., 0] - 10) / 20).astype(int)
        grey = (np.abs(centres - (10 + 20 * nearest)[..., None]) <= 1).all(-1)
        labels = patch_classes(found)
        on = labels != NOTHING
        assert grey[on].all()
        assert nearest[on].tolist() == labels[on].tolist()
        assert grey[~on].mean() < 0.05  # a ground of random colour
        objects, empty = objects + on.sum(), empty + (~on).sum()
    assert objects > 500
    assert empty > 500


def test_occupancy_mirroring_and_jitter_take_effect(bank):
    share = np.mean([(scenes(bank, VARIED, b).classes != NOTHING).mean() for b in range(20)])
    assert abs(share - 0.6) < 0.1
    base = scenes(bank, PLAIN, flip=False, jitter=0.0).pixels
    for changes in ({"flip": True, "jitter": 0.0}, {"flip": False, "jitter": 0.3}):
        changed = scenes(bank, PLAIN, **changes).pixels
        assert (changed != base).any()
        assert (changed != base).any((1, 2, 3)).mean() > 0.5


def test_a_cut_shows_part_of_another_object_whose_patches_name_it(bank):
    """Pixels under a cut are those of the plain scene of the other objects, all else as before."""
    plain, cut = scenes(bank, PLAIN, jitter=0), scenes(bank, PLAIN, jitter=0, cut=1.0)
    changed = (plain.pixels != cut.pixels).any(-1).reshape(6, 6, 8, 6, 8).any((2, 4)).reshape(6, -1)
    hidden = cut.patch_slots >= 9
    assert (changed <= hidden).all()
    assert changed.sum() > 0.9 * hidden.sum()  # a part may look alike
    np.testing.assert_array_equal(cut.patch_slots % 9, plain.patch_slots)
    np.testing.assert_array_equal(cut.classes[:, :9], plain.classes)
    per_slot = hidden.reshape(6, 3, 2, 3, 2).sum((2, 4)).reshape(6, 9)
    assert (per_slot == 1).all()  # slots are two patches wide: a rectangle is one of the four
    assert (cut.classes[:, 9:] != NOTHING).all()
    for names, row in zip(cut.captions, cut.classes, strict=True):
        assert all(bank.class_names[c] in names for c in row)


def test_a_share_of_the_slots_is_cut(bank):
    found = [scenes(bank, PLAIN, batch, cut=0.3) for batch in range(20)]
    share = np.mean([scene.classes[:, 9:] != NOTHING for scene in found])
    assert abs(share - 0.3) < 0.06


def test_layouts_are_drawn_by_weight(bank):
    config = SceneConfig.model_validate({"layouts": [{**PLAIN, "weight": 3}, VARIED]})
    slots = [
        draw_scenes(config, bank, GEOMETRY, 0, "train", batch, np.array([batch])).classes.shape[1]
        for batch in range(400)
    ]
    assert abs(np.mean(np.array(slots) == 9) - 0.75) < 0.1


def test_resizing_keeps_a_flat_picture_flat(bank):
    """Rounding, not cutting off: a grey stays itself at every scale."""
    for grey in range(7, 256, 14):
        flat = helpers.repainted(bank, lambda pixels, _, grey=grey: np.full_like(pixels, grey))
        for scale in (0.55, 0.85, 1.3):
            layout = {"lattice": 2, "scale": [scale, scale]}
            found = scenes(flat, layout, jitter=0.0)
            assert (found.pixels[:, 12, 12] == grey).all()
