"""Configurations of functions: a file or an object, and keyword arguments for single fields."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf
from gpt2v.config.load import load, merge, validate

C = TypeVar("C", bound=Config)
Source = str | os.PathLike[str] | Config | None  # a YAML file, a configuration, or only defaults


def config_of(kind: type[C], source: Source, fields: Mapping[str, Any]) -> C:
    """The configuration of a call.

    Args:
        kind: its class.
        source: a YAML file, a configuration, or none: start from the defaults.
        fields: values of fields. A mapping for a field that is a configuration itself changes only
            the keys that it holds: `grid={"rows": 2}` leaves the columns as they are. So does a
            mapping of options without a name: `vision={"image_size": 48}`.

    Raises:
        UserError: the file cannot be read, or a value is wrong.
    """
    overrides = dict(dotted(kind, fields))
    if isinstance(source, Config):
        given = merge(source.model_dump(exclude_unset=True), overrides, kind.__name__)
        return validate(kind, given, "", kind.filled_later)
    if source is None:
        return validate(kind, merge({}, overrides, ""), "", kind.filled_later)
    return load(kind, Path(source), overrides)


def dotted(kind: type[Config], fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted key and plain value of each field that is given, at any depth of configurations."""
    for name, given in fields.items():
        value = _plain(given)
        field = kind.model_fields.get(name)
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, Config) and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", below) for key, below in dotted(inner, value))
        elif isinstance(value, Mapping) and field and _only_options(field, value):
            yield from ((f"{name}.{key}", option) for key, option in value.items())
        else:
            yield name, value


def _only_options(field: FieldInfo, value: Mapping[str, Any]) -> bool:
    """Whether a field chooses something by name, and the mapping only has options of it."""
    return "name" not in value and any(isinstance(mark, OneOf) for mark in field.metadata)


def _plain(value: Any) -> Any:
    """A value as YAML would give it: paths as text, configurations as mappings."""
    if isinstance(value, Config):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
