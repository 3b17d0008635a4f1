"""Distillation: an encoder learns the patches of another one, its teacher (Hinton et al. 2015,
https://arxiv.org/abs/1503.02531).

The student starts with the teacher's text tower, so both embed into the same space: patch by patch,
the student's embedding can be compared with the teacher's, and captions name either.

Shapes: P pictures, N patches of a picture, S side of a picture in pixels.
"""

import math
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPModel, CLIPTextConfig, PreTrainedConfig, VisionTextDualEncoderModel

from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.config.scenes import LayoutConfig
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError, first_line
from gpt2v.hardware.device import place
from gpt2v.model.clip import Clip, embed_patches, normalise
from gpt2v.model.encoders import encoder_config
from gpt2v.model.families import IMAGE_MEAN, IMAGE_STD, Channels, family_of, window_of
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import DUAL, find_checkpoint, read_config
from gpt2v.model.identity import Traceable
from gpt2v.model.preprocessor import read_normalisation
from gpt2v.model.projector import mean_of_regions
from gpt2v.model.remembered import Remembered

_KEY = "teacher"  # of the configuration, for messages
_REMEMBERED = 2**32  # bytes of a teacher's patches
_KINDS: dict[str, type[Clip]] = {"clip": CLIPModel, DUAL: VisionTextDualEncoderModel}
_WORDS = "clip_text_model"  # `model_type` of the text tower of both
# What decides the embedding of a caption, beside the weights.
_TEXT = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("hidden_act", "layer_norm_eps", "vocab_size", "max_position_embeddings", "eos_token_id"),
)


@dataclass(frozen=True)
class TeacherShape:
    """What the configuration of a teacher's checkpoint says.

    Attributes:
        path: the checkpoint.
        kind: class of the whole model.
        vision, text: configurations of its towers.
        projection_dim: width of the embeddings that pictures and captions share.
    """

    path: str
    kind: type[Clip]
    vision: PreTrainedConfig
    text: CLIPTextConfig
    projection_dim: int


@dataclass(frozen=True)
class Teacher(Traceable):
    """A trained encoder, frozen, with its tokenizer and the normalisation of its pixels."""

    clip: Clip
    tokenizer: Tokenizer
    mean: Channels
    std: Channels
    name: str  # a run or a checkpoint, as the user named it
    path: str  # a checkpoint directory
    pool: int = 1  # each patch becomes the mean of its `pool` x `pool` patches
    remembered: Remembered | None = None  # if windows are shown more than once

    @torch.no_grad()
    def patches(self, pixels: Pixels, normalised: Tensor) -> Tensor:
        """Embeddings (P, N, projection_dim) of the patches of pictures.

        Args:
            pixels: uint8 (P, S, S, 3).
            normalised: (P, 3, S, S) the same, as CLIP normalises them.
        """
        if (self.mean, self.std) != (IMAGE_MEAN, IMAGE_STD):
            normalised = normalise(pixels, normalised.device, self.mean, self.std)
        if self.remembered:
            patches = self.remembered.patches(pixels, normalised)
        else:
            patches = embed_patches(self.clip, normalised)[1]
        return _levelled(patches, self.pool)


def _levelled(patches: Tensor, pool: int) -> Tensor:
    """Patches (P, N, projection_dim), each the mean of its square of `pool` x `pool` patches."""
    means = mean_of_regions(patches, pool)
    side = math.isqrt(means.shape[1])
    squares = means.reshape(len(means), side, 1, side, 1, -1)
    return squares.expand(-1, -1, pool, -1, pool, -1).reshape(patches.shape)


def distillation_loss(patches: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of patches from the teacher's, by the teacher's mean squared norm.

    So it is 0 for equal patches, and 1 for patches that are zero.

    Args:
        patches: (P, N, projection_dim) patch embeddings of the student, not normalised.
        teacher: likewise, of the teacher.
    """
    there = teacher.float()  # squares leave the range of fp16
    norm = there.square().sum(-1).mean().clamp_min(torch.finfo(there.dtype).tiny)
    return (patches.float() - there).square().sum(-1).mean() / norm


def teacher_shape(teacher: str) -> TeacherShape:
    """The shape of a teacher, without loading it.

    Args:
        teacher: a run or a checkpoint.

    Raises:
        UserError: it cannot be read, or it is no vision tower beside a CLIP text tower.
    """
    path = find_checkpoint(teacher, _KEY)
    values = read_config(path, _KEY)
    kind, text = values.get("model_type"), values.get("text_config", {})
    if kind not in _KINDS or text.get("model_type", _WORDS) != _WORDS:
        has_text = f" with a {text['model_type']}" if kind in _KINDS else ""
        raise UserError(
            f"{_KEY}: {teacher}: it is a {kind} checkpoint{has_text}; an encoder with its CLIP "
            "text tower is needed: a run of `encoder train`, or a checkpoint of one"
        )
    vision = encoder_config(path, key=_KEY)
    try:
        words, size = CLIPTextConfig(**text), int(values.get("projection_dim", 512))
    except Exception as error:  # wrong values have no common type
        raise UserError(f"{_KEY}: {path}: config.json: {first_line(error)}") from None
    return TeacherShape(path, _KINDS[kind], vision, words, size)


def load_teacher(config: EncoderConfig) -> Teacher | None:
    """The teacher that a configuration names, if it names one, on the chosen device.

    Raises:
        UserError: it cannot be loaded, or its pictures or patches are not those of `vision`.
    """
    if config.teacher is None:
        return None
    name = config.teacher
    shape = teacher_shape(name)
    _check_pictures(config, shape.vision)
    family = family_of(shape.vision)
    read = read_normalisation(shape.path, _KEY, shape.vision.image_size)
    mean, std = read or (family.mean, family.std)
    tokenizer = load_tokenizer(shape.path, _KEY)
    clip = load_pretrained(shape.kind, shape.path, _KEY, elsewhere=None)
    clip = place(clip).eval().requires_grad_(False)
    return Teacher(
        clip, tokenizer, mean, std, name, shape.path, config.teacher_pool, _remembered(config, clip)
    )


def _remembered(config: EncoderConfig, clip: Clip) -> Remembered | None:
    """What remembers a teacher's windows, if it has them and the same ones are drawn again."""
    tower = clip.vision_model.config
    window = window_of(tower)
    augment, scenes = config.tiles.augment, config.scenes
    varied = augment != TileAugmentConfig() and augment.versions is None
    varied |= bool(scenes.jitter or scenes.cut)
    if window is None or varied:
        return None
    if not all(_is_cut_into(window, layout, tower.image_size) for layout in scenes.layouts):
        return None
    mirror = getattr(tower, "mirror", False)
    return Remembered(lambda windows: embed_patches(clip, windows)[1], window, _REMEMBERED, mirror)


def _is_cut_into(window: int, layout: LayoutConfig, side: int) -> bool:
    """Whether each window of a scene is the same part of a tile whenever that is drawn."""
    fills = layout.scale == [1, 1] and layout.occupancy == 1
    return fills and side % (layout.lattice * window) == 0


def _check_pictures(config: EncoderConfig, teacher: PreTrainedConfig) -> None:
    """Raise UserError unless the patches of both are the same squares of the same pictures.

    And unless `teacher_pool` divides them.
    """
    own, where = config.vision.options, f"{_KEY}: {config.teacher}"
    if teacher.image_size != own.image_size:
        raise UserError(
            f"{where}: its pictures are of {teacher.image_size} pixels, but those of vision are of "
            f"{own.image_size}; set vision.image_size to {teacher.image_size}"
        )
    there, here = (one.image_size // one.patch_size for one in (teacher, own))
    if there != here:
        raise UserError(
            f"{where}: its pictures are {there} x {there} patches, but those of vision are "
            f"{here} x {here}; choose a vision with patches of {teacher.patch_size} pixels"
        )
    if here % config.teacher_pool:
        raise UserError(
            f"teacher_pool: {config.teacher_pool} must divide the {here} patches along a side"
        )


@torch.no_grad()
def take_text_tower(clip: Clip, teacher: Teacher) -> None:
    """Copy the teacher's text tower, projection of captions and scale into an untrained encoder.

    Raises:
        UserError: the teacher's text tower is not as `encoder train` makes them.
    """
    own, other = clip.config.text_config, teacher.clip.config.text_config
    for name in _TEXT:
        here, there = getattr(own, name), getattr(other, name)
        if here != there:
            raise UserError(
                f"{_KEY}: {teacher.name}: {name} of its text tower is {there}, but `encoder train` "
                f"makes them with {here}; choose a run of `encoder train`"
            )
    for part in ("text_model", "text_projection"):
        getattr(clip, part).load_state_dict(getattr(teacher.clip, part).state_dict())
    clip.logit_scale.copy_(teacher.clip.logit_scale)
