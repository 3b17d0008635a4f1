"""Error messages of one line: the key of a configuration, what is wrong and what is allowed."""

from typing import Any

from pydantic import BaseModel, ValidationError

from gpt2v.config.base import Config


def first_mistake(kind: type[BaseModel], error: ValidationError) -> str:
    """A message about the first mistake that pydantic found, and the number of others."""
    first = error.errors(include_url=False)[0]
    loc = [part for part in first["loc"] if not _is_tag(part) and part != "[key]"]
    key = ".".join(str(part) for part in loc)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        model = _model_at(kind, first["loc"][:-1])
        known = ", ".join(model.model_fields)
        instead = getattr(model, "elsewhere", {}).get(str(loc[-1]))
        fault = f"has no meaning here: {instead}" if instead else "unknown key"
        return f"{key}: {fault}; the keys here are {known}{more}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    is_clear = first["type"] in ("missing", "value_error", "too_short")  # without the value
    value = "" if is_clear else f", not {given!r}"
    if "<number>" in first["loc"]:
        value += "; or a range, [smallest, largest]"
    return f"{key + ': ' if key else ''}{message}{value}{more}"


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
