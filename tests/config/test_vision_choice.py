"""`vision` of a training: a new vision tower, chosen by name, with options."""

import pytest
import yaml

from gpt2v import runs
from gpt2v.api.configs import config_of
from gpt2v.cli.main import main
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import dump, load, validate
from gpt2v.config.training import MMConfig
from gpt2v.demo.config import demo_config
from gpt2v.errors import UserError
from gpt2v.mm_train.train import build_gpt2v, settled_mm
from gpt2v.model.encoders import new_encoder
from helpers import (
    TINY_ENCODER,
    TINY_MM,
    TINY_TOWER,
    TINY_VISION,
    forget_imports,
    refusal,
    tower_checkpoint,
    write_yaml,
)

MM = {**TINY_MM, "lm": "x"}
COMMANDS = {"encoder": (EncoderConfig, TINY_ENCODER), "mm": (MMConfig, MM)}
OWN = '''
from typing import ClassVar
from gpt2v.config.base import Config
from gpt2v.config.models import VisionConfig
from gpt2v.registry import VISION_TOWERS

class Halved(Config):
    model_type: ClassVar[str] = "siglip_vision_model"
    image_size: int = 64
    half_patch: int = 4
    patch_size = property(lambda self: 2 * self.half_patch)
    hidden_size = property(lambda self: 16)

@VISION_TOWERS.register("halved", options=Halved)
def halved(options):
    """A tower with other options than a CLIP's."""
    shape = {name: getattr(options, name) for name in ("image_size", "patch_size", "hidden_size")}
    return VISION_TOWERS["clip"].load()(options=VisionConfig(**shape))
'''


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The words that import a second tower."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    with forget_imports():
        yield ("--import", "own.py")


def of(command, vision):
    kind, content = COMMANDS[command]
    return validate(kind, {**content, "vision": vision}, "f.yaml")


def test_a_name_is_optional(command):
    same = [of(command, vision) for vision in ("clip", {"name": "clip"}, {}, {"image_size": 96})]
    assert all(config == same[0] for config in same)
    assert same[0].vision == type(same[0]).model_fields["vision"].get_default()
    tiny = of(command, TINY_VISION)
    assert tiny == of(command, TINY_TOWER) != same[0]
    assert yaml.safe_load(dump(tiny))["vision"] == TINY_TOWER


def test_another_name_is_one_line_with_the_choices(command, tmp_path, capsys):
    path = write_yaml(tmp_path / "f.yaml", {**COMMANDS[command][1], "vision": "vgg"})
    line = refusal(capsys, command, "train", path, "--out", tmp_path / "x")
    assert "f.yaml: vision: no such vision tower: 'vgg'; choose from clip, conv" in line
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("vision", "says"),
    [
        ({"image_size": 44}, "vision: image_size 44 must be a multiple of patch_size 16"),
        ({"patch_size": "8"}, "vision: patch_size: Input should be a valid integer, not '8'"),
        ({"depth": 2}, "vision: depth: unknown key; the keys here are image_size, patch_size, "),
        (3, "vision: expected a name, or {name: NAME, OPTION: VALUE}, not 3"),
    ],
)
def test_a_wrong_option_is_one_line(command, vision, says):
    with pytest.raises(UserError) as caught:
        of(command, vision)
    assert str(caught.value).startswith(f"f.yaml: {says}")
    assert "\n" not in str(caught.value)


def test_options_can_be_typed(command, tmp_path, capsys):
    path = write_yaml(tmp_path / "f.yaml", {**COMMANDS[command][1], "vision": "clip"})
    kind = COMMANDS[command][0]
    config = load(kind, path, {"vision.image_size": 48, "vision.patch_size": 8})
    assert config.vision.options.image_size == 48
    assert config == config_of(kind, path, {"vision": {"image_size": 48, "patch_size": 8}})
    argv = (command, "train", path, "--out", tmp_path / "x")
    assert "--vision.patch-size: Input should be a valid integer" in refusal(
        capsys, *argv, "--vision.patch-size", "wide"
    )


def test_options_that_are_given_to_a_function_leave_the_others_as_they_are(command):
    config = config_of(
        COMMANDS[command][0], of(command, TINY_VISION), {"vision": {"patch_size": 4}}
    )
    assert config.vision.plain() == {**TINY_TOWER, "patch_size": 4}


def test_the_help_shows_the_options(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([command, "train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "one of clip, conv; default: clip)" in text
    assert "--vision.image_size clip, conv: side of the picture in pixels (whole number" in text


def test_a_run_from_before_names_is_continued(command, tmp_path):
    """Also one whose tower has fewer options than today."""
    config = of(command, {**TINY_VISION, "num_attention_heads": 4})
    content = yaml.safe_load(dump(config))
    del content["vision"]["name"], content["vision"]["num_attention_heads"]
    write_yaml(tmp_path / "config.yaml", content)
    runs.write_config(tmp_path, config)
    with pytest.raises(UserError, match=r"vision\.patch_size: 8 there, 4 now; --resume needs"):
        runs.write_config(tmp_path, of(command, {**TINY_VISION, "patch_size": 4}))
    write_yaml(tmp_path / "config.yaml", {**content, "vision": {"widths": [3]}})
    with pytest.raises(UserError, match=r"--resume needs the same configuration"):
        runs.write_config(tmp_path, config)


def test_a_tower_of_a_user_s_file_trains(own, lm_run, tmp_path, capsys):
    config = write_yaml(tmp_path / "mm.yaml", {**TINY_MM, "lm": str(lm_run), "vision": "halved"})
    argv = ("mm", "train", str(config), *own)
    assert main([*argv, "--out", "one", "--vision.half_patch", "8"]) == 0
    vision = {"name": "halved", "image_size": 64, "half_patch": 8}
    assert yaml.safe_load((tmp_path / "one/config.yaml").read_text())["vision"] == vision
    saved = yaml.safe_load((tmp_path / "one/checkpoints/step-000003/config.json").read_text())
    assert saved["vision_config"]["patch_size"] == 16
    tower = new_encoder(of("mm", vision).vision).tower
    assert (tower.config.patch_size, tower.config.hidden_size) == (16, 16)
    clip, siglip = (tower_checkpoint(name, tmp_path / name) for name in ("clip", "siglip"))
    line = refusal(capsys, *argv, "--encoder", clip, "--out", "x")
    assert f"vision: halved has no effect: it is clip in encoder: {clip}; leave it out" in line
    content = {**MM, "encoder": siglip, "vision": {}}
    known = settled_mm(validate(MMConfig, content, "f.yaml")).vision  # by the type of checkpoints
    assert known.plain() == {"name": "halved", "image_size": 32, "half_patch": 4}
    line = refusal(capsys, *argv, "--encoder", siglip, "--vision.image_size", "48", "--out", "x")
    assert f"vision.image_size: 48 has no effect: it is 32 in encoder: {siglip}" in line


def test_an_encoder_is_trained_with_a_tower_of_a_user_s_file(own, lm_run, tmp_path):
    content = {**TINY_ENCODER, "vision": {"name": "halved", "image_size": 32}}
    path = write_yaml(tmp_path / "encoder.yaml", content)
    assert main(["encoder", "train", str(path), *own, "--out", str(tmp_path / "encoder")]) == 0
    content = {**TINY_MM, "lm": str(lm_run), "encoder": str(tmp_path / "encoder"), "vision": {}}
    mm = settled_mm(validate(MMConfig, content, "f.yaml"))
    assert mm.vision.options.image_size == 32
    assert build_gpt2v(mm)[0].config.vision_config.patch_size == 8


def test_an_encoder_with_a_tower_of_a_user_s_file_is_a_dual_one(own, tmp_path):
    path = write_yaml(tmp_path / "encoder.yaml", {**TINY_ENCODER, "vision": "halved"})
    assert main(["encoder", "train", str(path), *own, "--out", "x"]) == 0
    saved = yaml.safe_load((tmp_path / "x/checkpoints/step-000002/config.json").read_text())
    assert saved["model_type"] == "vision-text-dual-encoder"
    assert saved["vision_config"]["model_type"] == "clip_vision_model"
    assert saved["vision_config"]["patch_size"] == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "the vision tower 'mine' needs options"),
        (", options=Config", "the vision tower 'mine' needs an option 'image_size'"),
    ],
)
def test_a_tower_without_a_shape_is_not_registered(own, tmp_path, capsys, options, says):
    text = f"@VISION_TOWERS.register('mine'{options})\ndef mine(): ...\n"
    (tmp_path / "own.py").write_text(OWN + text)
    assert says in refusal(capsys, "data", "suites", *own)


def test_a_demo_chooses_its_tower(tmp_path):
    plain = demo_config("smoke", {}, tmp_path)
    chosen = demo_config("smoke", {"encoder.vision.name": "clip"}, tmp_path)
    assert plain == chosen
    default = demo_config("smoke", {"encoder.vision": "clip"}, tmp_path)
    assert default.encoder.vision == MMConfig.model_fields["vision"].get_default()
