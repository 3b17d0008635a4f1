"""Families of vision towers: CLIP, SigLIP, DINOv2, and our own. Importing this does not import
transformers.

A family is a class registered in `ENCODER_FAMILIES`. The `model_type` in a checkpoint's
configuration tells its family.
"""

from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from gpt2v.config.choice import choose
from gpt2v.config.models import ConvConfig
from gpt2v.errors import UserError
from gpt2v.registry import ENCODER_FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

FAMILY_KEY = "encoder_family"  # in a tower's configuration, if a family was chosen

Channels = tuple[float, float, float]  # red, green, blue

# Mean and standard deviation of each channel: OpenAI's CLIP normalises pixels with them.
IMAGE_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD: Channels = (0.26862954, 0.26130258, 0.27577711)

# Names of weights in checkpoints of vision towers that belong to other parts: a text tower, heads.
OTHER_PARTS = (
    r"text_model\.|text_projection\.|visual_projection\.|logit_(scale|bias)$|classifier\."
    r"|(vision_model\.)?head\."
)


class Family:
    """The properties in which families of vision towers differ.

    Attributes:
        name: its name in messages.
        model_types: `model_type` of its checkpoints, with or without a text tower.
        model: the tower's class: its name in transformers, `module:name`, or the class itself.
        config: the configuration's class, likewise.
        load_options: arguments of the tower's `from_pretrained`.
        elsewhere: regular expression of names of weights in its checkpoints that are not the
            tower's, such as the text tower's; any other weight must have a place in the tower.
        positions: end of the name of its position embeddings; none: it has none.
        n_class_tokens: number of tokens before the patches.
        mean: mean of each channel, for checkpoints whose files do not have it.
        std: standard deviation of each channel, likewise.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]
    model: ClassVar[Any]
    config: ClassVar[Any]
    load_options: ClassVar[dict[str, Any]] = {}
    elsewhere: ClassVar[str] = OTHER_PARTS
    positions: ClassVar[str | None] = "position_embedding.weight"
    n_class_tokens: ClassVar[int] = 1
    mean: ClassVar[Channels] = IMAGE_MEAN
    std: ClassVar[Channels] = IMAGE_STD

    def __init_subclass__(cls) -> None:
        for model_type in getattr(cls, "model_types", ()):
            if other := family_by_type(model_type):
                raise UserError(
                    f"{cls.__name__}.model_types: '{model_type}' belongs to {other.name} already"
                )

    @cached_property
    def model_class(self) -> Any:
        """The class of the tower."""
        return _class_at(self.model)

    @cached_property
    def config_class(self) -> Any:
        """The class of its configuration."""
        return _class_at(self.config)

    def tell_transformers(self) -> None:
        """Let transformers make and open the tower in a VisionTextDualEncoderModel."""
        from transformers import AutoConfig, AutoModel

        if self.model_class.__module__.startswith("transformers."):
            return
        AutoConfig.register(self.config_class.model_type, self.config_class, exist_ok=True)
        AutoModel.register(self.config_class, self.model_class, exist_ok=True)


def family_by_type(model_type: str, named: Any = None) -> Family | None:
    """The family with this `model_type`; None if there is no such family.

    Args:
        named: name of a family, or a mapping of a name and options, whatever the type.
    """
    for name, entry in ENCODER_FAMILIES.items():
        if named is not None or model_type in entry.at.model_types:
            choice = choose(ENCODER_FAMILIES, name if named is None else named)
            family: Family = choice.load()()
            return family
    return None


def family_of(config: "PreTrainedConfig") -> Family:
    """The family of a vision tower's configuration: the one it names, or that of its type.

    Raises:
        ValueError: no family has its type.
    """
    family = family_by_type(config.model_type, getattr(config, FAMILY_KEY, None))
    if family is None:
        raise ValueError(f"{config.model_type} is none of {', '.join(known_types())}")
    return family


def window_of(config: "PreTrainedConfig") -> int | None:
    """Side in pixels of the squares that a tower sees each by itself; None: it sees pictures."""
    window: int | None = getattr(config, "window", None)
    return window


def _class_at(place: Any) -> Any:
    if not isinstance(place, str):
        return place
    module, _, name = place.rpartition(":")
    return getattr(import_module(module or "transformers"), name)


@ENCODER_FAMILIES.register("clip")
class CLIP(Family):
    """CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020)."""

    name = "CLIP"
    model_types = ("clip", "clip_vision_model")
    model, config = "CLIPVisionModel", "CLIPVisionConfig"


@ENCODER_FAMILIES.register("siglip")
class SigLIP(Family):
    """SigLIP (Zhai et al. 2023, https://arxiv.org/abs/2303.15343)."""

    name = "SigLIP"
    model_types = ("siglip", "siglip_vision_model")
    model, config = "SiglipVisionModel", "SiglipVisionConfig"
    load_options: ClassVar = {"vision_use_head": False}  # the pooling head is never used
    n_class_tokens = 0
    mean = std = (0.5, 0.5, 0.5)


@ENCODER_FAMILIES.register("dinov2")
class DINOv2(Family):
    """DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193)."""

    name = "DINOv2"
    model_types = ("dinov2",)
    model, config = "Dinov2Model", "Dinov2Config"
    positions = "embeddings.position_embeddings"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@ENCODER_FAMILIES.register("conv")
class Conv(Family):
    """The convolutional tower of `vision: conv` (after Jordan 2024, https://arxiv.org/abs/2404.00498)."""

    name = "convolutional"
    model_types = (ConvConfig.model_type,)
    model, config = "gpt2v.model.conv:ConvVisionModel", "gpt2v.model.conv:ConvVisionConfig"
    positions = None
    n_class_tokens = 0


def known_types() -> list[str]:
    """The `model_type`s of all families."""
    return [
        model_type for entry in ENCODER_FAMILIES.values() for model_type in entry.at.model_types
    ]
