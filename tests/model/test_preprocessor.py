"""A checkpoint's preprocessor: our pixels are those of transformers' own, or one line says why."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.image_processing_backends import PilBackend

import helpers
from gpt2v.errors import UserError
from gpt2v.model.clip import normalise
from gpt2v.model.encoders import load_encoder
from gpt2v.model.families import CLIP
from gpt2v.model.llava import llava_processor
from gpt2v.model.preprocessor import PLAIN
from llava_cases import Case, build

SIDE = 32  # of the tower's pictures
MEAN, STD = helpers.TOWER_MEAN, helpers.TOWER_STD
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
WHOLE = {"size": {"height": SIDE, "width": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
USUAL = {"image_mean": MEAN, "image_std": STD}


@pytest.fixture
def tower(tmp_path):
    return tmp_path, helpers.tower_checkpoint("clip", tmp_path, processor=False)


def ours(encoder):
    return normalise(PIXELS, torch.device("cpu"), encoder.mean, encoder.std)


def theirs(processor):
    return processor(images=[Image.fromarray(p) for p in PIXELS], return_tensors="pt").pixel_values


def check_equal(encoder, processor):
    expected = theirs(processor).float()
    scale = float(expected.abs().max())
    torch.testing.assert_close(ours(encoder), expected, rtol=0, atol=2e-6 * scale)


def write(folder, values, name="preprocessor_config.json"):
    (folder / name).write_text(values if isinstance(values, str) else json.dumps(values))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "rescale_factor": 7.0},
        {"do_rescale": False, "do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 1},
        {"image_mean": 0.5, "image_std": 0.25},
        {"do_resize": False, "size": {"height": 9, "width": 9}},
        {"do_center_crop": False, "crop_size": {"height": 9, "width": 9}},
        {"do_resize": True, "size": {"shortest_edge": SIDE}},
        {"do_pad": False, "pad_size": {"height": 99, "width": 99}},
        {"do_pad": True, "pad_size": {"height": SIDE, "width": SIDE}},
        {"do_convert_rgb": False, "resample": 0},
    ],
)
def test_our_pixels_are_those_of_the_processor_that_wrote_the_file(tower, kind, fields):
    folder, path = tower
    made = getattr(transformers, f"{kind}ImageProcessorPil")
    made(**{**USUAL, **WHOLE, **fields}).save_pretrained(folder)
    check_equal(load_encoder(path), made.from_pretrained(folder))


@pytest.mark.parametrize(
    "fields",
    [
        {"do_normalize": None},
        {"do_rescale": None},
        {"do_resize": None, "size": {"shortest_edge": 40}},
        {"do_center_crop": None, "crop_size": 24},
        {"transformers_version": "5.0.0", "_name_or_path": "openai/clip", "_note": "ours"},
    ],
)
def test_null_switches_a_step_off_and_notes_change_nothing(tower, fields):
    folder, path = tower
    write(folder, {"image_processor_type": "CLIPImageProcessor", **USUAL, **WHOLE, **fields})
    check_equal(load_encoder(path), transformers.CLIPImageProcessorPil.from_pretrained(folder))


@pytest.mark.parametrize("size", [SIDE, [SIDE, SIDE], {"shortest_edge": SIDE}])
@pytest.mark.parametrize("crop_size", [SIDE, [SIDE, SIDE], {"height": SIDE, "width": SIDE}])
def test_files_of_older_versions(tower, size, crop_size):
    """Sizes are numbers or pairs, there is no do_rescale, and the type has another name."""
    folder, path = tower
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "do_resize": True}
    write(folder, {**USUAL, **old, "do_center_crop": True, "size": size, "crop_size": crop_size})
    check_equal(load_encoder(path), transformers.CLIPImageProcessorPil.from_pretrained(folder))


def test_numbers_of_ordinary_files_are_kept_bit_for_bit(tower):
    folder, path = tower
    write(folder, {**USUAL, "do_rescale": True, "rescale_factor": 0.00392156862745098})
    encoder = load_encoder(path)
    assert (encoder.mean, encoder.std) == (tuple(MEAN), tuple(STD))


@pytest.mark.parametrize("kind", PLAIN)
def test_the_known_processors_do_what_the_common_one_does(kind):
    """They override no method of it, so that a picture of the right size is only normalised."""
    made = getattr(transformers, f"{kind}ImageProcessorPil")
    classes = made.__mro__[: made.__mro__.index(PilBackend)]
    methods = {name for one in classes for name, value in vars(one).items() if callable(value)}
    assert methods <= {"__init__"}


def test_the_processor_s_file_comes_first_as_in_transformers(tower):
    folder, path = tower
    inner = {**USUAL, **WHOLE, "image_processor_type": "CLIPImageProcessor", "do_normalize": False}
    write(folder, {**USUAL, "image_mean": 9})
    write(folder, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert load_encoder(path).mean == (9, 9, 9)
    write(folder, {"image_processor": inner}, "processor_config.json")
    encoder = load_encoder(path)
    assert encoder.mean == (0, 0, 0)
    check_equal(encoder, transformers.CLIPImageProcessorPil.from_pretrained(folder))
    (folder / "preprocessor_config.json").unlink()
    assert load_encoder(path).mean == (0, 0, 0)
    write(folder, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert load_encoder(path).mean == CLIP.mean


# ---- what is refused ---------------------------------------------------------------------------


def refused(path, *says):
    with pytest.raises(UserError) as caught:
        load_encoder(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"encoder: {path}/")
    for text in says:
        assert text in message
    return message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": {"height": 40, "width": 40}}, "size: {'height': 40, 'width': 40} is not the"),
        ({"size": {"height": SIDE, "width": 40}}, "size: "),
        ({"size": {"shortest_edge": 40}, "crop_size": SIDE}, "size: {'shortest_edge': 40}"),
        ({"size": {"shortest_edge": 40, "longest_edge": 50}}, "size: "),
        ({"size": {"longest_edge": SIDE}}, "size: "),
        ({"size": 224}, "size: 224 is not the tower's 32x32 pixels"),
        ({"size": [SIDE, 40]}, "size: [32, 40]"),
        ({"size": "big"}, "size: big"),
        ({"crop_size": 24, "do_center_crop": True}, "crop_size: 24 is not the tower's"),
        ({"crop_size": {"shortest_edge": SIDE}}, "crop_size: "),
        ({"do_pad": True, "pad_size": {"height": 40, "width": 40}}, "pad_size: "),
        ({"image_processor_type": "EfficientNetImageProcessor"}, "image_processor_type: Eff"),
        ({"image_processor_type": "ConvNextFeatureExtractor"}, "expected BitImageProcessor"),
        ({"image_processor_type": 3}, "image_processor_type: 3"),
        ({"rescale_offset": True}, "rescale_offset: True: unknown"),
        ({"do_reduce_labels": True}, "do_reduce_labels: True: unknown"),
        ({"crop_pct": 0.875}, "crop_pct: 0.875: unknown"),
        ({"auto_map": {"AutoImageProcessor": "x.Y"}}, "auto_map names Python code"),
        ({"do_normalize": "no"}, "do_normalize: 'no' must be true or false"),
        ({"do_rescale": 0}, "do_rescale: 0 must be true or false"),
        ({"rescale_factor": 0}, "rescale_factor: 0 must be a number above 0"),
        ({"rescale_factor": -0.1}, "rescale_factor: -0.1"),
        ({"rescale_factor": "1/255"}, "rescale_factor: '1/255'"),
        ({"rescale_factor": float("nan")}, "rescale_factor: nan"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std: [0.5, 0, 0.5] must be above 0"),
        ({"image_std": [0.5, -0.5, 0.5]}, "image_std: [0.5, -0.5, 0.5] must be above 0"),
        ({"image_std": 0}, "image_std: 0 must be above 0"),
        ({"image_std": [0.5, float("nan"), 0.5]}, "image_std is [0.5, nan, 0.5]"),
        ({"image_mean": [float("inf"), 0, 0]}, "image_mean is [inf, 0, 0]"),
        ({"image_mean": [0.5]}, "image_mean is [0.5]"),
        ({"image_mean": [0.5] * 4}, "needs image_mean and image_std, each a number or three"),
        ({"image_mean": "123"}, "image_mean is '123'"),
        ({"image_mean": ["1", "2", "3"]}, "image_mean is ['1', '2', '3']"),
        ({"image_mean": None}, "image_mean is None"),
        ({"image_mean": True}, "image_mean is True"),
        ({"image_mean": {"r": 1}}, "image_mean is {'r': 1}"),
        ({"image_mean": [10**400, 0, 0]}, "image_mean is [1000"),
    ],
)
def test_what_cannot_be_done_exactly_is_refused_with_file_and_key(tower, fields, says):
    folder, path = tower
    write(folder, {**USUAL, **fields})
    refused(path, "preprocessor_config.json: ", says)


@pytest.mark.parametrize("text", ["", "no json", "{", "\ufeff{}", "\x00"])
def test_files_that_are_not_json(tower, text):
    folder, path = tower
    write(folder, text)
    refused(path, "preprocessor_config.json: is not a JSON file")
    write(folder, text, "processor_config.json")
    refused(path, "/processor_config.json: is not a JSON file")


@pytest.mark.parametrize("values", [[], '"text"', 3, {"image_processor": []}])
def test_files_without_fields(tower, values):
    folder, path = tower
    write(folder, values, "processor_config.json")
    refused(path, "/processor_config.json: has no fields of an image processor")


def test_an_image_size_of_the_configuration_replaces_the_sizes_of_the_file(tower):
    """The user has chosen how large pictures are drawn; the other fields still count."""
    folder, path = tower
    write(folder, {**USUAL, "size": {"shortest_edge": 40}, "crop_size": SIDE, "rescale_factor": 1})
    assert "e.g. image_size: 32" in refused(path)
    encoder = load_encoder(path, image_size=SIDE)
    assert encoder.mean == pytest.approx([m / 255 for m in MEAN], rel=1e-12)
    assert load_encoder(path, image_size=48).mean == encoder.mean


# ---- the export --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 100}]
)
def test_the_export_s_processor_makes_our_pixels(tower, lm, table, tokenizer, fields):
    folder, path = tower
    write(folder, {**USUAL, **fields})
    encoder = load_encoder(path)
    model = build(Case(), lm, table)
    model.config.image_mean, model.config.image_std = list(encoder.mean), list(encoder.std)
    processor = llava_processor(model, tokenizer)
    processor.save_pretrained(folder / "llava")
    again = type(processor).from_pretrained(folder / "llava").image_processor
    check_equal(encoder, again)
    torch.testing.assert_close(model.normalise(PIXELS), ours(encoder), rtol=0, atol=0)
