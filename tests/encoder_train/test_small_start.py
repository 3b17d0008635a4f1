"""The small start: the first steps show smaller scenes, whose windows are as many."""

import json

import numpy as np
import pytest
import torch

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import draw_scenes
from gpt2v.encoder_train.train import _EncoderTask, prepare_encoder, scenes_hash, train_encoder
from gpt2v.model.clip import embed_patches, normalise
from gpt2v.run_layout import METRICS

CONV = {"name": "conv", "image_size": 32, "widths": [8, 16], "window": 16}
FULL, SMALL = PictureGeometry(32, 4), PictureGeometry(16, 4)
CPU = torch.device("cpu")


def config(**changes):
    small = {"small_start": 2, "small_scale": 0.5}
    content = {**helpers.TINY_ENCODER, "vision": CONV, "steps": 4, **small, **changes}
    return EncoderConfig.model_validate(content)


@pytest.fixture(scope="module")
def ready(bank):
    prepared = prepare_encoder(config(), bank)
    prepared.clip.eval()
    return prepared


def task_of(ready, bank, **changes):
    return _EncoderTask(config(**changes), bank, FULL, ready)


@pytest.mark.parametrize(("step", "geometry"), [(0, SMALL), (1, SMALL), (2, FULL), (3, FULL)])
def test_the_first_steps_show_small_scenes(ready, bank, step, geometry):
    batch = task_of(ready, bank).batch(step, 0, 1)
    index = np.arange(4) + 4 * step
    expected = draw_scenes(config().scenes, bank, geometry, 0, "train", step, index)
    assert batch.pixels.shape[1:] == (geometry.image_size, geometry.image_size, 3)
    np.testing.assert_array_equal(batch.pixels, expected.pixels)
    np.testing.assert_array_equal(batch.patch_objects, expected.patch_objects)


def test_a_window_shrinks_with_the_picture(ready, bank):
    """The loss is that of a tower with windows of 8 pixels, the same share of a picture."""
    drawn = task_of(ready, bank).batch(0, 0, 1)
    tower = ready.clip.vision_model
    with torch.no_grad():
        found = float(task_of(ready, bank).loss(drawn))
        as_large = float(task_of(ready, bank, small_start=0, small_scale=0.75).loss(drawn))
        tower.config.window = 8
        pixels = normalise(drawn.pixels, CPU)
        patches = embed_patches(ready.clip, pixels)[1]
        tower.config.window = 16
        scaled = embed_patches(ready.clip, pixels, window=8)[1]
        unscaled = embed_patches(ready.clip, pixels)[1]
    torch.testing.assert_close(scaled, patches, rtol=0, atol=0)
    assert not torch.allclose(unscaled, patches)
    assert found == as_large  # scenes say how large they are


def test_it_counts_as_much_work_as_it_is(ready, bank):
    task = task_of(ready, bank)
    small, full = (task.flops(task.batch(step, 0, 1)) for step in (0, 3))
    assert small == pytest.approx(full / 4)


def test_a_training_with_it_ends(bank, tmp_path):
    train = {**helpers.TINY_ENCODER["train"], "log_every": 1}
    train_encoder(config(train=train), tmp_path / "run", bank)
    lines = (tmp_path / "run" / METRICS).read_text().splitlines()
    tokens = [line["tokens_per_s"] / line["samples_per_s"] for line in map(json.loads, lines[:4])]
    assert tokens == pytest.approx([16, 16, 64, 64])


def test_it_is_part_of_the_data(bank):
    hashes = {
        scenes_hash(config(**changes), bank)
        for changes in (
            {},
            {"small_start": 1},
            {"small_scale": 0.75},
            {"small_start": 0, "small_scale": 0.75},
        )
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"small_start": 0}, "small_scale: 0.5 has no effect: small_start is 0"),
        ({"vision": {**CONV, "window": 4}}, "small_start: the vision's windows are one patch each"),
        ({"vision": helpers.TINY_VISION}, "small_start: a clip tower reads pictures of one size"),
        ({"teacher": "x"}, "small_start: a teacher reads pictures of one size only"),
        ({"small_start": 4}, "small_start: must be below the 4 steps"),
        ({"scenes": {"layouts": [{"lattice": 5}]}}, "of 16 pixels has cells smaller than a patch"),
    ],
)
def test_pictures_that_the_tower_cannot_read_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("window", "scale", "side"),
    [(16, 0.5, 16), (16, 0.75, 24), (16, 0.74, 16), (None, 0.7, 20), (8, 0.9, 16)],
)
def test_patches_stay_whole_in_each_window(window, scale, side):
    assert config(vision={**CONV, "window": window}, small_scale=scale).small_side == side


def test_a_product_that_is_whole_is_not_rounded_down():
    """0.58 * 200 / 4 is 28.999999999999996 in floating point."""
    vision = {**CONV, "image_size": 200, "window": None}
    assert config(vision=vision, small_scale=0.58).small_side == 4 * 29
