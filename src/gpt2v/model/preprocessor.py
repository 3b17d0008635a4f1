"""The preprocessor of a vision checkpoint: how it normalises pixels, and whether it would change a
picture of the tower's size in any other way.

Its fields are those of transformers' image processors. Pictures are drawn in the tower's size, so
resizing and cropping must not change them.
"""

import json
from typing import Any

from gpt2v.errors import UserError, first_line, within
from gpt2v.hub import optional_file
from gpt2v.model.families import Channels

# Image processors that resize, crop, rescale and normalise, and do nothing else.
PLAIN = ("Bit", "Blip", "CLIP", "DeiT", "Siglip", "ViT")
_SMALL, _LARGE = 1e-6, 1e9  # a smallest divisor and a largest number that fp32 can work with
_SIZES = {"do_resize": "size", "do_center_crop": "crop_size", "do_pad": "pad_size"}
_READ = {
    *("image_processor_type", "feature_extractor_type", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std", *_SIZES, *_SIZES.values()),
}
# Without effect on a picture in RGB and of the right size.
_NO_EFFECT = {
    *("processor_class", "model_input_names"),
    *("do_convert_rgb", "resample", "default_to_square", "data_format", "input_data_format"),
    *("return_tensors", "device", "disable_grouping", "image_seq_length"),
}


def read_normalisation(path: str, key: str, side: int | None) -> tuple[Channels, Channels] | None:
    """Mean and standard deviation of each channel of pixels from 0 to 1, as a checkpoint's
    preprocessor has them; None if it has no preprocessor.

    Args:
        path: a folder or a hub id.
        key: the key of `path` in the configuration, for messages.
        side: side in pixels of the pictures that it must not resize, crop or pad; None: any.

    Raises:
        UserError: the file is damaged, or it would change pictures in another way.
    """
    found = _read(path, key)
    if found is None:
        return None
    name, values = found
    with within(f"{key}: {path}/{name}: "):
        _check_known(values)
        if side is not None:
            _check_sizes(values, side)
        # (x * factor - mean) / std, for x from 0 to 255, in units of x / 255
        unit = 255 * _factor(values)
        mean, std = _channels(values)
        return _divided(mean, unit), _divided(std, unit)


def _read(path: str, key: str) -> tuple[str, dict[str, Any]] | None:
    """The name of the preprocessor's file, and its fields.

    As in transformers, a part of the processor's file comes before a file of its own.
    """
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            file = optional_file(path, name)
            text = None if file is None else file.read_text("utf-8")
            values = None if text is None else json.loads(text)
        except ValueError:
            raise UserError(f"{key}: {path}/{name}: is not a JSON file") from None
        except OSError as error:
            raise UserError(f"{key}: {path}/{name}: {first_line(error)}") from None
        if name == "processor_config.json" and isinstance(values, dict):
            if "image_processor" not in values:
                continue
            values = values["image_processor"]
        if values is not None:
            if not isinstance(values, dict):
                raise UserError(f"{key}: {path}/{name}: has no fields of an image processor")
            return name, values
    return None


def _check_known(values: dict[str, Any]) -> None:
    """Raise UserError for a type or a field that may change pixels in unknown ways."""
    kind = values.get("image_processor_type") or values.get("feature_extractor_type")
    known = [
        f"{name}{part}{end}"
        for name in PLAIN
        for part in ("ImageProcessor", "FeatureExtractor")
        for end in ("", "Fast", "Pil")
    ]
    if kind is not None and kind not in known:
        raise UserError(
            f"image_processor_type: {kind} may change pixels in ways that are not known here; "
            f"expected {', '.join(f'{name}ImageProcessor' for name in PLAIN)}"
        )
    for field, value in values.items():
        if field.startswith("_") or field == "transformers_version":  # notes of whoever wrote it
            continue
        if field not in _READ | _NO_EFFECT and value is not None and value is not False:
            raise UserError(f"{field}: {value!r}: unknown; remove it if it does not change pixels")
        if field.startswith("do_") and not isinstance(value, bool | None):
            raise UserError(f"{field}: {value!r} must be true or false")


def _does(values: dict[str, Any], step: str) -> bool:
    """Whether it takes a step, e.g. `do_pad`. As in transformers, null is no, and only padding may
    be left out.
    """
    return bool(values.get(step, step != "do_pad"))


def _check_sizes(values: dict[str, Any], side: int) -> None:
    """Raise UserError if a square picture of this side would be resized, cropped or padded."""
    for does, field in _SIZES.items():
        size = values.get(field)
        if size is None or not _does(values, does):
            continue
        sides = _sides(size, may_be_edge=field == "size")
        if not sides or any(one != side for one in sides):
            raise UserError(
                f"{field}: {size} is not the tower's {side}x{side} pixels; pictures are drawn in "
                "that size, and are not resized, cropped or padded. Set image_size to use the "
                f"tower with such pictures, e.g. image_size: {side}"
            )


def _sides(size: Any, may_be_edge: bool) -> list[Any]:
    """The sides of what a square picture becomes; empty if they are not known.

    Args:
        may_be_edge: whether the size may be that of the shortest edge.
    """
    if isinstance(size, list):
        return size if len(size) == 2 else []
    if not isinstance(size, dict):
        return [size]
    given = {name: value for name, value in size.items() if value is not None}
    if given.keys() == {"height", "width"}:
        return list(given.values())
    edges = {"shortest_edge"}, {"shortest_edge", "longest_edge"}
    if may_be_edge and given.keys() in edges and all(map(_is_number, given.values())):
        return [min(given.values())]
    return []


def _factor(values: dict[str, Any]) -> float:
    """What pixels from 0 to 255 are multiplied with."""
    if not _does(values, "do_rescale"):
        return 1.0
    factor: Any = values.get("rescale_factor")
    if factor is None:
        return 1 / 255
    if not _is_number(factor) or factor <= 0:
        raise UserError(f"rescale_factor: {factor!r} must be a number above 0")
    return float(factor)


def _channels(values: dict[str, Any]) -> tuple[Channels, Channels]:
    """The mean and standard deviation of each channel in the file."""
    if not _does(values, "do_normalize"):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    read = []
    for field in ("image_mean", "image_std"):
        given: Any = values.get(field)
        three = given if isinstance(given, list) else [given] * 3  # one number is for all
        if len(three) != 3 or not all(map(_is_number, three)):
            raise UserError(
                f"needs image_mean and image_std, each a number or three; {field} is {given!r}"
            )
        if field == "image_std" and min(three) < _SMALL:
            raise UserError(f"image_std: {given!r} must be above 0 (at least {_SMALL:g})")
        read.append((float(three[0]), float(three[1]), float(three[2])))
    return read[0], read[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGE


def _divided(three: Channels, by: float) -> Channels:
    return three[0] / by, three[1] / by, three[2] / by
