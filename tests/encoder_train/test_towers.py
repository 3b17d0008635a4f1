"""Encoders with other vision towers than CLIP's."""

import numpy as np
import pytest
import torch
from transformers import VisionTextDualEncoderModel

import helpers
from gpt2v.cli.main import main
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import validate
from gpt2v.config.training import MMConfig
from gpt2v.data.tiles.bank import class_of
from gpt2v.encoder_train import train
from gpt2v.encoder_train.train import prepare_encoder, train_encoder
from gpt2v.errors import UserError
from gpt2v.mm_train.train import build_gpt2v
from gpt2v.model.conv import ConvVisionModel
from gpt2v.model.distillation import load_teacher
from gpt2v.run_layout import checkpoints_of
from helpers import forget_imports, write_yaml

CONV = {"name": "conv", "image_size": 32, "widths": [8, 8, 16], "depth": 1}
OWN = '''
import torch
from typing import ClassVar
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from gpt2v.config.base import Config
from gpt2v.model.families import Family
from gpt2v.registry import ENCODER_FAMILIES, VISION_TOWERS

class MineConfig(PreTrainedConfig):
    model_type = "mine"
    base_config_key = "vision_config"
    def __init__(self, image_size=32, patch_size=8, hidden_size=16, **kwargs):
        self.image_size, self.patch_size, self.hidden_size = image_size, patch_size, hidden_size
        self.num_hidden_layers = 1
        super().__init__(**kwargs)

class Mine(PreTrainedModel):
    config_class = MineConfig
    base_model_prefix = "vision_model"
    main_input_name = "pixel_values"
    _supports_sdpa = True  # it has no attention
    def __init__(self, config):
        super().__init__(config)
        side = config.patch_size
        self.cut = torch.nn.Conv2d(3, config.hidden_size, side, stride=side)
        self.post_init()
    def forward(self, pixel_values, output_hidden_states=False, **kwargs):
        x = self.cut(pixel_values).flatten(2).mT
        return BaseModelOutputWithPooling(x, x.mean(1), (x, x))

@ENCODER_FAMILIES.register("mine")
class MineFamily(Family):
    """Patches, projected."""
    name, model_types, model, config = "mine", ("mine",), Mine, MineConfig
    positions, n_class_tokens = None, 0

class Options(Config):
    model_type: ClassVar[str] = "mine"
    image_size: int = 32
    patch_size: int = 8
    hidden_size: int = 16

@VISION_TOWERS.register("mine", options=Options)
def mine(options):
    """Patches, projected."""
    return Mine(MineConfig(**options.model_dump()))
'''


def config(**changes):
    return EncoderConfig.model_validate({**helpers.TINY_ENCODER, "vision": CONV, **changes})


def test_the_stem_is_made_from_tiles_of_all_classes(bank, monkeypatch):
    shown = []
    monkeypatch.setattr(
        ConvVisionModel, "begin_pretraining", lambda _, values: shown.append(len(values))
    )
    picked = class_of(train._some_of_all_classes(bank))
    prepare_encoder(config(), bank)
    assert shown == [len(picked)]
    assert set(picked) == set(range(len(bank.class_names)))
    assert np.bincount(picked).min() >= len(picked) // 10 - 1
    monkeypatch.setattr(train, "_WHITENED", 1)
    assert len(train._some_of_all_classes(bank)) == min(100, len(bank.tiles("train")))


def test_a_slice_with_one_value_per_channel_trains(bank, tmp_path):
    """It has no variance: the running statistics are used."""
    tiny = {"name": "conv", "image_size": 16, "widths": [8] * 4, "depth": 1}
    train_encoder(config(vision=tiny, batch_size=1, scenes={}, steps=2), tmp_path, bank)
    assert checkpoints_of(tmp_path)


def test_running_statistics_that_overflow_are_not_saved(bank, tmp_path, monkeypatch):
    def spoiled(tower, _):
        tower.layers[0].norm.running_var.fill_(torch.inf)

    monkeypatch.setattr(ConvVisionModel, "begin_pretraining", spoiled)
    with pytest.raises(UserError, match=r"vision_model\.layers\.0\.norm\.running_var"):
        train_encoder(config(), tmp_path, bank)
    assert not checkpoints_of(tmp_path)


@pytest.mark.parametrize(
    "layouts",
    [[{"lattice": 3}, {"lattice": 2}], [{"lattice": 2, "occupancy": 0.9}]],
)
def test_turns_are_of_scenes_with_equally_many_objects(layouts):
    with pytest.raises(ValueError, match="turns: needs layouts of one lattice, each with occu"):
        config(scenes={"turns": True, "layouts": layouts})
    config(scenes={"turns": True, "layouts": [{"lattice": 2}, {"lattice": 2, "scale": [1, 1.2]}]})


def test_a_tower_of_a_user_s_own_type_is_trained_resumed_attached_and_taught_from(
    lm_run, bank, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    with forget_imports():
        fields = {**helpers.TINY_ENCODER, "vision": "mine", "steps": 4}
        path = write_yaml(tmp_path / "e.yaml", fields)
        argv = ["encoder", "train", str(path), "--import", "own.py", "--out", "run"]
        assert main([*argv]) == 0
        newest = checkpoints_of(tmp_path / "run")[-1]
        (tmp_path / "run/results.json").unlink()
        assert main([*argv, "--resume"]) == 0
        opened = VisionTextDualEncoderModel.from_pretrained(newest)
        assert opened.config.vision_config.model_type == "mine"
        mm = {**helpers.TINY_MM, "lm": str(lm_run), "encoder": "run", "vision": {}}
        model, _ = build_gpt2v(validate(MMConfig, mm, "f.yaml"))
        assert torch.equal(model.vision_tower.cut.weight, opened.vision_model.cut.weight)
        assert load_teacher(config(vision=CONV, teacher="run")) is not None
