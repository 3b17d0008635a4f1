"""Error messages of one line: the key of a configuration, what is wrong and what is allowed."""

import math
import re
from typing import Any

from pydantic import BaseModel, ValidationError

from gpt2v.config.base import Config
from gpt2v.messages import one_line, shown

_WORDS = {"model_type": "must be a mapping of keys to values"}  # pydantic would name a class
_HINTS = {  # by the type of pydantic's error
    "bool_type": "; write true or false",
    "string_type": "; put it in quotes",
}


def first_mistake(kind: type[BaseModel], error: ValidationError) -> str:
    """A message about the first mistake that pydantic found, and the number of others.

    An unknown key comes before one that is missing, which may be the same one, misspelt.
    """
    errors = error.errors(include_url=False)
    first = errors[0]
    if first["type"] == "missing":
        first = next((one for one in errors if one["type"] == "extra_forbidden"), first)
    loc = [part for part in first["loc"] if not _is_tag(part) and part != "[key]"]
    key = one_line(".".join(str(part) for part in loc), 200)
    others = error.error_count() - 1
    more = f" (and {others} more mistake{'s' if others > 1 else ''})" if others else ""
    if first["type"] == "extra_forbidden":
        model = _model_at(kind, first["loc"][:-1])
        known = ", ".join(model.model_fields)
        instead = getattr(model, "elsewhere", {}).get(str(loc[-1]))
        fault = f"has no meaning here: {instead}" if instead else "unknown key"
        return f"{key}: {fault}; the keys here are {known}{more}"
    words = _WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    message = one_line(words, 400)
    given = first.get("input")
    is_clear = first["type"] in ("missing", "value_error", "too_short")  # without the value
    value = "" if is_clear else f", not {shown(given)}"
    if isinstance(given, str | int | float):
        value += _HINTS.get(first["type"], "")
    if "<number>" in first["loc"]:
        value += "; or a range, [smallest, largest]"
    return f"{key + ': ' if key else ''}{message}{value}{more}"


def impossible_value(data: Any, key: str = "") -> str:
    """What no field can hold, in plain values, with its key; empty: there is nothing like that."""
    prefix = f"{key}." if key else ""
    if isinstance(data, dict):
        for name, value in data.items():
            if not isinstance(name, str | int) or isinstance(name, bool):
                return (
                    f"{one_line(prefix, 200)}{shown(name)}: a key must be a name; put it in quotes"
                )
            if fault := _fault(name):
                return f"{one_line(prefix, 200)}{shown(name)}: a key {fault}"
            if fault := impossible_value(value, f"{prefix}{name}"):
                return fault
        return ""
    if isinstance(data, list):
        faults = (impossible_value(value, f"{prefix}{i}") for i, value in enumerate(data))
        return next(filter(None, faults), "")
    fault = _fault(data)
    return f"{one_line(key, 200)}: {fault}" if fault else ""


def _fault(value: Any) -> str:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return f"must have at most 64 bits, not {shown(value)}"
    if isinstance(value, float) and math.isnan(value):
        return "must be a number, not nan"
    if isinstance(value, str) and "\0" in value:
        return f"must not hold the character U+0000, as {shown(value)} does"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):  # bytes of a file's name
        return f"must be text in UTF-8, not {shown(value)}"
    return ""


def _model_at(kind: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The class of the configuration at `loc`."""
    node: list[type[BaseModel]] = [kind]
    for part in loc:
        if _is_tag(part):  # choose among the classes that are allowed here
            node = [model for model in node if str(part)[1:-1] in model.__name__.lower()]
        elif part in node[0].model_fields:  # otherwise the part is an index or a key
            node = [*models_in(node[0].model_fields[str(part)].annotation)]
    return node[0]


def _is_tag(part: object) -> bool:
    return isinstance(part, str) and part.startswith("<")


def models_in(annotation: Any) -> list[type[Config]]:
    """The configuration classes in a type annotation, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_in(part)]
