"""Text about the fields of a configuration, for `--help` and the documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf, SharesOf
from gpt2v.config.mistakes import models_in
from gpt2v.registry import Registry

_LARGE = 10**6  # larger limits are not worth telling


@dataclass(frozen=True)
class Field:
    """One field, as an option.

    Attributes:
        key: dotted name; in a list `0` stands for any number, in a mapping `NAME` for any name.
        meaning: what it is for.
        values: which values it takes, in words.
        default: "default: 3", or "required".
        words: the words that it takes, if they can be listed.
    """

    key: str
    meaning: str
    values: str
    default: str
    words: tuple[str, ...] = ()

    def begins(self, prefix: str) -> bool:
        """Whether the name begins so, where `-` is `_`."""
        return self.key.replace("-", "_").startswith(prefix)


@dataclass(frozen=True)
class Block:
    """The fields of one part of a configuration, without those of the parts in it.

    Attributes:
        key: dotted name of the part; empty: the configuration itself.
        title: what the part is, one sentence; empty for the configuration itself.
    """

    key: str
    title: str
    fields: tuple[Field, ...]


def blocks_of(kind: type[Config], skip: Sequence[str] = (), key: str = "") -> list[Block]:
    """A block for each part of a configuration, without fields that can have only one value.

    If a field chooses something registered that has options, they have a block, too.

    Args:
        skip: dotted names of fields to leave out.
        key: of this part in the whole configuration.
    """
    prefix = f"{key}." if key else ""
    skip = [*skip, *(prefix + name.replace("*", "0") for name in kind.only_default)]
    own: list[Field] = []
    below: list[Block] = []
    for name, field in kind.model_fields.items():
        if prefix + name in skip:
            continue
        inner = models_in(field.annotation)
        index = "" if inner and field.annotation is inner[0] else ".0"
        if get_origin(field.annotation) is dict:
            index = ".NAME.0"
        for model in inner:
            below += blocks_of(model, skip, f"{prefix}{name}{index}")
        if not inner:
            own.append(_field(f"{prefix}{name}", field))
            below += _options(f"{prefix}{name}", field)
    title = title_of(kind) if key else ""
    return [Block(key, title, tuple(own)), *below] if own else below


def title_of(kind: type[Config]) -> str:
    """The first sentence of the docstring."""
    text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."


def _field(key: str, field: FieldInfo, owners: str = "") -> Field:
    marks = tuple(field.metadata)
    registries = list(registries_of(field))
    words = [name for registry in registries for name in registry.names()]
    words = words or [str(value) for value in _literals(field.annotation)]
    values = _values(field.annotation, marks)
    if values == _TYPES[bool]:
        words = ["true", "false"]
    meaning = f"{owners}{field.description or ''}"
    return Field(key, meaning, values, _standard(field), tuple(words))


def _values(annotation: Any, marks: tuple[Any, ...] = ()) -> str:
    """The values that an annotation takes, in words."""
    for mark in marks:
        if isinstance(mark, OneOf):
            return f"one of {', '.join(mark.registry.names())}"
        if isinstance(mark, SharesOf):
            return f"some of {', '.join(mark.registry.names())}"
    whole, inner = get_origin(annotation) or annotation, get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        more = [getattr(m, "metadata", [m]) for m in annotation.__metadata__]
        return _values(annotation.__origin__, (*marks, *(mark for part in more for mark in part)))
    if whole is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if whole is list:
        element = _values(inner[0])
        if element.startswith("one of"):
            return "some" + element.removeprefix("one")
        exactly = [m.min_length for m in marks if isinstance(m, MinLen) and m.min_length > 1]
        several = element.replace("number", "numbers").replace("text", "words")
        return f"{exactly[0] if exactly else 'some'} {several}, with commas"
    if whole in _TYPES:
        return " ".join(filter(None, [_TYPES[whole], _range(marks)]))
    return " or ".join(dict.fromkeys(filter(None, (_values(part, marks) for part in inner))))


_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def _range(marks: tuple[Any, ...]) -> str:
    """The limits of a number, in words."""
    least = next((f"from {m.ge}" for m in marks if isinstance(m, Ge)), "")
    least = next((f"above {m.gt}" for m in marks if isinstance(m, Gt)), least)
    most = next((f"to {m.le}" for m in marks if isinstance(m, Le) and _is_small(m.le)), "")
    most = next((f"below {m.lt}" for m in marks if isinstance(m, Lt) and _is_small(m.lt)), most)
    return " ".join(filter(None, [least, most]))


def _is_small(limit: Any) -> bool:
    return bool(limit < _LARGE)


def _standard(field: FieldInfo) -> str:
    """A field's default, as a user would type it."""
    return "required" if field.is_required() else f"default: {_typed(field.get_default())}"


def _typed(value: Any) -> str:
    if isinstance(value, bool | None):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return ",".join(map(_typed, value)) or "[]"
    if isinstance(value, dict):
        return ",".join(k if v == 1 else f"{k}: {v:g}" for k, v in value.items()) or "{}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def registries_of(field: FieldInfo) -> Iterator[Registry]:
    """The registry that a field chooses from, if it is such a field; also if it holds a list."""
    for mark in [*field.metadata, *_metadata_in(field.annotation)]:
        if isinstance(mark, OneOf | SharesOf):
            yield mark.registry
            return


def _metadata_in(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _metadata_in(part)


def _literals(annotation: Any) -> list[Any]:
    """The values that an annotation lists; empty if it lists none."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literals(part)]


def _options(key: str, field: FieldInfo) -> list[Block]:
    """A block of the options of what a field chooses among, with the names that have them."""
    found: dict[tuple[str, str, str], tuple[FieldInfo, list[str]]] = {}
    for registry in registries_of(field):
        for entry in registry.values():
            place = key
            if any(isinstance(mark, SharesOf) for mark in field.metadata):
                place = f"{key}.{entry.name}"
            elif get_origin(field.annotation) is list:
                place = f"{key}.0"
            for name, option in entry.options.model_fields.items() if entry.options else ():
                same = (f"{place}.{name}", option.description or "", _standard(option))
                found.setdefault(same, (option, []))[1].append(entry.name)
    own = [
        _field(name, option, f"{', '.join(owners)}: ")
        for (name, *_), (option, owners) in found.items()
    ]
    title = f"options of what --{key} chooses, '{{name: NAME, OPTION: VALUE}}'."
    return [Block(key, title, tuple(own))] if own else []


def registry_table(registry: Registry) -> list[str]:
    """A Markdown table of what is registered: its name, its description and its options."""
    lines = ["| name | what it is | options |", "| --- | --- | --- |"]
    for entry in registry.values():
        fields = entry.options.model_fields if entry.options else {}
        options = [
            f"`{name}`: {field.description} ({_standard(field)})" for name, field in fields.items()
        ]
        cells = [f"`{entry.name}`", entry.summary.replace("|", "\\|"), "; ".join(options)]
        lines.append("| " + " | ".join(cells).rstrip() + " |")
    return lines
