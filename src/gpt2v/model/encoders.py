"""Vision towers of every family, from the hub, a folder, or `encoder train`."""

from dataclasses import dataclass
from typing import Any

from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from gpt2v.config.choice import Choice
from gpt2v.config.models import TextTowerConfig, VisionConfig
from gpt2v.errors import UserError, first_line
from gpt2v.hardware.memory import check_blocks_fit
from gpt2v.hub import needed_file
from gpt2v.messages import shown
from gpt2v.model.families import (
    FAMILY_KEY,
    Channels,
    Family,
    family_by_type,
    family_of,
    known_types,
    window_of,
)
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import DUAL, read_config
from gpt2v.model.preprocessor import read_normalisation
from gpt2v.model.resampling import resampled
from gpt2v.registry import ENCODER_FAMILIES, VISION_TOWERS


@dataclass(frozen=True)
class Encoder:
    """A vision tower, with the mean and standard deviation of each channel of its pixels."""

    tower: PreTrainedModel
    mean: Channels
    std: Channels


def parse_config(config: dict[str, Any] | PreTrainedConfig | None) -> PreTrainedConfig:
    """The configuration of a tower, from the values in a file.

    Raises:
        ValueError: no family has its type, or its pictures are not square and in colour.
    """
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    model_type = values.pop("model_type", "clip_vision_model")
    family = family_by_type(model_type, values.get(FAMILY_KEY))
    if family is None:
        raise ValueError(f"vision_config: {model_type} is none of {', '.join(known_types())}")
    try:
        parsed: PreTrainedConfig = family.config_class(**values)
        parsed.update(_square_sides(parsed))
    except ValueError as error:
        raise ValueError(f"vision_config: {error}") from None
    return parsed


def _square_sides(config: PreTrainedConfig) -> dict[str, int]:
    """The sides of pictures and patches in pixels, which files may also have as pairs.

    Raises:
        ValueError: pictures or patches are not square, or have other channels than red, green and
            blue.
    """
    sides = {}
    for name in ("image_size", "patch_size"):
        value = getattr(config, name, None)
        pair = list(value) if isinstance(value, list | tuple) else [value]
        if len(pair) not in (1, 2) or pair[0] != pair[-1] or not isinstance(pair[0], int):
            raise ValueError(f"{name}: {value} must be one number of pixels, as it is of a square")
        if pair[0] < 1:
            raise ValueError(f"{name}: {value} must be above 0")
        sides[name] = pair[0]
    n_channels = getattr(config, "num_channels", 3)
    if n_channels != 3:
        raise ValueError(f"num_channels: {n_channels} must be 3, as pictures have three colours")
    return sides


def check_layer(vision: PreTrainedConfig, layer: Any, key: str = "vision_layer") -> None:
    """Check that a layer of a vision tower can be read: it exists, and has the last one's patches.

    Args:
        layer: index into the tower's `hidden_states`.
        key: of the layer, for messages.

    Raises:
        UserError: it cannot.
    """
    depth = vision.num_hidden_layers
    if not isinstance(layer, int) or not -depth - 1 <= layer <= depth:
        raise UserError(f"{key}: {shown(layer)} must lie in {-depth - 1}..{depth}")
    sizes: list[int] | None = getattr(vision, "layer_patch_sizes", None)
    if sizes is None or sizes[layer] == sizes[-1]:
        return
    fitting = [i for i, size in enumerate(sizes) if size == sizes[-1]]
    fitting += [i - len(sizes) for i in reversed(fitting)]
    raise UserError(
        f"{key}: {layer}: its patches are {sizes[layer]} pixels wide, but the last layer's are "
        f"{sizes[-1]}; choose from {', '.join(map(str, fitting))}"
    )


def check_tower(config: VisionConfig | TextTowerConfig, key: str) -> None:
    """Refuse a new tower that is too large for this machine's memory.

    Raises:
        UserError: it is; names the keys.
    """
    what = f"{key}.num_hidden_layers, hidden_size: a tower of this size"
    check_blocks_fit(config.num_hidden_layers, config.hidden_size, what)


def new_encoder(vision: Choice) -> Encoder:
    """The chosen vision tower with random weights.

    Raises:
        UserError: it is too large for this machine's memory, or no encoder family has its type.
    """
    tower = vision.load()()
    try:
        family = family_of(tower.config)
    except ValueError as error:
        raise UserError(f"vision: {vision}: {error}") from None
    family.tell_transformers()
    return Encoder(tower, family.mean, family.std)


def new_clip_tower(options: VisionConfig) -> CLIPVisionModel:
    """A CLIP vision tower with random weights.

    Raises:
        UserError: it is too large for this machine's memory.
    """
    check_tower(options, "vision")
    values = options.model_dump()
    return CLIPVisionModel(
        CLIPVisionConfig(**values, intermediate_size=4 * options.hidden_size, hidden_act="gelu")
    )


def shape_of(config: PreTrainedConfig) -> Choice:
    """The value of `vision` that a tower's configuration amounts to; towers of hubs are as `clip`.

    What its options do not allow is kept as it is: these are the facts.
    """
    types = {getattr(entry.options, "model_type", None): n for n, entry in VISION_TOWERS.items()}
    name = types.get(config.model_type, "clip")
    kind: Any = VISION_TOWERS[name].options
    there = {key: getattr(config, key) for key in kind.model_fields if hasattr(config, key)}
    return Choice(name, VISION_TOWERS, kind.model_construct(**there))


def _family(path: str, key: str, named: Choice | None) -> Family:
    """The family of a checkpoint; see `load_encoder`."""
    config = read_config(path, key)
    if config.get("model_type") == DUAL and "vision_config" in config:
        config = config["vision_config"]
    model_type = str(config.get("model_type"))
    own = family_by_type(model_type, named)
    if own is None:
        names = [entry.at.name for entry in ENCODER_FAMILIES.values()]
        raise UserError(
            f"{key}: {path}: a {model_type} checkpoint; expected {', '.join(names[:-1])} or "
            f"{names[-1]}, with or without its text tower"
        )
    own.tell_transformers()
    return own


def encoder_config(
    path: str,
    image_size: int | None = None,
    family: Choice | None = None,
    key: str = "encoder",
) -> PreTrainedConfig:
    """The configuration of the tower that `load_encoder` loads, without loading it.

    Args:
        path, image_size, family, key: see there.

    Raises:
        UserError: it cannot be read, or is of another architecture.
    """
    config = _tower_config(path, key, _family(path, key, family))
    config.image_size = image_size or config.image_size
    return config


def _tower_config(path: str, key: str, family: Family) -> PreTrainedConfig:
    """The configuration of a checkpoint's tower, with sides as one number of pixels."""
    try:
        folder = needed_file(path, "config.json").parent
        config: PreTrainedConfig = family.config_class.from_pretrained(
            folder, trust_remote_code=False
        )
    except Exception as error:  # hub, file and format errors have no common type
        raise UserError(f"{key}: {path}: cannot be loaded: {first_line(error)}") from None
    try:
        if not isinstance(config.model_type, str):
            raise ValueError(f"vision_config.model_type: {config.model_type} must be text")
        sides = _square_sides(config)
    except ValueError as error:
        raise UserError(f"{key}: {path}/config.json: {error}") from None
    for name, side in sides.items():
        setattr(config, name, side)
    return config


def load_encoder(
    path: str,
    image_size: int | None = None,
    key: str = "encoder",
    family: Choice | None = None,
) -> Encoder:
    """The vision tower of a checkpoint.

    Args:
        path: a folder or a hub id.
        image_size: side of its pictures in pixels; None: the size in its configuration.
        key: the key of `path` in the configuration, for messages.
        family: None: the family of the checkpoint's type.

    Raises:
        UserError: the checkpoint cannot be loaded, it is of another architecture, its preprocessor
            or its sizes are not those of our pictures, or `image_size` is not a multiple of the
            patch size.
    """
    own = _family(path, key, family)
    config = _tower_config(path, key, own)
    whole = config.image_size if image_size is None else None  # else the user decides
    normalisation = read_normalisation(path, key, whole)
    mean, std = normalisation or (own.mean, own.std)
    sides = {"image_size": config.image_size, "patch_size": config.patch_size}
    tower = load_pretrained(own.model_class, path, key, own.elsewhere, **sides, **own.load_options)
    if family is not None:  # kept with the weights, for whoever opens them
        setattr(tower.config, FAMILY_KEY, family.plain())
    if image_size is not None and image_size != tower.config.image_size:
        window = window_of(tower.config)
        step, what = (window, "windows") if window else (tower.config.patch_size, "patches")
        if image_size % step:
            raise UserError(
                f"image_size: {image_size} must be a multiple of the encoder's {step}-pixel {what}"
            )
        tower = resampled(tower, image_size)
    return Encoder(tower, mean, std)
