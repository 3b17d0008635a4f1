"""Vision towers: CLIP, SigLIP and DINOv2, from the hub, a folder, or `encoder train`.

Layers are indices into `hidden_states`. Position embeddings for another picture size are resampled
once, into the tower's own weights, so that what is saved needs no interpolation.
"""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.utils import cached_file

from gpt2v.config.models import VisionConfig
from gpt2v.errors import UserError, first_line
from gpt2v.model.clip import IMAGE_MEAN, IMAGE_STD
from gpt2v.model.files import load_pretrained

Channels = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True)
class Family:
    """What differs between the kinds of vision tower."""

    name: str
    model: type[PreTrainedModel]
    config: type[PreTrainedConfig]
    positions: str  # how the name of its position embeddings ends
    n_class_tokens: int  # before the patches
    mean: Channels  # that it was trained with, where its files do not say
    std: Channels


_CLIP = Family(
    "CLIP", CLIPVisionModel, CLIPVisionConfig, "position_embedding.weight", 1, IMAGE_MEAN, IMAGE_STD
)
_HALF = (0.5, 0.5, 0.5)
_SIGLIP = Family(
    "SigLIP", SiglipVisionModel, SiglipVisionConfig, "position_embedding.weight", 0, _HALF, _HALF
)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DINOV2 = Family(
    "DINOv2", Dinov2Model, Dinov2Config, "embeddings.position_embeddings", 1, *_IMAGENET
)
_BY_TYPE = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": _DINOV2,
}


@dataclass(frozen=True)
class Encoder:
    """A vision tower with the mean and standard deviation of each channel that it was fed with."""

    tower: PreTrainedModel
    mean: Channels
    std: Channels


def family_of(config: PreTrainedConfig) -> Family:
    """The family of a vision tower's configuration.

    Raises:
        ValueError: it is of none of them.
    """
    if config.model_type not in _BY_TYPE:
        raise ValueError(f"{config.model_type} is none of {', '.join(_BY_TYPE)}")
    return _BY_TYPE[config.model_type]


def parse_config(config: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
    """The configuration of a tower, from what a file holds."""
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    kind = values.pop("model_type", "clip_vision_model")
    if kind not in _BY_TYPE:
        raise ValueError(f"vision_config: {kind} is none of {', '.join(_BY_TYPE)}")
    return _BY_TYPE[kind].config(**values)


def new_encoder(config: VisionConfig) -> Encoder:
    """A CLIP vision tower from random weights."""
    values = config.model_dump()
    tower = CLIPVisionModel(
        CLIPVisionConfig(**values, intermediate_size=4 * config.hidden_size, hidden_act="gelu")
    )
    return Encoder(tower, _CLIP.mean, _CLIP.std)


def load_encoder(path: str, image_size: int | None = None, key: str = "encoder") -> Encoder:
    """The vision tower of a checkpoint, for pictures of `image_size` pixels (none: its own).

    Raises:
        UserError: the checkpoint is of another architecture, or a size does not fit.
    """
    try:
        kind = AutoConfig.from_pretrained(path).model_type
    except Exception as error:  # hub, file and format errors have no common type
        raise UserError(f"{key}: {path}: cannot be loaded: {first_line(error)}") from None
    if kind not in _BY_TYPE:
        raise UserError(
            f"{key}: {path}: a {kind} checkpoint; expected CLIP, SigLIP or DINOv2, with or without "
            "its text tower"
        )
    family = _BY_TYPE[kind]
    options = {"vision_use_head": False} if family is _SIGLIP else {}  # never read here
    tower = load_pretrained(family.model, path, key, **options)
    found = _normalisation(path)
    mean, std = found if found else (family.mean, family.std)
    if image_size is not None and image_size != tower.config.image_size:
        if image_size % tower.config.patch_size:
            raise UserError(
                f"image_size: {image_size} must be a multiple of the encoder's "
                f"{tower.config.patch_size}-pixel patches"
            )
        tower = resampled(tower, image_size)
    return Encoder(tower, mean, std)


def _normalisation(path: str) -> tuple[Channels, Channels] | None:
    """What the checkpoint's image processor says: in a file of its own, or within its processor's,
    where transformers 5 writes it. None where it has neither.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        try:
            file = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        except OSError as error:
            raise UserError(f"encoder: {path}: {name}: {first_line(error)}") from None
        if file is None:
            continue
        try:
            values = json.loads(Path(file).read_text("utf-8"))
            values = values.get("image_processor", values)
            mean, std = (tuple(map(float, values[k])) for k in ("image_mean", "image_std"))
            if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"encoder: {path}/{name}: needs image_mean and image_std") from None
        return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
    return None


def resampled(tower: PreTrainedModel, image_size: int) -> PreTrainedModel:
    """The same tower for other pictures: bicubic position embeddings, as transformers'
    `interpolate_pos_encoding` makes at every call.
    """
    family = family_of(tower.config)
    config = copy.deepcopy(tower.config)
    config.image_size = image_size
    state = tower.state_dict()
    (name,) = (name for name in state if name.endswith(family.positions))
    state[name] = resample_positions(
        state[name], family.n_class_tokens, image_size // config.patch_size
    )
    other = family.model(config)
    other.load_state_dict(state)
    return other


def resample_positions(positions: Tensor, n_class_tokens: int, side: int) -> Tensor:
    """Position embeddings (..., n_class_tokens + n**2, D) -> (..., n_class_tokens + side**2, D)."""
    table = positions.reshape(-1, positions.shape[-1])
    classes, patches = table[:n_class_tokens], table[n_class_tokens:]
    before = math.isqrt(len(patches))
    plane = patches.float().T.reshape(1, -1, before, before)
    plane = F.interpolate(plane, size=(side, side), mode="bicubic", align_corners=False)
    whole = torch.cat([classes, plane[0].flatten(1).T.to(table.dtype)])
    return whole.reshape(*positions.shape[:-2], *whole.shape)
