"""Fields whose value is the name of something registered, with or without options.

`projector: mlp` and `projector: {name: mlp, hidden_size: 64}` are both valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from gpt2v.errors import UserError
from gpt2v.messages import one_line, shown
from gpt2v.registry import Registry


class Choice(str):
    """The name of something registered, with its options.

    A choice equals the same name as a string. Two choices are equal if their names and options are.

    Attributes:
        registry: where the name is registered.
        options: of the class that is registered with the name, so any; None: it has none.
    """

    registry: Registry
    options: Any

    def __new__(cls, name: str, registry: Registry, options: BaseModel | None = None) -> "Choice":
        choice = super().__new__(cls, name)
        choice.registry, choice.options = registry, options
        return choice

    def __eq__(self, other: object) -> bool:
        same_name = isinstance(other, str) and str.__eq__(self, other)
        return same_name and (not isinstance(other, Choice) or self.options == other.options)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __reduce__(self) -> Any:
        return choose, (self.registry, self.plain())

    def __deepcopy__(self, memo: Any) -> "Choice":
        return self  # it never changes; pydantic copies defaults that are lists

    def load(self) -> Any:
        """The registered class or function, with its options bound to it if it has any."""
        thing = self.registry[self].load()
        return thing if self.options is None else partial(thing, options=self.options)

    def plain(self, defaults: bool = True) -> Any:
        """The name, or if there are options a mapping of the name and the options.

        Args:
            defaults: whether to include options that equal their defaults.
        """
        if self.options is None:
            return str(self)
        options = self.options.model_dump(exclude_defaults=not defaults)
        return {"name": str(self), **options} if options else str(self)

    def hashed(self) -> Any:
        """The choice for hashes: without default options, and with the hash of the user's file."""
        plain, sha256 = self.plain(defaults=False), self.registry[self].sha256
        return plain if sha256 is None else {"choice": plain, "file": sha256}


def choose(registry: Registry, value: Any) -> Choice:
    """Turn a name, or a mapping of a name and options, into a `Choice`.

    Raises:
        UserError: no such name, or an option that is wrong or does not exist.
    """
    if isinstance(value, Choice):
        return value
    options = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"expected a name, or {{name: NAME, OPTION: VALUE}}, not {shown(value)}")
    entry = registry[name]
    if entry.options is None:
        if options:
            raise UserError(f"{next(iter(options))}: the {registry.title} '{name}' has no options")
        return Choice(name, registry)
    try:
        return Choice(name, registry, entry.options.model_validate(options))
    except ValidationError as error:
        raise UserError(_mistake(entry.options, error)) from None


def _mistake(options: type[BaseModel], error: ValidationError) -> str:
    """The first wrong option, in one line."""
    first = error.errors(include_url=False)[0]
    key = one_line(".".join(str(part) for part in first["loc"]), 200)
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; the keys here are {', '.join(options.model_fields)}"
    message = one_line(first["msg"].removeprefix("Value error, "), 400)
    if not key:  # of several options together
        return message
    is_clear = first["type"] in ("missing", "value_error")  # without the value
    return f"{key}: {message}" if is_clear else f"{key}: {message}, not {shown(first.get('input'))}"


@dataclass(frozen=True)
class OneOf:
    """Annotation of a field that holds a `Choice`.

    Attributes:
        registry: where the name is looked up.
        default: the name to use for a mapping that has options but no name.
        optional: whether the field may be none.
    """

    registry: Registry
    default: str | None = None
    optional: bool = False

    def __get_pydantic_core_schema__(
        self, source_type: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda choice: None if choice is None else choice.plain()
            ),
        )

    def _validate(self, value: Any) -> Choice | None:
        return None if value is None and self.optional else self.validate(value)

    def validate(self, value: Any) -> Choice:
        """Turn a name, or a mapping with a name and options, into a `Choice`.

        Raises:
            ValueError: no such name or option, or an option has a wrong value.
        """
        if isinstance(value, Mapping) and "name" not in value and self.default is not None:
            value = {"name": self.default, **value}
        try:
            return choose(self.registry, value)
        except UserError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class SharesOf:
    """Annotation of a field that maps each `Choice` to its share.

    `{lookup: 2}` and, with options, `{mine: {weight: 2, ...}}` are both valid.
    """

    registry: Registry

    def __get_pydantic_core_schema__(
        self, source_type: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._split,
            handler(source_type),
            serialization=core_schema.plain_serializer_function_ser_schema(_joined),
        )

    def _split(self, value: Any) -> Any:
        """Move the options from the values of the mapping to its keys."""
        if not isinstance(value, Mapping):
            return value
        shares: dict[Any, Any] = {}
        for name, share in value.items():
            if isinstance(share, Mapping):
                options = {key: option for key, option in share.items() if key != "weight"}
                try:
                    name = OneOf(self.registry).validate({"name": name, **options})
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
                share = share.get("weight", 1.0)
            shares[name] = share
        return shares


def _joined(shares: Mapping[Choice, float]) -> dict[str, Any]:
    return {
        str(name): share if name.options is None else {"weight": share, **name.options.model_dump()}
        for name, share in shares.items()
    }
