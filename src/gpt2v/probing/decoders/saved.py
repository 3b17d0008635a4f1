"""Fitted decoders as safetensors files.

The metadata has `format`, and `about` as JSON: what the caller says about it (site, layer, cell,
class names, hash of the features ...) and `decoder`, its name in `DECODERS`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as packed

from gpt2v.errors import UserError, first_line
from gpt2v.probing.decoders.base import Fitted
from gpt2v.registry import DECODERS
from gpt2v.storage.files import write_bytes

_FORMAT = "gpt2v decoder 1"


def save(path: Path, fitted: Fitted, about: Mapping[str, Any]) -> None:
    """Write a fitted decoder, whole or not at all.

    Args:
        about: what is told about it, with the name of the `decoder`; all can be JSON.

    Raises:
        UserError: it cannot be written.
    """
    assert about["decoder"] in DECODERS
    metadata = {"format": _FORMAT, "about": json.dumps(about)}
    tensors = {name: array.copy(order="C") for name, array in fitted.tensors().items()}
    write_bytes(path, packed(tensors, metadata))


def load(path: Path, features: str | None = None) -> tuple[Fitted, dict[str, Any]]:
    """A fitted decoder, and what was said about it.

    Args:
        features: hash of the features that it will read; None: any.

    Raises:
        UserError: the file is missing or damaged, holds something else, a decoder that is not
            registered, or one of other features.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read: {first_line(error)}") from None
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path}: holds no fitted decoder")
    about = json.loads(metadata["about"])
    if features is not None and about.get("features") != features:
        raise UserError(
            f"{path}: was fitted on features {about.get('features')}, not on {features}: those of "
            "another model, site or rule of cells"
        )
    fitted: Fitted = DECODERS[about["decoder"]].load().opened(tensors)
    return fitted, about
