"""Text about the fields of a configuration, for `--help`."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from gpt2v.config.base import Config
from gpt2v.config.choice import OneOf, SharesOf
from gpt2v.config.mistakes import models_in
from gpt2v.registry import Registry


def describe(kind: type[Config], skip: Sequence[str] = (), prefix: str = "") -> list[str]:
    """One line for each field: its dotted name, its meaning and its default.

    If a field chooses something registered, the lines also list the names and their options.

    Args:
        skip: dotted names of fields to leave out.
        prefix: put before the name of each field.
    """
    lines = []
    for name, field in kind.model_fields.items():
        if prefix + name in skip:
            continue
        inner = models_in(field.annotation)
        index = "" if inner and field.annotation is inner[0] else ".0"
        if get_origin(field.annotation) is dict:
            index = ".NAME.0"
        for model in inner:
            lines += describe(model, skip, f"{prefix}{name}{index}.")
        if not inner:
            default = _standard(field)
            registries = list(registries_of(field))
            names = "".join(f"; choices: {', '.join(registry.names())}" for registry in registries)
            if values := _literals(field.annotation):
                names = f"; choices: {', '.join(map(str, values))}"
            lines.append(f"  --{prefix}{name}  {field.description or ''}{names} ({default})")
            for registry in registries:
                lines += _options(registry, f"{prefix}{name}")
    return list(
        {line.split()[0]: line for line in lines}.values()
    )  # several classes may have the same field


def _standard(field: FieldInfo) -> str:
    """A field's default, as a user would type it."""
    if field.is_required():
        return "required"
    default = field.get_default()
    if isinstance(default, list):
        default = f"[{', '.join(map(str, default))}]"
    if isinstance(default, dict):
        default = f"{{{', '.join(f'{key}: {value}' for key, value in default.items())}}}"
    return f"default {default}"


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


def _options(registry: Registry, key: str) -> list[str]:
    """A line for each option of what is registered, with the names that have it."""
    owners: dict[tuple[str, str], list[str]] = {}
    for entry in registry.values():
        for name, field in entry.options.model_fields.items() if entry.options else ():
            meaning = f"{field.description or ''} ({_standard(field)})"
            owners.setdefault((name, meaning), []).append(entry.name)
    options: dict[str, list[str]] = {}
    for (name, meaning), names in owners.items():
        options.setdefault(name, []).append(f"option of {', '.join(names)}: {meaning}")
    return [f"  --{key}.{name}  {'; '.join(meanings)}" for name, meanings in options.items()]


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
