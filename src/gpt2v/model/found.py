"""Find a checkpoint by the name that a user gives, and read its config.json. Needs no torch."""

import json
from pathlib import Path
from typing import Any

from gpt2v.data.data_files import check_here
from gpt2v.errors import UserError, first_line, within
from gpt2v.extensions import check_imports
from gpt2v.hub import looks_local, needed_file, refuse_auto_map, refuse_code
from gpt2v.messages import shown
from gpt2v.paths import expanded
from gpt2v.run_layout import CHECKPOINTS, checkpoints_of
from gpt2v.runs import restored
from gpt2v.storage.manifest import verify

GPT2V, LLAVA = "gpt2v", "llava"  # `model_type` of a GPT-2v: our own, and as `mm export` writes it
DUAL = "vision-text-dual-encoder"  # that of an encoder whose vision tower is not CLIP's
_PARTS = ("text_config", "vision_config")  # configurations of the parts of a model


def find_checkpoint(model: str, key: str, whole: bool = True) -> str:
    """The path of a run's newest checkpoint, or the given checkpoint directory or hub id itself.

    Args:
        model: a run, a checkpoint directory or a hub id.
        key: name of the setting, for messages.
        whole: whether to compare its files with its manifest.

    Raises:
        UserError: a local path has no checkpoint, or its files do not match its manifest.
    """
    with within(f"{key}: "):
        path = restored(expanded(model))
    if not path.exists():
        if looks_local(model):
            raise UserError(f"{key}: {model}: no such run or checkpoint")
        return model
    if (path / CHECKPOINTS).is_dir():
        steps = checkpoints_of(path)
        if not steps:
            raise UserError(f"{key}: {model}: this run has no checkpoint")
        path = steps[-1]
    if not (path / "config.json").is_file():
        raise UserError(f"{key}: {model}: no config.json here; expected a run or a checkpoint")
    fault = verify(path) if whole else ""
    if fault:
        raise UserError(f"{key}: {fault}")
    return str(path)


def check_run_imports(path: str) -> None:
    """Check that the files are imported that the run of a checkpoint was made with.

    Raises:
        UserError: one is not, or has changed.
    """
    for folder in (Path(path), *list(Path(path).parents)[:2]):  # checkpoint, checkpoints/, run
        check_imports(folder)


def is_gpt2v(config: dict[str, Any]) -> bool:
    """Whether a checkpoint with this configuration is a GPT-2v, or one exported as LLaVA."""
    return config.get("model_type") in (GPT2V, LLAVA)


def check_is_gpt2v(config: dict[str, Any], where: str) -> None:
    """Raise UserError unless a checkpoint with this configuration is a GPT-2v.

    Args:
        where: begins the message: the setting and the model.
    """
    if not is_gpt2v(config):
        kind = config.get("model_type")
        encoder = "an encoder reads no text"
        known = {"gpt2": "a GPT-2 has no vision tower", "clip": encoder, DUAL: encoder}
        raise UserError(
            f"{where}: {known.get(str(kind), f'it is a {kind} checkpoint')}; a GPT-2v is needed: a "
            "run of `mm train`, or a checkpoint of one"
        )


def read_config(path: str, key: str) -> dict[str, Any]:
    """The content of a checkpoint's config.json.

    Args:
        path: a folder or a hub id.
        key: name of the setting, for messages.

    Raises:
        UserError: it cannot be read, the checkpoint needs Python code of its own, or its weights
            are quantised.
    """
    try:
        file = needed_file(path, "config.json")
        refuse_code(file.parent, key)
        with within(f"{key}: "):
            check_here(file)
        config = json.loads(file.read_text("utf-8"))
    except UserError:
        raise
    except ValueError:  # also bytes that are not UTF-8
        raise UserError(f"{key}: {path}: cannot be loaded: '{file}' is not a JSON file") from None
    except Exception as error:  # hub, file and format errors have no common type
        raise UserError(f"{key}: {path}: cannot be loaded: {first_line(error)}") from None
    return _checked(config, f"{key}: {path}: config.json")


def _checked(config: Any, where: str) -> dict[str, Any]:
    """A configuration, unless it is none, or that of a model that cannot be opened."""
    if not isinstance(config, dict):
        raise UserError(f"{where}: must hold a mapping of keys to values, not {shown(config)}")
    refuse_auto_map(config, where)
    for key, part in {"": config, **{f"{name}.": config.get(name) for name in _PARTS}}.items():
        if key.removesuffix(".") in config and not isinstance(part, dict):
            raise UserError(f"{where}: {key[:-1]}: must be a mapping, not {shown(part)}")
        if part and part.get("quantization_config") is not None:
            raise UserError(f"{where}: {key}quantization_config: quantised weights cannot be used")
    return config
