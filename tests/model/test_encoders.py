"""Vision towers of every family, loaded from files like those of the hub, and the projectors."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
)

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.load import validate
from gpt2v.config.training import MMConfig
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.render.views import ImageView
from gpt2v.errors import UserError
from gpt2v.mm_train.train import build_gpt2v
from gpt2v.model.clip import new_clip
from gpt2v.model.encoders import load_encoder
from gpt2v.model.files import load_gpt2, load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.registry import PROJECTORS

MEAN, STD = helpers.TOWER_MEAN, helpers.TOWER_STD
N_CLASS = {"clip": 1, "siglip": 0, "dinov2": 1}
DEFAULT_MEAN = {"clip": 0.48145466, "siglip": 0.5, "dinov2": 0.485}


def config(encoder, lm_path, **more):
    spec = {"rows": 2, "cols": 2, "modality": "image"}
    return MMConfig.model_validate(
        {
            "lm": lm_path,
            "encoder": encoder,
            "data": {"stages": [{"steps": 1, "mix": [spec]}]},
            "train": {"groups": [{"name": "all", "pattern": ""}]},
            **more,
        }
    )


@pytest.fixture(scope="module")
def lm_path(lm, tokenizer, tmp_path_factory):
    return str(helpers.save_checkpoint(tmp_path_factory.mktemp("lm"), 1, lm, tokenizer))


@pytest.fixture(scope="module", params=["clip", "siglip", "dinov2"])
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, helpers.tower_checkpoint(request.param, folder)


@pytest.mark.parametrize("layer", [-1, -2, 1])
def test_features_are_the_named_hidden_states_without_or_with_the_class_token(
    family, layer, lm_path
):
    name, path = family
    plain = AutoModel.from_pretrained(path)
    plain = getattr(plain, "vision_model", plain).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    values = torch.from_numpy((pixels / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        states = plain(values, output_hidden_states=True).hidden_states[layer]
    n = N_CLASS[name]
    for class_token in [False, True][: n + 1]:
        model, _ = build_gpt2v(config(path, lm_path, vision_layer=layer, class_token=class_token))
        model.eval()
        with torch.no_grad():
            features = model.vision_features(model.normalise(pixels))
            patches = helpers.patch_features(model, model.normalise(pixels))
        expected = torch.cat([states[:, n:], states[:, : n * class_token]], dim=1)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(patches, states[:, n:], rtol=1e-4, atol=1e-4)


def test_positions_for_another_size_are_what_transformers_interpolates(family):
    name, path = family
    pixels = torch.randn(2, 3, 48, 48)
    plain = AutoModel.from_pretrained(path)
    plain = getattr(plain, "vision_model", plain).eval()
    how = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    tower = load_encoder(path, image_size=48).tower.eval()
    with torch.no_grad():
        expected = plain(pixels, output_hidden_states=True, **how).hidden_states[-1]
        hidden = tower(pixels, output_hidden_states=True).hidden_states[-1]
    assert tower.config.image_size == 48
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)


def test_the_normalisation_within_a_saved_processor_is_read(tmp_path):
    """transformers 5 writes one file for the whole processor, and none for its image processor."""
    path = helpers.tower_checkpoint("clip", tmp_path, processor=False)
    values = {"image_processor": {"image_mean": MEAN, "image_std": STD}}
    (tmp_path / "processor_config.json").write_text(json.dumps(values))
    assert load_encoder(path).mean == tuple(MEAN)


def test_weights_saved_in_half_precision_are_trained_in_fp32(tokenizer, lm, tmp_path):
    half = copy.deepcopy(lm).to(torch.bfloat16)
    path = helpers.save_checkpoint(tmp_path, 1, half, tokenizer)
    loaded, _ = load_gpt2(str(path), "lm")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.config.dtype == torch.float32


def test_placeholders_must_be_as_many_as_vision_tokens(gpt2v):
    image = gpt2v.config.image_token_id
    pixels = torch.zeros(1, 3, 48, 48)
    assert gpt2v(torch.tensor([[image] * 36 + [5]]), pixels).logits.shape[1] == 37
    for ids, values in (([image] * 35 + [5], pixels), ([image, 5], None), ([5], pixels)):
        with pytest.raises(ValueError, match="image tokens stand for"):
            gpt2v(torch.tensor([ids]), values)


@pytest.mark.parametrize("name", list(N_CLASS))
def test_without_a_processor_the_familys_normalisation_is_used(name, tmp_path):
    assert (
        load_encoder(helpers.tower_checkpoint(name, tmp_path, processor=False)).mean[0]
        == DEFAULT_MEAN[name]
    )


def test_a_saved_gpt2v_of_each_family_is_loaded_unchanged(family, lm_path, tokenizer, tmp_path):
    name, path = family
    model, _ = build_gpt2v(config(path, lm_path, image_size=64, class_token=bool(N_CLASS[name])))
    saved = str(helpers.save_checkpoint(tmp_path, 1, model, tokenizer))
    again = load_pretrained(GPT2vModel, saved, "model").eval()
    assert again.config.image_mean == MEAN
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with torch.no_grad():
        expected = model.eval().vision_tokens(model.normalise(pixels))
        torch.testing.assert_close(
            again.vision_tokens(again.normalise(pixels)), expected, rtol=0, atol=0
        )


# ---- the class token in a batch ------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["composite", "multi"])
def test_the_class_token_comes_before_its_pictures_patches(layout, bank, table, lm_path, tmp_path):
    model, _ = build_gpt2v(
        config(helpers.tower_checkpoint("clip", tmp_path), lm_path, class_token=True, pool=2)
    )
    model.eval()
    picture = {"layout": layout, "resize": True}
    spec = GridConfig.model_validate(
        {"rows": 2, "cols": 2, "modality": "image", "picture": picture}
    )
    span = model.token_geometry.span(2, 2, bank.size, spec.picture)
    n_pictures = 4 if layout == "multi" else 1
    assert len(span) == n_pictures * (4 + 1)
    assert (span.patch[::5] == -1).all()
    assert (span.patch.reshape(-1, 5)[:, 1:] == range(4)).all()
    batch = Renderer(bank, table, PictureGeometry(32, 8))(
        draw_samples(spec, bank, 0, "test", np.arange(3)), ImageView(span, picture=spec.picture)
    )
    reader = Reader.of(model)
    with torch.no_grad():
        tokens = reader.source(batch).reshape(3 * n_pictures, 5, -1)
        features = model.vision_features(model.normalise(batch.pixels))
        words = model.get_input_embeddings().weight
        expected = model.projector.each(features[:, -1], words)
    torch.testing.assert_close(tokens[:, 0], expected)


# ---- projectors ----------------------------------------------------------------------------------


def made(name, pool):
    torch.manual_seed(0)
    return PROJECTORS[name].load()(6, 8, pool)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("name", list(PROJECTORS))
def test_a_vision_token_depends_on_its_own_region_alone(name, pool):
    projector, words = made(name, pool), torch.randn(11, 8)
    x = torch.randn(2, 16, 6, requires_grad=True)
    out = projector(x, words)
    assert out.shape == (2, 16 // pool**2, 8)
    out[0, 1].square().sum().backward()
    moved = x.grad.abs().sum(-1) > 0
    region = {1: [1], 2: [2, 3, 6, 7]}[pool]
    assert moved.nonzero().tolist() == [[0, p] for p in region]


def test_averaging_before_and_after_the_mlp_differ_and_joining_keeps_the_order():
    words = torch.randn(11, 8)
    x = torch.randn(2, 16, 6)
    mlp, average = made("mlp", 2), made("average", 2)
    average.load_state_dict(mlp.state_dict())
    first = x.reshape(2, 4, 4, 6)[:, :2, :2].reshape(2, 4, 6)
    expected = mlp.each(first, words).mean(1)
    torch.testing.assert_close(average(x, words)[:, 0], expected)
    torch.testing.assert_close(mlp(x, words)[:, 0], mlp.each(first.mean(1), words))
    joined = made("pixel-shuffle", 2)
    expected = joined.each(first.reshape(2, 24), words)
    torch.testing.assert_close(joined(x, words)[:, 0], expected)


def test_convex_tokens_lie_among_the_words():
    """They are in the convex hull of the words: between its extremes in every direction."""
    words = torch.randn(11, 8)
    tokens = made("convex", 1)(10 * torch.randn(2, 16, 6), words)
    directions = torch.randn(8, 200)
    seen, allowed = tokens @ directions, words @ directions
    assert (seen <= allowed.max(0).values + 1e-5).all()
    assert (seen >= allowed.min(0).values - 1e-5).all()
    assert tokens.flatten(0, 1).std(0).min() > 0.05  # and they are not all equal


# ---- refused settings ----------------------------------------------------------------------------


def refused(line, *args, **more):
    with pytest.raises(UserError) as caught:
        build_gpt2v(config(*args, **more))
    assert re.search(line, str(caught.value)), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_does_not_fit_an_encoder_is_refused(lm_path, tmp_path):
    clip = helpers.tower_checkpoint("clip", tmp_path / "clip")
    siglip = helpers.tower_checkpoint("siglip", tmp_path / "siglip")
    BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path / "bert")
    says = "encoder: .*a bert checkpoint; expected CLIP, convolutional, DINOv2"
    refused(says, str(tmp_path / "bert"), lm_path)
    refused("encoder: .*a gpt2 checkpoint", lm_path, lm_path)
    refused("lm: .*cannot be loaded as GPT2LMHeadModel", clip, clip)
    refused("image_size: 44 must be a multiple of .* 8-pixel", clip, lm_path, image_size=44)
    refused("vision_layer: 4 must lie in -4..3", clip, lm_path, vision_layer=4)
    refused("pool: 3 must divide the 4 patches", clip, lm_path, pool=3)
    refused("class_token: .* has none", siglip, lm_path, class_token=True)
    more = {"class_token": True, "projector": "pixel-shuffle", "pool": 2}
    refused("class_token: pixel-shuffle joins", clip, lm_path, **more)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "clip", other)
    values = json.loads((other / "config.json").read_text())
    values["vision_config"]["image_size"] = 40
    (other / "config.json").write_text(json.dumps(values))
    refused(
        r"position_embedding.weight has shape \[17, 16\] .* but \[26, 16\]", str(other), lm_path
    )
    (tmp_path / "clip" / "preprocessor_config.json").write_text('{"image_mean": [1]}')
    refused("preprocessor_config.json: needs image_mean and image_std", clip, lm_path)


def with_sizes(path, **values):
    """Write values into the vision tower's part of config.json."""
    whole = json.loads((path / "config.json").read_text())
    whole.get("vision_config", whole).update(values)
    (path / "config.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("name", list(N_CLASS))
def test_sizes_as_pairs_of_equal_numbers_are_those_numbers(name, lm_path, tokenizer, tmp_path):
    path = helpers.tower_checkpoint(name, tmp_path / "tower")
    plain, _ = build_gpt2v(config(path, lm_path))
    with_sizes(tmp_path / "tower", image_size=[32, 32], patch_size=[8, 8])
    model, _ = build_gpt2v(config(path, lm_path))
    assert model.geometry == PictureGeometry(32, 8)
    assert model.config.vision_config.to_dict() == plain.config.vision_config.to_dict()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    features = [m.eval().vision_features(m.normalise(pixels)) for m in (plain, model)]
    torch.testing.assert_close(*features, rtol=0, atol=0)
    larger = load_encoder(path, image_size=48).tower
    assert (larger.config.image_size, larger.config.patch_size) == (48, 8)
    saved = helpers.save_checkpoint(tmp_path / "run", 1, model, tokenizer)
    with_sizes(saved, image_size=[32, 32])
    again = load_pretrained(GPT2vModel, str(saved), "model")
    assert again.geometry == PictureGeometry(32, 8)


@pytest.mark.parametrize("name", list(N_CLASS))
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"image_size": [32, 40]}, r"image_size: \[32, 40\] must be one number"),
        ({"image_size": [32, 32, 32]}, r"image_size: "),
        ({"image_size": []}, r"image_size"),
        ({"image_size": 0}, "image_size: 0 must be above 0"),
        ({"image_size": "32"}, "image_size"),
        ({"image_size": None}, "image_size"),
        ({"image_size": 36}, "pictures of 36 pixels cannot be cut into 8-pixel patches"),
        ({"patch_size": [8, 4]}, r"patch_size: \[8, 4\] must be one number"),
        ({"patch_size": 0}, "patch_size: 0 must be above 0"),
        ({"patch_size": -8}, "patch_size: -8 must be above 0"),
        ({"num_channels": 1}, "num_channels: 1 must be 3"),
        ({"num_channels": 4}, "num_channels: 4 must be 3"),
    ],
)
def test_towers_for_other_pictures_are_refused(name, values, says, lm_path, tmp_path):
    path = helpers.tower_checkpoint(name, tmp_path)
    with_sizes(tmp_path, **values)
    refused(f"encoder: .*{says}", path, lm_path)


@pytest.mark.parametrize("n_channels", [1, 4])
@pytest.mark.parametrize("name", list(N_CLASS))
def test_whole_towers_for_other_channels_are_refused(
    name, n_channels, lm_path, tmp_path, monkeypatch
):
    """Their weights agree with their config.json."""
    monkeypatch.setitem(helpers.TOWER, "num_channels", n_channels)
    path = helpers.tower_checkpoint(name, tmp_path)
    refused(f"encoder: .*num_channels: {n_channels} must be 3", path, lm_path)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"image_size": [96, 96]}, "vision: image_size: "),
        ({"image_size": 90}, "image_size 90 must be a multiple of patch_size 16"),
        ({"patch_size": [8, 8]}, "vision: patch_size: "),
        ({"num_channels": 1}, "vision: num_channels: unknown key"),
    ],
)
def test_new_towers_have_the_same_limits(values, key, lm_path):
    with pytest.raises(UserError) as caught:
        validate(MMConfig, {**config(None, lm_path).model_dump(), "vision": values}, "f.yaml")
    assert key in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_projector_is_taken_from_another_gpt2v_if_it_fits(lm_path, tokenizer, tmp_path):
    clip = helpers.tower_checkpoint("clip", tmp_path / "clip")
    first, _ = build_gpt2v(config(clip, lm_path))
    saved = str(helpers.save_checkpoint(tmp_path / "first", 1, first, tokenizer))
    second, _ = build_gpt2v(config(clip, lm_path, projector_from=saved))
    for name, p in first.projector.state_dict().items():
        torch.testing.assert_close(second.projector.state_dict()[name], p, rtol=0, atol=0)
    dropout = {"name": "mlp", "dropout": 0.5}  # has no weights
    other, _ = build_gpt2v(config(clip, lm_path, projector_from=saved, projector=dropout))
    assert torch.equal(other.projector.linear_1.weight, first.projector.linear_1.weight)
    narrow = {"name": "mlp", "hidden_size": 7}
    says = "its projector is mlp, with other options"
    refused(says, clip, lm_path, projector=narrow, projector_from=saved)
    more = {"projector_from": saved}
    refused(
        "projector_from: .*its projector is mlp, not", clip, lm_path, projector="linear", **more
    )
    wide, _ = build_gpt2v(config(clip, lm_path, projector="pixel-shuffle", pool=2))
    more = {"projector_from": str(helpers.save_checkpoint(tmp_path / "w", 1, wide, tokenizer))}
    refused(
        "maps width 64 to .* but 16 to",
        clip, lm_path, projector="pixel-shuffle", **more,
    )  # fmt: skip


def test_geometry_counts_patches():
    assert PictureGeometry(32, 8).n_patches == 16


def test_a_part_whose_type_is_no_text_is_refused(lm_path, tokenizer, tmp_path):
    clip = new_clip(EncoderConfig.model_validate(helpers.TINY_ENCODER), tokenizer)
    clip.save_pretrained(tmp_path / "clip")
    file = tmp_path / "clip" / "config.json"
    config = json.loads(file.read_text())
    config["vision_config"]["model_type"] = None
    file.write_text(json.dumps(config))
    refused("encoder: .*model_type: None must be text", str(tmp_path / "clip"), lm_path)
