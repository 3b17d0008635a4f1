"""An option that another option leaves without effect is refused; defaults and truths are not."""

import re

import pytest

from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import dump, merge, read_yaml, validate
from gpt2v.config.measuring import EvalConfig, ExportConfig, LadderConfig, SuiteEvalConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.training import GenerateConfig, LMConfig, MMConfig
from gpt2v.demo.config import demo_config
from gpt2v.errors import UserError
from helpers import TINY_ENCODER, TINY_LM, TINY_MM, picture_folder, refusal, write_yaml

MM = {**TINY_MM, "lm": "x"}
MEASURED = {"model": "x"}
IMAGE, WORDS = {"modality": "image"}, {"modality": "text"}


def mix(*specs):
    return {"data.stages.0.mix": list(specs)}


FLIPPED = {"tiles.augment.flip": True}
FROZEN = {"name": "a", "pattern": "^vision", "lr": 0}
OWN = {"name": "b", "pattern": "", "schedule": "linear", "warmup": 3}
# Class, rest of the configuration, values without effect, and the key and the reason in the line.
CASES = [
    (LMConfig, TINY_LM, {"tiles.path": "x"}, "path: x has no effect: sprites are drawn"),
    (ExportConfig, {}, {"tiles.corrupt": "skip"}, "corrupt: skip has no effect: sprites are drawn"),
    *(
        (
            kind,
            rest,
            {"tiles": {"source": source, "path": "x", field: 20}},
            f"{field}: 20 has no effect: source: {source} has its own pictures",
        )
        for kind, rest, source, field in (
            (LMConfig, {k: v for k, v in TINY_LM.items() if k != "tiles"}, "folder", "per_class"),
            (EvalConfig, {}, "cifar10", "per_class"),
            (ProbeConfig, MEASURED, "cifar100", "seed"),
            (SuiteEvalConfig, {"suite": "grid-3x3-v1"}, "folder", "seed"),
            (ExportConfig, {}, "cifar10", "seed"),
        )
    ),
    (ExportConfig, {}, {"grid.patches": 4}, "patches: 4 has no effect: form: markdown"),
    (EvalConfig, {}, {"grid.picture": {"layout": "multi", "gap": 2}}, "gap: 2 has no effect"),
    (LMConfig, TINY_LM, mix({"patches": 3}), "patches: 3 has no effect: form: markdown"),
    (LMConfig, TINY_LM, mix({"picture": {"resize": True}}), "picture.resize: True has no effect"),
    (MMConfig, MM, mix(IMAGE, {"picture": {"gap": 2}}), "mix.1.picture.gap: 2 has no effect"),
    (MMConfig, MM, mix({**IMAGE, "form": "csv"}), "mix.0.form: csv has no effect: modality: image"),
    (MMConfig, MM, {**mix(WORDS), "features.mode": "require"}, "no stage shows pictures"),
    (MMConfig, MM, {"image_size": 64}, "image_size: needs an encoder"),
    (MMConfig, MM, {"encoder_family": "siglip"}, "encoder_family: needs an encoder"),
    (
        MMConfig,
        MM,
        {"train.groups": [], "train.stage_groups": {"0": [FROZEN, OWN]}, "train.warmup": 5},
        "train.warmup: 5 has no effect: every group has its own",
    ),
    (
        LMConfig,
        TINY_LM,
        {"train.groups": [OWN], "train.warmup": 20, "train.schedule": "wsd"},
        "train.schedule: wsd has no effect: every group has its own",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"train.groups": [OWN], "train.warmup": 7},
        "train.warmup: 7 has no effect: every group has its own",
    ),
    (EncoderConfig, TINY_ENCODER, {"train.eval_windows": 7}, "train.eval_windows: 7 has no effect"),
    *(
        (
            LMConfig,
            TINY_LM,
            {"train.precision": half, "train.tf32": True},
            f"tf32: True has no effect: products are in {half}",
        )
        for half in ("bf16", "fp16")
    ),
    (EncoderConfig, TINY_ENCODER, {"train.shard": True}, "train.shard: True has no effect"),
    (
        SuiteEvalConfig,
        {"suite": "grid-3x3-v1"},
        FLIPPED,
        "tiles.augment.flip: True has no effect: a suite shows tiles as they are",
    ),
    *(
        (kind, rest, FLIPPED, "tiles.augment.flip: True has no effect: split: test shows tiles")
        for kind, rest in ((EvalConfig, {}), (ExportConfig, {}), (LadderConfig, MEASURED))
    ),
    *(
        (EvalConfig, {}, {"modalities": ["image"], **values}, f"{key} has no effect: modalities")
        for key, values in (
            ("grid.form: csv", {"grid.form": "csv"}),
            ("grid.form: patch-tiled", {"grid.form": "patch-tiled", "grid.patches": 3}),
            ("grid.augment.delimiters: [';']", {"grid.augment.delimiters": [";"]}),
        )
    ),
    (GenerateConfig, {}, {"temperature": 0, "top_k": 5}, "top_k: 5 has no effect: temperature: 0"),
    (GenerateConfig, {}, {"temperature": 1e-9, "top_p": 0.5}, "top_p: 0.5 has no effect"),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"global_weight": 0, "region_weight": 0, "patch_weight": 0},
        "global_weight, region_weight, patch_weight: one must be above 0",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"teacher_weight": 0.5},
        "teacher_weight: 0.5 has no effect",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"teacher_pool": 2},
        "teacher_pool: 2 has no effect: there is no",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"teacher": "x", "teacher_weight": 0, "teacher_pool": 2},
        "teacher_pool: 2 has no effect: teacher_weight is 0",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {"region_weight": 0, "patch_weight": 0, "label_smoothing": 0.1},
        "label_smoothing: 0.1 has no effect: region_weight and patch_weight are 0",
    ),
    (
        EncoderConfig,
        TINY_ENCODER,
        {
            "teacher": "x",
            "teacher_weight": 0,
            "global_weight": 0,
            "region_weight": 0,
            "patch_weight": 0,
        },
        "patch_weight, teacher_weight: one must be above 0",
    ),
    (
        LMConfig,
        TINY_LM,
        {"train.groups": [{"name": "a", "pattern": "wte"}, {"name": "a", "pattern": ""}]},
        "train.groups: two groups have the name a",
    ),
    (
        MMConfig,
        MM,
        {"train.groups": [], "train.stage_groups": {"0": [{"name": "total", "pattern": ""}]}},
        "train.stage_groups.0: the whole gradient has the name total",
    ),
    *(
        (EncoderConfig, TINY_ENCODER, {"scenes.layouts": [{"scale": scale}]}, f"0.scale{says}")
        for scale, says in (([-1.0, 1.0], ".0: Input"), ([1.0, 9.0], ".1: Input"))
    ),
    (EncoderConfig, TINY_ENCODER, {"scenes.layouts": [{"scale": [0.9, 0.5]}]}, "scale must be ["),
    (
        EvalConfig,
        {},
        {"modalities": ["text"], "features.mode": "require"},
        "modalities: [text] shows no pictures",
    ),
    (
        SuiteEvalConfig,
        {"suite": "grid-3x3-v1"},
        {"modalities": ["text"], "features.mode": "require"},
        "modalities: [text] shows no pictures",
    ),
    *(
        (
            kind,
            rest,
            {"grid.augment.position_offset": 9},
            "grid.augment.position_offset: 9 has no effect: split: test shows no offsets",
        )
        for kind, rest in ((EvalConfig, {}), (ExportConfig, {}), (LadderConfig, MEASURED))
    ),
]


@pytest.mark.parametrize(("kind", "rest", "values", "words"), CASES)
def test_it_is_refused_in_one_line(kind, rest, values, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        validate(kind, merge(rest, values, "f"), "f")
    assert len(str(caught.value).splitlines()) == 1


EFFECTIVE = [
    (LMConfig, TINY_LM, mix({"form": "patch-tiled", "patches": 3})),
    (MMConfig, MM, mix({**IMAGE, "picture": {"resize": True}})),
    (MMConfig, MM, {"vision_tokens": "spliced-text", **mix({**IMAGE, "form": "csv"})}),
    (MMConfig, MM, {"encoder": "x", "image_size": 64, "encoder_family": "siglip"}),
    (MMConfig, MM, {"train.groups": [FROZEN, {**OWN, "warmup": None}]}),
    (MMConfig, MM, {"train.warmup": 9, "train.groups": [{**OWN, "warmup": None}]}),
    (GenerateConfig, {}, {"temperature": 0.1, "top_k": 5, "top_p": 0.5}),
    (EvalConfig, {}, {"split": "train", "grid.augment.position_offset": 9}),
    (EvalConfig, {}, {"tiles": {"source": "folder", "path": "x", "corrupt": "skip"}}),
    (EvalConfig, {}, {"tiles": {"per_class": 20, "seed": 3}}),
    (EvalConfig, {}, {"split": "train", **FLIPPED}),
    (ProbeConfig, MEASURED, FLIPPED),
    (EvalConfig, {}, {"modalities": ["text+image"], "grid.form": "csv"}),
]


@pytest.mark.parametrize(("kind", "rest", "values"), EFFECTIVE)
def test_a_complete_configuration_is_taken_back(kind, rest, values):
    """Its defaults are no mistakes."""
    config = validate(kind, merge(rest, values, "f"), "f")
    assert validate(kind, read_yaml(dump(config), "f"), "f") == config


# ---- the demo, and options of commands ---------------------------------------------------------


def test_a_demo_of_photographs_leaves_out_what_its_preset_says_of_sprites(tmp_path):
    own = {"tiles.source": "folder", "tiles.path": str(picture_folder(tmp_path / "own"))}
    config = demo_config("smoke", own, tmp_path)
    assert config.tiles.per_class == 1000
    given = {**own, "tiles.per_class": 30}
    with pytest.raises(UserError, match="per_class: 30 has no effect"):
        demo_config("smoke", given, tmp_path)


def test_a_demo_has_one_vision_tower(tmp_path):
    with pytest.raises(UserError, match=r"mm\.vision: has no effect: set encoder\.vision"):
        demo_config("smoke", {"mm.vision.hidden_size": 48}, tmp_path)
    assert demo_config("smoke", {"encoder.vision.hidden_size": 48}, tmp_path)


@pytest.mark.parametrize("command", [["lm", "train"], ["encoder", "train"], ["mm", "train"]])
def test_a_run_is_replaced_or_continued(command, tmp_path, capsys):
    content = {"lm": TINY_LM, "encoder": TINY_ENCODER, "mm": MM}[command[0]]
    path = write_yaml(tmp_path / "c.yaml", content)
    line = refusal(capsys, *command, path, "--out", tmp_path / "r", "--overwrite", "--resume")
    assert "--overwrite: starts again, but --resume continues" in line
    assert not (tmp_path / "r").exists()


def test_a_demo_is_replaced_or_continued(tmp_path, capsys):
    line = refusal(capsys, "demo", "--out", tmp_path / "r", "--overwrite", "--resume")
    assert "--overwrite: starts again, but --resume continues" in line


def test_parts_and_modalities_of_a_suite_are_all_measured(lm_run, mm_run, tmp_path, capsys):
    """A part that is shown in none of the modalities would be missing from the results."""
    argv = ["eval", mm_run, "--suite", "corruptions-v1", "--out", tmp_path / "e"]
    argv += ["--tiles.per_class", "100", "--tiles.size", "16"]
    line = refusal(capsys, *argv, "--modalities", "[image, text+image]")
    assert "modalities: no part of corruptions-v1 is shown as text+image" in line
