"""The convolutional tower: what it computes, its first weights, its statistics, its files."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, VisionTextDualEncoderModel

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.models import ConvConfig
from gpt2v.hardware.precision import autocast
from gpt2v.mm_train.train import build_gpt2v, settled_mm
from gpt2v.model.clip import embed_patches, new_clip
from gpt2v.model.conv import new_conv_tower
from gpt2v.model.encoders import load_encoder, parse_config
from gpt2v.model.files import load_pretrained
from gpt2v.model.flops import vision_flops
from gpt2v.model.gpt2v import GPT2vConfig, GPT2vModel

SHAPES = st.builds(
    ConvConfig,
    image_size=st.sampled_from([8, 16, 24]),
    widths=st.lists(st.sampled_from([8, 9, 24, 30]), min_size=1, max_size=3),
    depth=st.integers(1, 3),
    window=st.sampled_from([None, 8]),
)
TINY = {"name": "conv", "image_size": 48, "widths": [16, 32]}
ENCODER = {**helpers.TINY_ENCODER, "vision": TINY}


def pictures(n, side, seed=0):
    """Random pictures (n, 3, side, side) whose neighbouring pixels are alike, as in photographs."""
    x = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return 2 * x + x.roll(1, -1) + x.roll(1, -2) + x.mean(1, keepdim=True)


def random_tower(shape, seed=0):
    """A tower with a whitened stem, whose other weights are not those that one begins with."""
    torch.manual_seed(seed)
    tower = new_conv_tower(shape)
    tower.begin_pretraining(pictures(20, 16, seed))
    with torch.no_grad():
        for name, value in tower.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name != "stem":
                value.add_((0.3 if ".norm." in name else 0.03) * torch.randn(value.shape))
    return tower.eval()


def states_of(tower, x):
    with torch.no_grad():
        return tower(x, output_hidden_states=True).hidden_states


def correlated(x, kernels, padding):
    """Correlation of maps (P, I, H, H) with kernels (O, I, k, k), as one product of matrices."""
    side = x.shape[-1]
    columns = F.unfold(F.pad(x, padding), kernels.shape[-1])
    return (kernels.flatten(1) @ columns).unflatten(-1, (side, side))


def curve(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def by_hand(state, depth, x):
    """Every feature map (P, D, H, H), from the weights by name, in plain products and sums."""
    x = curve(correlated(x, state["stem"], (0, 1, 0, 1)))
    maps = [x]
    for i in range(sum(name.endswith("conv.weight") for name in state)):
        x = correlated(x, state[f"layers.{i}.conv.weight"], (1, 1, 1, 1))
        if i % depth == 0:
            rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
            x = torch.maximum(rows[..., ::2], rows[..., 1::2])
        mean, var, weight, bias = (
            state[f"layers.{i}.norm.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = curve((x - mean) / (var + 1e-5).sqrt() * weight + bias)
        maps.append(x)
    return maps


@settings(max_examples=15)
@given(SHAPES.filter(lambda shape: shape.window is None), st.integers(0, 99))
def test_every_hidden_state_is_what_the_weights_say(shape, seed):
    tower = random_tower(shape, seed)
    x = pictures(2, shape.image_size, seed + 1)
    states = states_of(tower, x)
    sizes = tower.config.layer_patch_sizes
    assert len(states) == len(sizes) == tower.config.num_hidden_layers + 1
    assert sizes[-1] == tower.config.patch_size == shape.patch_size
    maps = by_hand(tower.state_dict(), shape.depth, x)
    for state, size, expected in zip(states, sizes, maps, strict=True):
        side = shape.image_size // size
        assert state.shape == (2, side**2, expected.shape[1])
        flat = torch.stack(
            [expected[:, :, row, column] for row in range(side) for column in range(side)], dim=1
        )
        torch.testing.assert_close(state, flat, rtol=1e-4, atol=1e-4)
    output = tower(x)
    assert output.hidden_states is None
    torch.testing.assert_close(output.last_hidden_state, states[-1], rtol=0, atol=0)
    torch.testing.assert_close(output.pooler_output, states[-1].mean(1))


def field(patch, depth, n_blocks):
    """First and last pixel, in one direction, that a patch can see."""
    first, last = patch, patch
    for _ in range(n_blocks):
        first, last = first - (depth - 1), last + depth - 1
        first, last = 2 * first - 1, 2 * last + 2  # of the pooled squares, and their neighbours
    return first, last + 1  # the stem's squares


@settings(max_examples=12)
@given(st.integers(1, 2), st.booleans(), st.booleans(), st.integers(0, 99))
def test_patches_are_in_raster_order_and_see_their_surroundings(depth, bottom, right, seed):
    shape = ConvConfig(image_size=64, widths=[8, 12], depth=depth)
    tower, side = random_tower(shape, seed), 16
    x = pictures(1, 64, seed)
    other = x.clone()
    row, column = 62 * bottom, 62 * right
    other[:, :, row : row + 2, column : column + 2] += 5
    before, after = states_of(tower, x)[-1], states_of(tower, other)[-1]
    changed = (before - after).abs().amax(-1).reshape(side, side) > 0
    assert changed[(side - 1) * bottom, (side - 1) * right]
    for i, j in changed.nonzero().tolist():
        for patch, pixel in ((i, row), (j, column)):
            first, last = field(patch, depth, 2)
            assert first <= pixel + 1
            assert pixel <= last
    assert changed.sum() < side**2 / 4


def test_pictures_that_no_patch_fits_are_refused():
    tower = new_conv_tower(ConvConfig(image_size=16, widths=[8, 8]))
    with pytest.raises(ValueError, match="of 18 pixels cannot be cut into 4-pixel patches"):
        tower(torch.zeros(1, 3, 18, 18))


# ---- mirrored views ------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 8])
def test_mirrored_features_are_the_mean_of_both_views_outside_of_pretraining(window):
    shape = {"image_size": 16, "widths": [8, 8], "window": window}
    plain = new_conv_tower(ConvConfig(**shape))
    both = new_conv_tower(ConvConfig(**shape, mirror=True))
    plain.begin_pretraining(pictures(9, 16, 0))
    both.begin_pretraining(pictures(9, 16, 0))
    both.load_state_dict(plain.state_dict())
    x = pictures(3, 16, 1)
    # Each window is mirrored where it is.
    mirrored = x.unflatten(-1, (-1, window or 16)).flip(-1).flatten(-2)
    for tower in (plain, both):
        tower.eval()
    with torch.no_grad():
        own, other, mean = (
            tower(values, output_hidden_states=True).hidden_states
            for tower, values in ((plain, x), (plain, mirrored), (both, x))
        )
        again = both(mirrored).last_hidden_state
    for patch, *states in zip(plain.config.layer_patch_sizes, own, other, mean, strict=True):
        side, wide = 16 // patch, (window or 16) // patch
        back = states[1].unflatten(1, (side, -1, wide)).flip(3).flatten(1, 3)
        torch.testing.assert_close(states[2], (states[0] + back) / 2)
    back = again.unflatten(1, (4, -1, (window or 16) // 4)).flip(3).flatten(1, 3)
    torch.testing.assert_close(mean[-1], back)  # so a mirror image has mirrored features
    both.train()
    plain.train()
    torch.testing.assert_close(both(x).last_hidden_state, plain(x).last_hidden_state)
    both.is_pretraining = False
    assert not torch.equal(both(x).last_hidden_state, plain(x).last_hidden_state)


# ---- windows -------------------------------------------------------------------------------------


WINDOWED = ConvConfig(image_size=48, widths=[8, 12, 16], window=16)


def cut(x, window):
    """The windows of one picture (1, 3, S, S) as pictures (n * n, 3, window, window)."""
    rows = x[0].split(window, dim=1)
    return torch.stack([square for row in rows for square in row.split(window, dim=2)])


@settings(max_examples=15)
@given(st.sampled_from([8, 16, 24, 48]), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_windows_are_seen_as_separate_pictures(window, depth, doubled, seed):
    options = {**WINDOWED.model_dump(), "depth": depth}
    tower = random_tower(ConvConfig(**{**options, "window": window}), seed)
    plain = new_conv_tower(ConvConfig(**{**options, "window": None})).eval()
    plain.load_state_dict(tower.state_dict())
    side = 96 if doubled else 48  # a tower takes any multiple of its window
    x = pictures(1, side, seed)
    n = side // window
    whole, separate = states_of(tower, x), states_of(plain, cut(x, window))
    assert len(whole) == len(separate) == 3 * depth + 1
    for joined, squares, patch in zip(whole, separate, tower.config.layer_patch_sizes, strict=True):
        across, within = side // patch, window // patch
        assert joined.shape[:2] == (1, across**2)
        raster = joined.reshape(across, across, -1)
        for number, square in enumerate(squares):
            top, left = (within * at for at in divmod(number, n))
            here = raster[top : top + within, left : left + within].flatten(0, 1)
            torch.testing.assert_close(here, square, rtol=1e-4, atol=1e-5)
    output = tower(x)
    torch.testing.assert_close(output.last_hidden_state, whole[-1], rtol=0, atol=0)
    torch.testing.assert_close(output.pooler_output, whole[-1].mean(1))


@settings(max_examples=10)
@given(st.integers(0, 47), st.integers(0, 47), st.integers(0, 99))
def test_a_pixel_reaches_the_patches_of_its_window_alone(row, column, seed):
    tower = random_tower(WINDOWED, seed)
    plain = new_conv_tower(WINDOWED.model_copy(update={"window": None})).eval()
    plain.load_state_dict(tower.state_dict())
    x = pictures(1, 48, seed)
    other = x.clone()
    other[:, :, row, column] += 9

    def changed(of):
        """The windows with patches that are not as before, (3, 3)."""
        difference = (states_of(of, x)[-1] - states_of(of, other)[-1]).abs().amax(-1)
        return (difference > 1e-6).reshape(3, 2, 3, 2).any(3).any(1)

    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[row // 16, column // 16] = True
    assert torch.equal(changed(tower), expected)
    assert changed(plain).sum() > 1  # it sees what is around a cell


def test_pictures_that_windows_do_not_fill_are_refused():
    with pytest.raises(ValueError, match="of 24 pixels cannot be cut into 16-pixel windows"):
        new_conv_tower(WINDOWED)(torch.zeros(1, 3, 24, 24))


def test_a_tower_with_windows_is_resampled(tmp_path):
    tower = random_tower(WINDOWED)
    tower.save_pretrained(tmp_path)
    larger = load_encoder(str(tmp_path), image_size=64).tower.eval()
    assert equal(larger, tower)
    assert (larger.config.image_size, larger.config.window) == (64, 16)
    x = pictures(1, 64)
    before, after = states_of(tower, x[..., :48, :48])[-1], states_of(larger, x)[-1]
    near = after.reshape(8, 8, -1)[:6, :6]  # also beside what was cut off
    torch.testing.assert_close(near.flatten(0, 1), before[0], rtol=1e-4, atol=1e-5)


# ---- the first weights ---------------------------------------------------------------------------


@given(st.integers(0, 99))
def test_the_stem_decorrelates_the_pictures_it_is_made_from(seed):
    torch.manual_seed(seed)
    tower = new_conv_tower(ConvConfig(image_size=16, widths=[8]))
    x = pictures(40, 16, seed)
    tower.begin_pretraining(x)
    whole = F.conv2d(x, tower.stem).transpose(0, 1).flatten(1)
    for half in whole[:12], whole[12:]:
        moments = half @ half.T / half.shape[1]
        torch.testing.assert_close(moments, torch.eye(12), rtol=0, atol=0.02)
    torch.testing.assert_close(whole[12:], -whole[:12], rtol=0, atol=0)


def test_equal_pixels_have_a_stem_too():
    tower = new_conv_tower(ConvConfig(image_size=16, widths=[8]))
    for level in (0.0, 1.7):
        tower.begin_pretraining(torch.full((2, 3, 16, 16), level))
        assert tower.stem.isfinite().all()
        assert tower.train()(torch.full((2, 3, 16, 16), level)).last_hidden_state.isfinite().all()


@settings(max_examples=15)
@given(SHAPES)
def test_convolutions_begin_with_a_copy_of_their_input(shape):
    tower = new_conv_tower(shape)
    widths = [24, *shape.widths]
    for i, layer in enumerate(tower.layers):
        before, after = list(pairwise(widths))[i // shape.depth]
        before = after if i % shape.depth else before
        assert layer.conv.weight.shape == (after, before, 3, 3)
        n = min(before, after)
        x = torch.randn(2, before, 5, 5)
        torch.testing.assert_close(layer.conv(x)[:, :n], x[:, :n])
        rest = layer.conv.weight[n:]
        assert not rest.numel() or rest.std() > 0
        assert layer.norm.running_var.eq(1).all()
    same = torch.equal(new_conv_tower(shape).layers[0].conv.weight, tower.layers[0].conv.weight)
    assert same == (shape.widths[0] <= 24)  # the rest is random


# ---- statistics of batches -----------------------------------------------------------------------


def statistics(tower):
    return {name: b.clone() for name, b in tower.named_buffers() if "running" in name}


def test_only_pretraining_uses_and_keeps_statistics_of_batches():
    tower = random_tower(ConvConfig(image_size=16, widths=[8, 8]))
    x = pictures(4, 16)

    def depends_on_others():
        whole, alone = tower(x).last_hidden_state[:1], tower(x[:1]).last_hidden_state
        return not torch.allclose(whole, alone, atol=1e-5)

    before = statistics(tower)
    assert not depends_on_others()
    assert all(torch.equal(before[name], b) for name, b in statistics(tower).items())
    tower.train()
    assert depends_on_others()
    assert all(not torch.equal(before[name], b) for name, b in statistics(tower).items())
    again = type(tower)(tower.config)
    again.load_state_dict(tower.state_dict())
    tower, before = again.train(), statistics(tower)
    assert not depends_on_others()
    optimizer = torch.optim.SGD(tower.parameters(), 0.1)
    tower(x).last_hidden_state.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.parameters())
    optimizer.step()
    assert all(torch.equal(before[name], b) for name, b in statistics(tower).items())


def test_the_statistics_follow_the_batches():
    tower = random_tower(ConvConfig(image_size=16, widths=[8])).train()
    seen = {}
    tower.layers[0].norm.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    before = statistics(tower)
    tower(pictures(6, 16))
    x = seen["x"].transpose(0, 1).flatten(1)
    for name, of_batch in (("mean", x.mean(1)), ("var", x.var(1))):
        name = f"layers.0.norm.running_{name}"
        expected = 0.9 * before[name] + 0.1 * of_batch
        torch.testing.assert_close(statistics(tower)[name], expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("train", [False, True])
def test_half_precision_is_near(precision, train):
    tower = random_tower(ConvConfig(image_size=16, widths=[8, 8])).train(train)
    x = pictures(8, 16)
    exact = copy.deepcopy(tower)(x).last_hidden_state
    with autocast(precision, torch.device("cpu")):
        near = tower(x).last_hidden_state.float()
    assert F.cosine_similarity(near.flatten(1), exact.flatten(1)).min() > 0.998
    assert {b.dtype for b in tower.buffers()} == {torch.float32}


# ---- files ---------------------------------------------------------------------------------------


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def clip(tokenizer):
    torch.manual_seed(0)
    clip = new_clip(EncoderConfig.model_validate(ENCODER), tokenizer)
    clip.vision_model.load_state_dict(random_tower(ConvConfig(**tower_options())).state_dict())
    return clip.eval()


def tower_options(**changes):
    return {**{key: value for key, value in TINY.items() if key != "name"}, **changes}


@pytest.fixture(scope="module")
def path(clip, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return str(helpers.save_checkpoint(folder, 1, clip, tokenizer))


@settings(max_examples=5)
@given(SHAPES, st.integers(0, 99))
def test_a_tower_alone_is_loaded_bit_for_bit(tmp_path_factory, shape, seed):
    tower, folder = random_tower(shape, seed), tmp_path_factory.mktemp("tower")
    tower.save_pretrained(folder)
    loaded = load_encoder(str(folder)).tower
    assert equal(loaded, tower)
    assert equal(AutoModel.from_pretrained(folder), tower)
    assert loaded.config.to_dict().items() >= shape.model_dump().items()
    assert parse_config(loaded.config.to_dict()).to_dict() == loaded.config.to_dict()


def test_an_encoder_is_a_stock_dual_encoder_with_this_tower(clip, path):
    assert type(clip) is VisionTextDualEncoderModel
    assert equal(VisionTextDualEncoderModel.from_pretrained(path), clip)
    encoder = load_encoder(path)
    assert equal(encoder.tower, clip.vision_model)
    x = pictures(2, 48)
    with torch.no_grad():
        whole, patches = embed_patches(clip, x)
        stock = F.normalize(clip.get_image_features(x).pooler_output, dim=-1)
        features = encoder.tower.eval()(x).last_hidden_state
    torch.testing.assert_close(whole, stock, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches, clip.visual_projection(features), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [None, "conv"])
@pytest.mark.parametrize("layer", [-1, -2, 3])
def test_a_gpt2v_reads_the_patches(clip, path, lm_run, tokenizer, tmp_path, family, layer):
    config = helpers.mm_config(
        lm_run, encoder=path, vision={}, encoder_family=family, vision_layer=layer
    )
    config = settled_mm(config)
    assert config.vision.plain(defaults=False) == TINY
    model, _ = build_gpt2v(config)
    saved = str(helpers.save_checkpoint(tmp_path, 1, model, tokenizer))
    again = load_pretrained(GPT2vModel, saved, "model").train()
    assert equal(again, model)
    assert getattr(again.config.vision_config, "encoder_family", None) == family
    read = GPT2vConfig.from_pretrained(saved).vision_config
    assert type(read) is type(clip.vision_model.config)
    assert read.to_dict() == again.config.vision_config.to_dict()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    states = states_of(clip.vision_model, again.normalise(pixels))
    features = again.vision_features(again.normalise(pixels))
    torch.testing.assert_close(features, states[layer], rtol=1e-4, atol=1e-5)
    alone = again.vision_features(again.normalise(pixels[:1]))
    torch.testing.assert_close(features[:1], alone, rtol=1e-4, atol=1e-5)


def test_larger_pictures_need_no_other_weights(clip, path):
    larger = load_encoder(path, image_size=64).tower.eval()
    assert equal(larger, clip.vision_model)
    assert (larger.config.image_size, larger.config.patch_size) == (64, 4)
    x = pictures(1, 64)
    near = states_of(larger, x)[-1].reshape(16, 16, -1)[:6, :6]
    crop = states_of(clip.vision_model, x[..., :48, :48])[-1].reshape(12, 12, -1)[:6, :6]
    torch.testing.assert_close(near, crop, rtol=1e-4, atol=1e-5)  # far from what was cut off


@settings(max_examples=10)
@given(SHAPES, st.integers(1, 3))
def test_operations_are_those_of_the_convolutions(shape, n):
    tower = new_conv_tower(shape)
    with FlopCounterMode(display=False) as counter:
        tower(torch.zeros(n, 3, shape.image_size, shape.image_size))
    assert vision_flops(tower, n) == 3 * counter.get_total_flops()
