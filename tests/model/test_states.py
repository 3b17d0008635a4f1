"""States at sites equal transformers' own hidden states, of one question at a time.

Shapes: T token positions, D width of a hidden state.
"""

import copy

import numpy as np
import pytest
import torch

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.grids import GridConfig
from gpt2v.config.sites import Site
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.asked import question_columns
from gpt2v.data.render.batches import Renderer
from gpt2v.hardware.attention import WRITTEN_OUT
from gpt2v.model.encoders import load_encoder, new_encoder
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import score
from gpt2v.model.states import (
    ends_of_words,
    picture_states,
    pixels_of_patches,
    random_tower,
    text_states,
)
from gpt2v.registry import VISION_TOWERS

N = 3
CONV = {"name": "conv", "image_size": 48, "widths": [8, 32], "depth": 2}
POOLED = {"pool": 2, "projector": "pixel-shuffle"}


def spec(layout, **more):
    picture = {"layout": layout}
    return GridConfig(rows=2, cols=3, questions=4, modality="image", picture=picture, **more)


def built(lm, table, tower=None, attention="sdpa", **options):
    """A random GPT-2v whose answers depend clearly on what it is shown."""
    torch.manual_seed(3)
    if isinstance(tower, str):
        encoder = load_encoder(tower)
    else:
        encoder = new_encoder(
            choose(VISION_TOWERS, tower or {**helpers.TINY_TOWER, "image_size": 48})
        )
        helpers.louder(encoder.tower)
    options = {"vision_layer": -2, "image_token_id": table.image_id, **options}
    model = GPT2vModel.from_parts(encoder, lm, **options).eval()
    model.language_model.set_attn_implementation(attention)
    return model


def rendered(model, bank, table, layout="composite", **options):
    own = spec(layout, **options.pop("spec", {}))
    render = Renderer(bank, table, model.token_geometry)
    samples = draw_samples(own, bank, 0, "test", np.arange(N))
    return render(samples, render.view(own, "image"), **options), render


def one_at_a_time(model, batch, bank, table, i, q):
    """All hidden states (T, D) of a plain pass over one question, and its ids up to ` A:`."""
    own = batch.images.sample == i
    picture, patch = batch.images.picture[own], batch.images.patch[own]
    first = picture.min()
    n_rows = 1 if picture.max() == first else batch.samples.classes.shape[1]
    lines = ("<image>" * (len(patch) // n_rows) + "\n") * n_rows
    text = helpers.prefix(batch.samples, i, bank.class_names, lines)
    ids = table.tokens(text + helpers.question(batch.samples, i, q))
    pictures = torch.from_numpy(batch.pixels[first : picture.max() + 1])
    token = np.where(patch < 0, model.token_geometry.n_patches, patch)
    with torch.no_grad():
        hidden = model(
            torch.tensor([ids]),
            model.normalise(pictures.numpy()),
            image_tokens=torch.from_numpy(np.stack([picture - first, token], axis=1)),
            output_hidden_states=True,
        ).hidden_states
    return [states[0] for states in hidden], ids


@pytest.mark.parametrize("layout", ["composite", "multi"])
@pytest.mark.parametrize(
    ("attention", "with_choices"),
    [("sdpa", False), ("sdpa", True), ("eager", True), (WRITTEN_OUT, False)],
)
@pytest.mark.parametrize("options", [{}, {"class_token": True}, POOLED])
def test_states_of_the_language_model_are_those_of_a_plain_pass(
    lm, long_bank, table, layout, attention, with_choices, options
):
    model = built(lm, table, attention=attention, **options)
    batch, _ = rendered(model, long_bank, table, layout, with_choices=with_choices)
    sites = [Site(name, layer) for name in ("lm", "question", "answer") for layer in range(3)]
    states = text_states(Reader.of(model), batch, sites, table)
    assert list(states) == sites
    for i, q in np.ndindex(N, 4):
        hidden, ids = one_at_a_time(model, batch, long_bank, table, i, q)
        images = np.flatnonzero(np.array(ids) == table.image_id)
        if "class_token" in options:
            own = batch.images.sample == i
            images = images[batch.images.patch[own] >= 0]
        assert table.tokenizer.decode(ids[-2:]) == " A:"
        for layer, expected in enumerate(hidden):
            close = {"rtol": 1e-4, "atol": 1e-4}
            torch.testing.assert_close(states[Site("lm", layer)][i], expected[images], **close)
            torch.testing.assert_close(states[Site("answer", layer)][i, q], expected[-1], **close)
            torch.testing.assert_close(states[Site("question", layer)][i, q], expected[-3], **close)


@pytest.mark.parametrize("mode", ["independent", "chained"])
def test_questions_end_where_their_words_do(lm, bank, table, mode):
    """Of all wordings, packed as a tree or one after the other."""
    model = built(lm, table)
    more = {"instructions": {"lookup": 1, "neighbour": 1}, "augment": {"paraphrase": True}}
    batch, _ = rendered(model, bank, table, spec=more, with_choices=True, mode=mode)
    asked = question_columns(batch.samples, bank.class_names, table)["question"]
    at = ends_of_words(batch, table)
    assert len(asked) == at.size
    for k, (i, q) in enumerate(np.ndindex(at.shape)):
        path = [at[i, q]]  # back to the beginning of the question's words
        while (
            len(table.tokenizer.decode(read := batch.input_ids[i, path[::-1]])) < len(asked[k]) - 3
        ):
            before = batch.position_ids[i] == batch.position_ids[i, path[-1]] - 1
            seen = batch.sees[batch.segments[i, path[-1]], batch.segments[i]] & before
            path.append(int(np.flatnonzero(seen & (batch.segments[i] >= 0))[0]))
        assert table.tokenizer.decode(read) == asked[k].removesuffix(" A:")


def test_answers_are_what_the_scorer_scores(gpt2v, bank, table):
    """The head on the last state of the answer's position gives the scorer's log-probabilities."""
    batch, render = rendered(gpt2v, bank, table, with_choices=True)
    (states,) = text_states(Reader.of(gpt2v), batch, [Site("answer", 2)], table).values()
    with torch.no_grad():
        logprobs = gpt2v.language_model.lm_head(states).log_softmax(-1)
    records = score(Reader.of(gpt2v), batch, render, generate=False)
    words = [table.tokens(f" {name}") for name in records["choices"][0]]
    assert {len(tokens) for tokens in words} == {1}
    own = logprobs[..., [token for (token,) in words]].flatten(0, 1)
    np.testing.assert_allclose(own.numpy(), records["logprobs"], atol=1e-4)


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2", "conv", "conv-in-windows"])
@pytest.mark.parametrize("options", [{}, {"class_token": True}, {"pool": 2}])
def test_states_of_pictures_are_the_towers(lm, table, tmp_path, family, options):
    if family.startswith("conv"):
        more = {"window": 16, "mirror": True} if family.endswith("windows") else {}
        tower = {**CONV, **more}
        if "class_token" in options:
            pytest.skip("it has no class token")
    else:
        tower = helpers.tower_checkpoint(family, tmp_path)
        if "class_token" in options and family == "siglip":
            pytest.skip("it has no class token")
    model = built(lm, table, tower, vision_layer=-1, **options)
    side, depth = model.geometry.image_size, model.config.vision_config.num_hidden_layers
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    layers = [Site("vision", layer) for layer in range(depth + 1)]
    names = [Site(name) for name in ("post-projector", "pre-projector")]
    states = picture_states(model, pixels, [*layers, *names])
    first = 1 if family in ("clip", "dinov2") else 0
    with torch.no_grad():
        x = model.normalise(pixels)
        hidden = model.vision_tower(x, output_hidden_states=True).hidden_states
        tokens = model.vision_tokens(x)
    sizes = getattr(model.config.vision_config, "layer_patch_sizes", [8] * (depth + 1))
    for site, expected, size in zip(layers, hidden, sizes, strict=True):
        assert states[site].shape == (2, (side // size) ** 2, expected.shape[-1])
        torch.testing.assert_close(states[site], expected[:, first:], rtol=0, atol=0)
    torch.testing.assert_close(states[Site("pre-projector")], states[layers[-1]])
    n_tokens = tokens.shape[1] - options.get("class_token", False)
    torch.testing.assert_close(states[Site("post-projector")], tokens[:, :n_tokens])


def test_vision_sites_before_the_projector_are_read_in_one_pass(gpt2v):
    calls = []
    hook = gpt2v.vision_tower.register_forward_hook(lambda *call: calls.append(1))
    pixels = np.zeros((2, 48, 48, 3), np.uint8)
    sites = [Site("vision", 1), Site("post-projector"), Site("pre-projector"), Site("vision", 2)]
    assert list(picture_states(gpt2v, pixels, sites)) == sites
    hook.remove()
    assert len(calls) == 1
    assert not gpt2v.vision_tower._forward_hooks


@pytest.mark.parametrize(("size", "kept"), [(4, 4), (8, 8), (14, 8), (16, 8)])
def test_pixels_are_those_of_each_patch(size, kept):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3 * size + 2, 3 * size + 2, 3), np.uint8)
    patches = pixels_of_patches(pixels, size)
    assert patches.shape == (2, 9, kept * kept * 3)
    for row, col in np.ndindex(3, 3):
        own = pixels[:, row * size :, col * size :][:, :size, :size] / 255
        if size % kept:
            np.testing.assert_allclose(
                patches[:, 3 * row + col].mean(1), own.mean((1, 2, 3)), atol=0.05
            )
            continue
        step = size // kept
        means = own.reshape(2, kept, step, kept, step, 3).mean((2, 4))
        np.testing.assert_allclose(patches[:, 3 * row + col], means.reshape(2, -1), atol=1e-6)


@pytest.mark.parametrize("tower", [None, CONV])
def test_a_random_tower_is_the_same_for_a_seed_and_has_other_weights(lm, table, tower):
    model = built(lm, table, tower, vision_layer=-1)
    before = torch.random.get_rng_state()
    one, same, other = (random_tower(model, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    last = model.config.vision_config.num_hidden_layers
    site = Site("random", last)
    first, again, third = (
        picture_states(model, pixels, [site], tower)[site] for tower in (one, same, other)
    )
    trained = picture_states(model, pixels, [Site("vision", last)])[Site("vision", last)]
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert first.shape == trained.shape
    for different in (third, trained):
        assert not torch.allclose(first, different, atol=1e-3)
    assert copy.deepcopy(model.vision_tower.config).to_dict() == one.config.to_dict()
