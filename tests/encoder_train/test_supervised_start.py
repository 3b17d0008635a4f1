"""The supervised start: a linear classifier of regions and patches, blind to captions of scenes."""

import json

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import NOTHING, draw_scenes, object_caption
from gpt2v.encoder_train.train import _EncoderTask, prepare_encoder, train_encoder
from gpt2v.model.clip import caption_ids, embed_captions, embed_patches, local_losses, normalise

GEOMETRY = PictureGeometry(32, 8)
CPU = torch.device("cpu")


def config(**changes):
    return EncoderConfig.model_validate({**helpers.TINY_ENCODER, "steps": 4, **changes})


@pytest.fixture(scope="module")
def ready(bank):
    prepared = prepare_encoder(config(), bank)
    prepared.clip.eval()
    return prepared


def scenes(bank, step=0):
    c = config()
    return draw_scenes(c.scenes, bank, GEOMETRY, 0, "train", step, np.arange(4) + 4 * step)


def loss(ready, bank, drawn, **changes):
    with torch.no_grad():
        return float(_EncoderTask(config(**changes), bank, GEOMETRY, ready).loss(drawn))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("unit", [True, False])
def test_the_local_losses_equal_a_loop_over_regions_and_patches(ready, bank, unit, smoothing):
    drawn, clip = scenes(bank), ready.clip
    ids = caption_ids([object_caption(n) for n in bank.class_names], ready.tokenizer, CPU)
    with torch.no_grad():
        objects = embed_captions(clip, ids)
        patches = embed_patches(clip, normalise(drawn.pixels, CPU))[1]
        both = local_losses(
            clip, patches, objects, drawn.patch_objects, drawn.classes, smoothing, unit
        )
    names, seen = objects.double().numpy(), patches.double().numpy()
    scale = float(clip.logit_scale.detach().exp())

    def cost(vector, label):
        vector = vector / np.linalg.norm(vector) if unit else vector
        scores = log_softmax(scale * names @ vector)
        return -(1 - smoothing) * scores[label] - smoothing * scores.mean()

    regions, single = [], []
    for own, columns, classes in zip(seen, drawn.patch_objects, drawn.classes, strict=True):
        for column, label in enumerate(classes):
            if label != NOTHING and (columns == column).any():
                regions.append(cost(own[columns == column].mean(0), label))
        single += [
            cost(patch, classes[c]) for patch, c in zip(own, columns, strict=True) if c != NOTHING
        ]
    assert [float(part) for part in both] == pytest.approx(
        [np.mean(regions), np.mean(single)], rel=1e-4
    )


def test_captions_count_only_after_it(ready, bank):
    for step, counts in ((0, False), (2, False), (3, True)):
        drawn = scenes(bank, step)
        other = scenes(bank, step)
        other.captions[:] = [drawn.captions[0]] * 4
        pair = [loss(ready, bank, one, supervised_start=3) for one in (drawn, other)]
        assert (pair[0] != pair[1]) == counts
    plain = loss(ready, bank, scenes(bank, 3))
    assert loss(ready, bank, scenes(bank, 3), supervised_start=3) == plain
    assert loss(ready, bank, scenes(bank, 2), supervised_start=3) != loss(
        ready, bank, scenes(bank, 2), global_weight=0
    )


def test_the_results_name_it(bank, tmp_path):
    for start, steps, weight in ((0, 0, 1), (1, 1, 1), (9, 2, 0)):
        run = tmp_path / str(start)
        train_encoder(config(supervised_start=start, steps=2, global_weight=weight), run, bank)
        assert json.loads((run / "results.json").read_text())["supervised_start"] == steps


def test_it_needs_a_term_that_names_objects():
    with pytest.raises(ValueError, match="supervised_start: needs region_weight or patch_weight"):
        config(supervised_start=1, region_weight=0, patch_weight=0)


@pytest.mark.parametrize("start", [2, 9])
def test_captions_that_are_never_read_are_not_asked_for(start):
    with pytest.raises(ValueError, match="supervised_start: must be below the 2 steps, or global_"):
        config(supervised_start=start, steps=2)
