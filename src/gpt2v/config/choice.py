"""Fields whose value is the name of something registered, with or without options.

`projector: mlp` and `projector: {name: mlp, hidden_size: 64}` are both valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gpt2v.errors import UserError
from gpt2v.registry import Choice, Registry, choose


@dataclass(frozen=True)
class OneOf:
    """Annotation of a field that holds a `Choice`.

    Attributes:
        registry: where the name is looked up.
        default: the name to use for a mapping that has options but no name.
    """

    registry: Registry
    default: str | None = None

    def __get_pydantic_core_schema__(
        self, source_type: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(Choice.plain),
        )

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
