"""Read configurations: a YAML file and options of the command line are merged and validated.

A mistake becomes a one-line error with the file, the key and what is allowed.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf
from gpt2v.config.effect import has_default
from gpt2v.config.mistakes import first_mistake, impossible_value
from gpt2v.config.origins import told, with_origin
from gpt2v.config.yaml12 import dump_yaml, read_yaml
from gpt2v.errors import UserError
from gpt2v.extensions import check_imports
from gpt2v.messages import shown
from gpt2v.packaged import CONFIGS

C = TypeVar("C", bound=Config)
_INDEX = re.compile("[0-9]{1,9}")


def merge(base: dict[str, Any], overrides: dict[str, Any], origin: str) -> dict[str, Any]:
    """Set dotted keys (`train.seed`, `data.stages.0.steps`) in a copy of a nested mapping.

    Args:
        origin: name of the file, for messages.

    Raises:
        UserError: a key leads to nothing in `base`.
    """
    with told(origin, overrides):
        return _merged(base, overrides)


def _merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(base)
    for key, value in overrides.items():
        node: Any = result
        parts = key.split(".")
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            where: Any = part
            if isinstance(node, list):
                if not _INDEX.fullmatch(part) or int(part) >= len(node):
                    raise UserError(f"{key}: '{part}' must be a number under {len(node)}")
                where = int(part)
            elif isinstance(node, dict):
                if _INDEX.fullmatch(part) and int(part) in node:  # the number of a stage
                    where = int(part)
            else:
                raise UserError(f"{key}: no key '{part}': the value above is no mapping")
            if following is not None and isinstance(_below(node, where), str):
                node[where] = {"name": node[where]}  # `--projector.hidden_size` of `projector: mlp`
            if following is None:
                node[where] = value
            elif isinstance(node, dict):
                if node.get(where) is None:
                    node[where] = {}
                node = node[where]
            else:
                node = node[where]
    return result


def _below(node: Any, where: Any) -> Any:
    """What a mapping or a list holds under a key or number; none: nothing."""
    return node.get(where) if isinstance(node, dict) else node[where]


def load(
    kind: type[C], path: str | Path | None, overrides: dict[str, Any], beside: Sequence[str] = ()
) -> C:
    """Read a YAML file, merge the overrides and validate the result.

    Args:
        kind: class of the configuration.
        path: the file, or the name of one that comes with gpt2v (`gpt2v:lm/grid-tiny`); none:
            start from an empty configuration.
        overrides: values for dotted keys.
        beside: top-level keys to ignore; other commands on the same data use them.

    Raises:
        UserError: the file or a value is wrong; one line with the file and the key, or the option
            as it was typed, and what is allowed.
    """
    origin = "command line" if path is None else str(path)
    content = {} if path is None else read_mapping(path)
    data = {key: value for key, value in content.items() if key not in beside}
    return validate(kind, merge(data, overrides, origin), origin, kind.filled_later, overrides)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping, without validating it.

    Args:
        path: the file, or the name of one that comes with gpt2v.

    Raises:
        UserError: the file cannot be read or holds no mapping, or it belongs to a run that needs a
            file which was not imported.
    """
    file = CONFIGS.path(path)
    check_imports(file.parent)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        hint = CONFIGS.hint(path) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: cannot read the configuration: {reason}{hint}") from None
    data = read_yaml(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping of keys to values at the top level")
    return data


def validate(
    kind: type[C],
    data: dict[str, Any],
    origin: str,
    filled_later: bool = False,
    overrides: Iterable[str] = (),
) -> C:
    """Validate a mapping.

    Args:
        origin: name of the file, for messages; may be empty.
        filled_later: whether what is not given is still to come, so that it is not compared.
        overrides: dotted keys of the values that are not from the file, for messages.

    Raises:
        UserError: a value is wrong; one line about the first mistake.
    """
    if fault := impossible_value(data):
        raise UserError(with_origin(fault, origin, overrides))
    try:
        return kind.model_validate(data, context={"filled_later": filled_later})
    except ValidationError as error:
        raise UserError(with_origin(first_mistake(kind, error), origin, overrides)) from None


def dump(config: Config) -> str:
    """The configuration as YAML, with every field."""
    return dump_yaml(config.model_dump())


def difference(path: Path, config: Config) -> str:
    """The first difference between a configuration file and `config`; empty if there is none.

    A field that the file lacks, because it is newer, had its default. So had the name and options
    of what a field chooses.
    """
    try:
        written = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError):
        return "cannot be read"
    return _differs(written, config.model_dump(), config, "")


def _differs(one: Any, other: Any, now: object, key: str) -> str:
    """The first difference of written values from those that `now` has, `other` in plain form."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = {**one, **other}
        if isinstance(now, Config):
            one = {name: _whole_choice(now, name, value) for name, value in one.items()}
            new = {name for name in other if name not in one and has_default(now, name)}
            names = {name: None for name in names if name not in new | {*now.changeable}}
            now = dict(now)
        inner = now if isinstance(now, dict) else {}
        parts = [(str(name), one.get(name), other.get(name), inner.get(name)) for name in names]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        items = now if isinstance(now, list | tuple) else other
        numbers = map(str, range(len(one)))
        parts = list(zip(numbers, one, other, items, strict=True))
    else:
        return "" if one == other else f"{key}: {shown(one)} there, {shown(other)} now"
    differences = (
        _differs(a, b, inside, f"{key}.{name}" if key else name) for name, a, b, inside in parts
    )
    return next(filter(None, differences), "")


def _whole_choice(config: Config, name: str, written: Any) -> Any:
    """The written value of a field; if the field chooses something, with all of its options."""
    field = type(config).model_fields.get(name)
    for mark in field.metadata if field is not None else ():
        if isinstance(mark, OneOf):
            with suppress(ValueError):  # what it names is no longer there
                return mark.validate(written).plain()
    return written
