"""The text of an option on the command line becomes a value by the type of the option's field.

Text for a field that takes strings is taken as it is, so that paths and names need no quotes of
YAML: `--tiles.path 'photos #2'`. `null` means none, where the field may be none. Everything else is
YAML. So are lists, and mappings `{name: NAME, OPTION: VALUE}` of a name and options.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from gpt2v.config.choice import OneOf, SharesOf
from gpt2v.config.yaml12 import plain_scalar, read_yaml
from gpt2v.registry import Registry


def values_of(kind: type[BaseModel], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values of options, by dotted key, for a class of configurations.

    Raises:
        UserError: a text that must be YAML is not; names the option.
    """
    return {key: _value(text, _types_at(kind, key), f"--{key}") for key, text in texts.items()}


def choice_of(registry: Registry, text: str, origin: str) -> Any:
    """The value of an option that names something registered: a name, or a mapping with options.

    Raises:
        UserError: a mapping that is not valid YAML; names the option, `origin`.
    """
    return _value(text, _types(OneOf(registry)), origin)


def _value(text: str, types: set[type], origin: str) -> Any:
    """What a text means, if a field takes values of these plain types."""
    if text == "":
        return ""
    if str not in types or (text[0] in "[{" and {"[": list, "{": dict}[text[0]] in types):
        return read_yaml(text, origin)
    try:
        value = plain_scalar(text)
    except ValueError:  # a very long number
        return text
    if value is None:
        return None if text == "null" and NoneType in types else text
    takes = type(value) in types or (type(value) is int and float in types)
    return value if takes else text


def _types_at(kind: type[BaseModel], key: str) -> set[type]:
    """The plain types that the field with a dotted key takes; empty: there is no such field."""
    annotations: list[Any] = [kind]
    for part in key.split("."):
        annotations = [below for one in annotations for below in _below(one, part)]
    return {found for one in annotations for found in _types(one)}


@dataclass(frozen=True)
class _Share:
    """Annotation of a share of something registered, `2` or `{weight: 2, OPTION: VALUE}`."""

    options: type[BaseModel] | None


def _below(annotation: Any, part: str) -> Iterator[Any]:
    """The annotations of what has a name, or a number, in values of an annotation."""
    for one in _alternatives(annotation):
        origin, inner = get_origin(one), get_args(one)
        if isinstance(one, OneOf):
            entries = one.registry.values()
            yield from [str] if part == "name" else _fields((e.options for e in entries), part)
        elif isinstance(one, SharesOf):
            if part in one.registry:
                yield _Share(one.registry[part].options)
        elif isinstance(one, _Share):
            yield from [float] if part == "weight" else _fields([one.options], part)
        elif _is_a(one, BaseModel):
            yield from _fields([one], part)
        elif _is_a(origin, Mapping) and len(inner) == 2:
            yield inner[1]
        elif _is_a(origin, Collection) and inner:
            yield inner[0]


def _fields(models: Iterable[type[BaseModel] | None], name: str) -> Iterator[Any]:
    """The annotations of the fields with a name; what pydantic has split off is put back."""
    for model in models:
        if model is not None and name in model.model_fields:
            field = model.model_fields[name]
            marks = [mark for mark in field.metadata if isinstance(mark, OneOf | SharesOf)]
            yield Annotated[field.annotation, marks[0]] if marks else field.annotation


def _types(annotation: Any) -> set[type]:
    """The plain types of the values of an annotation; paths are text, sequences are lists."""
    found: set[type] = set()
    for one in _alternatives(annotation):
        whole = get_origin(one) or one
        if isinstance(one, OneOf):
            found |= {str, dict, NoneType} if one.optional else {str, dict}
        elif isinstance(one, SharesOf):
            found |= {dict}
        elif isinstance(one, _Share):
            found |= {float, dict}
        elif whole is Literal:
            found |= {type(value) for value in get_args(one)}
        elif _is_a(whole, str) or _is_a(whole, os.PathLike):
            found.add(str)
        elif _is_a(whole, BaseModel) or _is_a(whole, Mapping):
            found.add(dict)
        elif whole in (bool, int, float, NoneType):
            found.add(whole)
        else:
            found.add(list if _is_a(whole, Collection) else object)
    return found


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The parts of a union; for a choice or shares of something registered, the mark of it."""
    if hasattr(annotation, "__metadata__"):  # Annotated
        marks = [m for m in annotation.__metadata__ if isinstance(m, OneOf | SharesOf)]
        yield from marks or _alternatives(annotation.__origin__)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    elif hasattr(annotation, "__value__"):  # an alias, `type Name = ...`
        yield from _alternatives(annotation.__value__)
    else:
        yield NoneType if annotation is None else annotation


def _is_a(thing: Any, kind: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, kind)
