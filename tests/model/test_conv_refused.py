"""What does not fit the convolutional tower is one line, and nothing is written."""

import copy
import json

import pytest
import torch
from transformers import CLIPVisionModel

import helpers
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import validate
from gpt2v.config.models import ConvConfig
from gpt2v.config.training import MMConfig
from gpt2v.errors import UserError
from gpt2v.hardware.memory import check_fits
from gpt2v.mm_train.train import build_gpt2v
from gpt2v.model import conv
from gpt2v.model.conv import new_conv_tower
from gpt2v.model.encoders import load_encoder
from gpt2v.model.families import CLIP, family_of
from gpt2v.model.files import load_pretrained
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.llava import check_llava, llava_model
from gpt2v.registry import ENCODER_FAMILIES

TINY = {"name": "conv", "image_size": 48, "widths": [16, 32, 32]}


@pytest.fixture
def tower_path(tmp_path):
    torch.manual_seed(0)
    options = {key: value for key, value in TINY.items() if key != "name"}
    new_conv_tower(ConvConfig(**options)).save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


@pytest.fixture
def gpt2v_path(lm_run, tokenizer, tmp_path):
    model, _ = build_gpt2v(helpers.mm_config(lm_run, vision=TINY))
    return helpers.save_checkpoint(tmp_path / "run", 1, model, tokenizer)


def refused(says, work):
    with pytest.raises(UserError) as caught:
        work()
    assert says in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def built(lm_run, **changes):
    return lambda: build_gpt2v(helpers.mm_config(lm_run, **changes))


@pytest.mark.parametrize(("layer", "size"), [(0, 1), (1, 2), (2, 2), (3, 4), (4, 4), (-3, 4)])
def test_a_layer_with_other_patches(lm_run, tower_path, layer, size):
    says = (
        f"vision_layer: {layer}: its patches are {size} pixels wide, but the last layer's are 8; "
        "choose from 5, 6, -1, -2"
    )
    for tower in {"vision": TINY}, {"vision": {}, "encoder": str(tower_path)}:
        message = refused(says, built(lm_run, vision_layer=layer, **tower))
        assert message == says


@pytest.mark.parametrize("layer", [7, -8])
def test_a_layer_that_is_not_there(lm_run, layer):
    says = f"vision_layer: {layer} must lie in -7..6"
    refused(says, built(lm_run, vision=TINY, vision_layer=layer))


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (2, "vision_layer: 2: its patches are 2 pixels wide, but the last layer's are 8"),
        (99, "vision_layer: 99 must lie in -7..6"),
        ("last", "vision_layer: 'last' must lie in -7..6"),
    ],
)
def test_a_layer_in_the_file_of_a_gpt2v(gpt2v_path, layer, says):
    changed(gpt2v_path, vision_layer=layer)
    where = f"model: {gpt2v_path}: cannot be loaded as GPT2vModel: {says}"
    refused(where, lambda: load_pretrained(GPT2vModel, str(gpt2v_path), "model"))


def test_a_class_token(lm_run, tower_path):
    more = {"class_token": True}
    says = "class_token: {} has none; use class_token: false"
    refused(says.format("conv"), built(lm_run, vision=TINY, **more))
    path = str(tower_path)
    refused(says.format(path), built(lm_run, vision={}, encoder=path, **more))


@pytest.mark.parametrize(
    ("kind", "content"),
    [(EncoderConfig, helpers.TINY_ENCODER), (MMConfig, {**helpers.TINY_MM, "lm": "x"})],
)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"image_size": 100},
            "vision: image_size 100 must be a multiple of 8, as each of 3 widths halves the "
            "picture",
        ),
        ({"widths": []}, "vision: widths: List should have at least 1 item"),
        ({"widths": [16, 4]}, "vision: widths.1: Input should be greater than or equal to 8"),
        (
            {"window": 12},
            "vision: window 12 must be a multiple of 8, the side of a patch, and divide "
            "image_size 48",
        ),
        ({"window": 32}, "vision: window 32 must be a multiple of 8, the side of a patch, and "),
        ({"window": 1}, "vision: window: Input should be greater than or equal to 2"),
        ({"patch_size": 8}, "vision: patch_size: unknown key; the keys here are image_size, "),
    ],
)
def test_a_wrong_option(kind, content, options, says):
    vision = {**TINY, **options}
    message = refused(says, lambda: validate(kind, {**content, "vision": vision}, "f.yaml"))
    assert message.startswith("f.yaml: vision: ")


def test_an_image_size_that_halving_does_not_divide(lm_run, tower_path):
    says = "image_size: 100 must be a multiple of the encoder's 8-pixel patches"
    refused(says, built(lm_run, vision={}, encoder=str(tower_path), image_size=100))
    changed(tower_path, image_size=100)
    says = f"encoder: {tower_path}: pictures of 100 pixels cannot be cut into 8-pixel patches"
    refused(says, built(lm_run, vision={}, encoder=str(tower_path)))
    model, _ = built(lm_run, vision={}, encoder=str(tower_path), image_size=56)()
    assert model.geometry.n_patches == 49


def test_an_image_size_that_windows_do_not_divide(lm_run, tower_path):
    changed(tower_path, window=16)
    says = "image_size: 56 must be a multiple of the encoder's 16-pixel windows"
    assert refused(says, built(lm_run, vision={}, encoder=str(tower_path), image_size=56)) == says
    model, _ = built(lm_run, vision={}, encoder=str(tower_path), image_size=64)()
    assert (model.geometry.n_patches, model.config.vision_config.window) == (64, 16)


def changed(path, part=None, **values):
    """Write values into a checkpoint's config.json."""
    content = json.loads((path / "config.json").read_text())
    (content if part is None else content[part]).update(values)
    (path / "config.json").write_text(json.dumps(content))


NONSENSE = [
    ({"widths": "16"}, "widths: must be 1 to 8 whole numbers above 0, not '16'"),
    ({"widths": []}, "widths: must be 1 to 8 whole numbers above 0, not []"),
    ({"widths": None}, "widths: must be 1 to 8 whole numbers above 0, not None"),
    ({"widths": [16, -32]}, "widths: must be 1 to 8 whole numbers above 0, not [16, -32]"),
    ({"widths": [16, 3.5]}, "widths: must be 1 to 8 whole numbers above 0, not [16, 3.5]"),
    ({"widths": [8] * 900}, "widths: must be 1 to 8 whole numbers above 0, not [8, 8"),
    ({"depth": 0}, "depth: must lie in 1..100, not 0"),
    ({"depth": "two"}, "depth: must lie in 1..100, not 'two'"),
    ({"depth": 10**9}, "depth: must lie in 1..100, not 1000000000"),
    ({"mirror": "false"}, "mirror: must be true or false, not 'false'"),
    ({"patch_size": 16}, "patch_size: must be 8, as widths and depth say"),
    ({"hidden_size": 16}, "hidden_size: must be 32, as widths and depth say"),
    ({"num_hidden_layers": 3}, "num_hidden_layers: must be 6, as widths and depth say"),
    ({"image_size": [48, 40]}, "image_size: [48, 40] must be one number of pixels"),
    ({"image_size": 0}, "image_size: 0 must be above 0"),
    ({"window": 12}, "window: must be a multiple of 8, the side of a patch, not 12"),
    ({"window": 0}, "window: must be a multiple of 8, the side of a patch, not 0"),
    ({"window": "16"}, "window: must be a multiple of 8, the side of a patch, not '16'"),
    ({"window": True}, "window: must be a multiple of 8, the side of a patch, not True"),
    ({"window": 32}, "window: must divide image_size 48, not 32"),
    ({"num_channels": 1}, "num_channels: 1 must be 3"),
]


@pytest.mark.parametrize(("values", "says"), NONSENSE)
def test_nonsense_in_the_file_of_a_tower(tower_path, values, says):
    changed(tower_path, **values)
    message = refused(says, lambda: load_encoder(str(tower_path)))
    assert message.startswith(f"encoder: {tower_path}")


def test_nonsense_in_the_file_of_a_gpt2v(gpt2v_path):
    before = (gpt2v_path / "config.json").read_text()
    for values, says in NONSENSE:
        (gpt2v_path / "config.json").write_text(before)
        changed(gpt2v_path, "vision_config", **values)
        says = f"model: {gpt2v_path}: cannot be loaded as GPT2vModel: vision_config: {says}"
        refused(says, lambda: load_pretrained(GPT2vModel, str(gpt2v_path), "model"))


def test_other_widths_than_those_of_the_weights(tower_path):
    changed(tower_path, widths=[16, 16, 32])
    refused("has shape [32, 16, 3, 3] in its weights, but", lambda: load_encoder(str(tower_path)))


def test_a_tower_that_memory_cannot_hold_is_not_built(monkeypatch):
    n_bytes = []
    monkeypatch.setattr(conv, "check_fits", lambda n, what: n_bytes.append(n))
    tower = new_conv_tower(ConvConfig(widths=[8, 40, 16], depth=3))
    convolutions = [layer.conv.weight.numel() for layer in tower.layers]
    assert n_bytes == [4 * sum(convolutions)]
    monkeypatch.setattr(conv, "check_fits", check_fits)
    monkeypatch.setattr(conv, "ConvVisionModel", None)
    says = "vision.widths, depth: a tower of this size would need "
    refused(says, lambda: new_conv_tower(ConvConfig(widths=[100_000] * 5, depth=100)))


def test_a_llava_has_no_such_tower(gpt2v_path, tmp_path, capsys):
    to = tmp_path / "to"
    line = helpers.refusal(capsys, "mm", "export", gpt2v_path, "--to", to)
    assert line == (
        f"gpt2v: {gpt2v_path}: vision tower: a gpt2v_conv: LLaVA has no such tower; train a CLIP "
        "from it with `encoder train` and `teacher: RUN`, and MM-Train that"
    )
    assert not to.exists()
    changed(gpt2v_path, model_type="llava")
    (gpt2v_path / "MANIFEST.json").unlink()
    helpers.refusal(capsys, "mm", "export", gpt2v_path, "--to", to)
    assert not to.exists()


def test_a_user_s_family_of_a_stock_type_is_still_exported(gpt2v, tokenizer):
    model = copy.deepcopy(gpt2v)
    with helpers.forget_imports():

        @ENCODER_FAMILIES.register("mine")
        class Mine(CLIP):
            """A CLIP that a user loads otherwise."""

            model_types = ()
            model = type("Own", (CLIPVisionModel,), {})

        model.config.vision_config.encoder_family = "mine"
        assert isinstance(family_of(model.config.vision_config), Mine)
        check_llava(model, tokenizer)
        llava = llava_model(model, tokenizer)
    tower = llava.model.vision_tower.state_dict()
    assert all(torch.equal(tower[k], p) for k, p in model.vision_tower.state_dict().items())
