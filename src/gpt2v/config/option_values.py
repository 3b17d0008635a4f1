"""The text of an option on the command line becomes a value by the type of the option's field.

Text for a field that takes strings is taken as it is, so that paths and names need no quotes of
YAML: `--tiles.path 'photos #2'`. `null` means none, where the field may be none. Everything else is
YAML. So are lists, and mappings `{name: NAME, OPTION: VALUE}` of a name and options.

A list of words or numbers can be written with commas, `text,image`, and so can the names of
something that has shares: `count,exists` is `{count: 1, exists: 1}`. In names of fields, `-` and
`_` are the same.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from gpt2v.config.choice import OneOf, SharesOf
from gpt2v.config.origins import Option
from gpt2v.config.yaml12 import plain_scalar, read_yaml
from gpt2v.errors import UserError
from gpt2v.registry import Registry

_SCALARS = {str, bool, int, float}


def values_of(kinds: Sequence[type[BaseModel]], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The values of options, each after its `Option`.

    Args:
        kinds: the classes of configurations that the options may belong to.
        given: dotted keys, as they were typed, and texts. A list of words may be given in several.

    Raises:
        UserError: a text that must be YAML is not, or an option is given twice; names the option.
    """
    values: dict[str, Any] = {}
    for typed, text in given:
        key, annotations = _at(kinds, typed)
        option, field = Option(key, f"--{typed}"), _Accepted.by(annotations)
        value = _value(text, field, option.typed)
        if key in values:
            earlier = values[key]
            if not (field.only_words and isinstance(value, list) and isinstance(earlier, list)):
                raise UserError(f"{option.typed}: given twice")
            value = earlier + value
        values[option] = value
    return values


def choice_of(registry: Registry, text: str, origin: str) -> Any:
    """The value of an option that names something registered: a name, or a mapping with options.

    Raises:
        UserError: a mapping that is not valid YAML; names the option, `origin`.
    """
    return _value(text, _Accepted.by([OneOf(registry)]), origin)


@dataclass(frozen=True)
class _Accepted:
    """What a field takes.

    Attributes:
        types: plain types of its values; empty: there is no such field.
        elements: plain types of the elements of its lists; empty: it takes no list.
        shares: whether it takes names with their shares.
    """

    types: set[type]
    elements: set[type]
    shares: bool

    @classmethod
    def by(cls, annotations: Sequence[Any]) -> "_Accepted":
        """What annotations allow."""
        below = {t for one in annotations for inner in _elements(one) for t in _types(inner)}
        marks = [part for one in annotations for part in _alternatives(one)]
        types = {t for one in annotations for t in _types(one)}
        return cls(types, below, any(isinstance(mark, SharesOf) for mark in marks))

    @property
    def only_words(self) -> bool:
        """Whether it takes nothing but lists of words or numbers, or names with shares."""
        is_list = self.types <= {list, NoneType} and bool(self.elements & _SCALARS)
        return self.shares or is_list

    @property
    def words(self) -> bool:
        """Whether it takes a list of words or numbers; text that is meant as it is is no list."""
        return self.only_words or (str not in self.types and bool(self.elements & _SCALARS))


def _value(text: str, field: _Accepted, origin: str) -> Any:
    """What a text means to a field."""
    if text == "":
        return ""
    if field.words and text[0] not in "[{":
        return _listed(text, field, origin)
    return _single(text, field.types, origin)


def _single(text: str, types: set[type], origin: str) -> Any:
    """What a text means that is no list with commas, if a field takes these plain types."""
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


def _listed(text: str, field: _Accepted, origin: str) -> Any:
    """A list with commas; what is a value of the field in YAML stays so."""
    try:
        value = read_yaml(text, origin)
    except UserError:  # e.g. `&`, which is a word here
        value = text
    is_value = isinstance(value, list) or type(value) in field.types & {dict, NoneType}
    if is_value or not (field.only_words or "," in text):
        return value
    words = [word.strip() for word in text.split(",")]
    if not all(words):  # the comma itself is meant, or there is one too many
        words = [text]
    if not field.shares:
        return [_single(word, field.elements, origin) for word in words]
    if len(set(words)) < len(words):
        raise UserError(f"{origin}: must name each once, not {text}")
    return dict.fromkeys(words, 1.0)


def _at(kinds: Sequence[type[BaseModel]], typed: str) -> tuple[str, list[Any]]:
    """The dotted key that is meant, and the annotations of its field; none: there is no such field.

    The parts of a key are fields, whose `_` may be typed as `-`, or names of something registered.
    """
    annotations: list[Any] = [*kinds]
    parts = []
    for part in typed.split("."):
        for spelling in (part, part.replace("-", "_"), part.replace("_", "-")):
            below = [inner for one in annotations for inner in _below(one, spelling)]
            if below:
                break
        parts.append(spelling if below else part)
        annotations = below
    return ".".join(parts), annotations


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


def _elements(annotation: Any) -> Iterator[Any]:
    """The annotations of the elements of an annotation's lists."""
    for one in _alternatives(annotation):
        whole, inner = get_origin(one), get_args(one)
        if _is_a(whole, Collection) and not _is_a(whole, Mapping) and inner:
            yield inner[0]


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
