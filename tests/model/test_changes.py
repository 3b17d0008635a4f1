"""With changed states at a site, the rest of the model goes on from these.

Shapes: T token positions, D width of a hidden state.
"""

import numpy as np
import pytest
import torch
from test_states import CONV, N, built, one_at_a_time, rendered, spec

from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.model.changes import changed
from gpt2v.model.layer_changes import layer_changes
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.states import picture_states, text_states
from gpt2v.model.vision_tokens import ProjectedPatches

EVERY = [
    *(Site("vision", layer) for layer in range(3)),
    Site("pre-projector"),
    Site("post-projector"),
    *(Site("lm", layer) for layer in range(3)),
]
TOWERS = {
    "clip": None,
    "conv": CONV,
    "mirror": {**CONV, "mirror": True},
    "windows": {**CONV, "window": 16, "mirror": True},
}


def logprobs(model, bank, render, data=None, source=None):
    scorer = PackedScorer(Reader.of(model, source), render, generate=False)
    data = data or GridDataset(spec("composite"), bank, 0, "test", N)
    return np.array(scorer.score(data, np.arange(N), "image")["logprobs"])


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("site", EVERY, ids=str)
def test_no_change_is_no_change_and_a_large_one_is(lm, bank, table, tower, site):
    model = built(lm, table, TOWERS[tower], vision_layer=-1)
    _, render = rendered(model, bank, table)
    expected = logprobs(model, bank, render)
    shapes = []

    def same(states):
        shapes.append(states.shape)
        return states.clone()

    with changed(model, site, same):
        np.testing.assert_allclose(logprobs(model, bank, render), expected, atol=1e-5)
    assert shapes or site == Site("lm", 2)
    with changed(model, site, lambda states: states.flip(-1)):
        moved = logprobs(model, bank, render)
    # after the last block, nothing reads image positions
    assert (np.abs(moved - expected).max() > 1e-3) == (site != Site("lm", 2))
    np.testing.assert_array_equal(logprobs(model, bank, render), expected)


@pytest.mark.parametrize("site", EVERY, ids=str)
def test_a_failure_ends_the_change(lm, bank, table, site):
    model = built(lm, table)
    _, render = rendered(model, bank, table)
    expected = logprobs(model, bank, render)
    with pytest.raises(ZeroDivisionError), changed(model, site, lambda states: 0 * states):
        raise ZeroDivisionError
    np.testing.assert_array_equal(logprobs(model, bank, render), expected)
    assert layer_changes.get() == ()


@pytest.mark.parametrize("site", [Site("pixels"), Site("random", 1), Site("answer", 1)], ids=str)
def test_other_sites_are_refused(gpt2v, site):
    with pytest.raises(ValueError, match=f"states at {site} cannot be changed"):
        changed(gpt2v, site, torch.clone).__enter__()


@pytest.mark.parametrize("options", [{}, {"class_token": True}, {"pool": 2}])
def test_changed_features_are_as_if_they_were_fed(lm, bank, table, options):
    """A cell's patches are zeroed; the class token stays."""
    model = built(lm, table, **options)
    _, render = rendered(model, bank, table)
    own = model.geometry.span(2, 3, 16)
    patches = torch.from_numpy(own.patch[own.cell == 4])

    class Zeroed(ProjectedPatches):
        def features(self, pictures):
            features = super().features(pictures).clone()
            features[:, patches] = 0
            return features

    def zero(states):
        return states.index_fill(1, patches, 0)

    fed = logprobs(model, bank, render, source=Zeroed(model))
    for site in (Site("pre-projector"), Site("vision", 1)):  # vision_layer is -2
        with changed(model, site, zero):
            np.testing.assert_allclose(logprobs(model, bank, render), fed, atol=1e-5)
    assert np.abs(fed - logprobs(model, bank, render)).max() > 1e-3


def test_changed_tokens_are_as_if_they_were_projected(lm, bank, table):
    model = built(lm, table, class_token=True)
    batch, _ = rendered(model, bank, table)
    before = picture_states(model, batch.pixels, [Site("post-projector")])[Site("post-projector")]
    with changed(model, Site("post-projector"), lambda tokens: 2 * tokens):
        after = picture_states(model, batch.pixels, [Site("post-projector")])
        read = text_states(Reader.of(model), batch, [Site("lm", 0)], table)[Site("lm", 0)]
    torch.testing.assert_close(after[Site("post-projector")], 2 * before)
    own = batch.images.patch >= 0
    places = torch.from_numpy(batch.position_ids[batch.input_ids == table.image_id][own])
    words = lm.transformer.wpe(places).view_as(read)
    patch = torch.from_numpy(batch.images.patch[own]).view(N, -1, 1).expand_as(read)
    torch.testing.assert_close(read, 2 * before.gather(1, patch) + words)


def continued(lm, hidden, layer, change, images):
    """Hidden states (T, D) of the last layer, with changed ones at a layer, by plain blocks."""
    x = hidden[0][None]
    for number, block in enumerate(lm.transformer.h):
        if number == layer:
            x = x.clone()
            x[:, images] = change(x[:, images])
        x = block(x)
    return lm.transformer.ln_f(x)[0]


@pytest.mark.parametrize("layout", ["composite", "multi"])
@pytest.mark.parametrize("options", [{}, {"class_token": True}])
@pytest.mark.parametrize("layer", [0, 1])
def test_changed_layers_are_those_of_plain_blocks(lm, bank, table, layout, options, layer):
    model = built(lm, table, **options)
    batch, render = rendered(model, bank, table, layout, with_choices=True)

    def change(states):
        return states.flip(-1) * 0.5

    data = GridDataset(spec(layout), bank, 0, "test", N)
    sites = [Site("answer", 2), Site("lm", layer)]
    before = text_states(Reader.of(model), batch, sites, table)
    with changed(model, Site("lm", layer), change):
        scored = logprobs(model, bank, render, data)
        states = text_states(Reader.of(model), batch, sites, table)
    torch.testing.assert_close(states[sites[1]], change(before[sites[1]]))
    words = [table.tokens(f" {name}")[0] for name in bank.class_names]
    for number, (i, q) in enumerate(np.ndindex(N, 4)):
        hidden, ids = one_at_a_time(model, batch, bank, table, i, q)
        images = np.flatnonzero(np.array(ids) == table.image_id)
        images = images[batch.images.patch[batch.images.sample == i] >= 0]
        with torch.no_grad():
            expected = continued(model.language_model, hidden, layer, change, images)[-1]
            own = model.language_model.lm_head(expected).log_softmax(-1)[words]
        torch.testing.assert_close(states[sites[0]][i, q], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scored[number], own.numpy(), atol=1e-3)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_change_in_a_transformer_goes_through_its_later_blocks(lm, table, layer):
    model = built(lm, table, vision_layer=-1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    sites = [Site("vision", number) for number in range(3)]
    with torch.no_grad():
        x = model.normalise(pixels)
        states = model.vision_tower(x, output_hidden_states=True).hidden_states[layer].clone()
        states[:, 1:] = states[:, 1:].flip(1)
        for block in model.vision_tower.encoder.layers[layer:]:
            states = block(states, None)
    before = picture_states(model, pixels, sites)
    with changed(model, Site("vision", layer), lambda patches: patches.flip(1)):
        after = picture_states(model, pixels, sites)
    torch.testing.assert_close(after[sites[layer]], before[sites[layer]].flip(1))
    torch.testing.assert_close(after[sites[2]], states[:, 1:])


@pytest.mark.parametrize("name", ["conv", "mirror", "windows"])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_change_in_a_convolutional_tower_goes_through_its_later_layers(lm, table, name, layer):
    """By hand: each window alone, and its mirror image, with a mask of the whole picture."""
    model = built(lm, table, TOWERS[name], vision_layer=-1)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    size = model.config.vision_config.layer_patch_sizes[layer]
    side = 48 // size
    mask = torch.rand(side, side, generator=torch.Generator().manual_seed(0))

    tower, window = model.vision_tower, TOWERS[name].get("window", 48)

    def by_hand(x, mask):
        maps = tower._maps(x, False, True)[layer] * mask
        for own in tower.layers[layer:]:
            maps = own(maps, False)
        return maps

    expected = torch.zeros(2, 32, 12, 12)
    with torch.no_grad():
        x = model.normalise(pixels)
        for row, col in np.ndindex(48 // window, 48 // window):
            seen = x[..., row * window :, col * window :][..., :window, :window]
            n, m = window // size, window // 4
            own = mask[row * n : (row + 1) * n, col * n : (col + 1) * n]
            maps = by_hand(seen, own)
            if TOWERS[name].get("mirror"):
                maps = (maps + by_hand(seen.flip(-1), own.flip(-1)).flip(-1)) / 2
            expected[..., row * m : (row + 1) * m, col * m : (col + 1) * m] = maps
    with changed(model, Site("vision", layer), lambda patches: patches * mask.view(1, -1, 1)):
        for _ in range(2):  # the second time as the first
            features = picture_states(model, pixels, [Site("pre-projector")])
    torch.testing.assert_close(
        features[Site("pre-projector")], expected.flatten(2).mT, rtol=1e-4, atol=1e-5
    )


def test_only_the_named_model_is_changed_and_changes_add_up(lm, bank, table):
    model, other = built(lm, table), built(lm, table)
    _, render = rendered(model, bank, table)
    expected = logprobs(other, bank, render)
    site = Site("lm", 1)
    with changed(model, site, torch.sin), changed(model, site, torch.cos):
        twice = logprobs(model, bank, render)
        np.testing.assert_array_equal(logprobs(other, bank, render), expected)
    assert np.abs(twice - expected).max() > 1e-3
    with changed(model, site, lambda states: states.sin().cos()):
        np.testing.assert_allclose(logprobs(model, bank, render), twice, atol=1e-4)
