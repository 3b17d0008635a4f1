"""An option that has no effect because of another one is refused, never silently ignored.

A value that equals its default, or what holds in truth, is no mistake: complete configurations,
such as a run's config.yaml, have a value for everything.
"""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from pydantic import model_validator

from gpt2v.config.base import Config
from gpt2v.config.choice import Choice
from gpt2v.errors import UserError

C = TypeVar("C", bound=Config)


def has_default(config: Config, name: str) -> bool:
    """Whether a field equals its default."""
    return bool(getattr(config, name) == type(config).model_fields[name].get_default())


def refuse_unused(config: Config, names: tuple[str, ...], why: str, prefix: str = "") -> None:
    """Refuse values of fields that have no effect.

    Args:
        why: ends the message.
        prefix: key of the configuration, with a final dot, if the message needs it.

    Raises:
        ValueError: a field differs from its default.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, Config):
            refuse_unused(value, tuple(type(value).model_fields), why, f"{prefix}{name}.")
        elif not has_default(config, name):
            raise ValueError(f"{prefix}{name}: {value} has no effect: {why}; leave it out")


class EffectConfig(Config):
    """A configuration in which some values leave other fields without effect."""

    @property
    def without_effect(self) -> dict[str, str]:
        """Dotted keys of the fields that have no effect, each with the reason."""
        return {}

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        for key, why in self.without_effect.items():
            config: Config = self
            above, _, name = key.rpartition(".")
            for part in filter(None, above.split(".")):
                config = getattr(config, part)
            refuse_unused(config, (name,), why, f"{above}." if above else "")
        return self


def settled(config: C, true: Mapping[str, Any], key: str, source: str) -> C:
    """A configuration with the values that something else decides, such as a checkpoint.

    Args:
        true: the deciding values, by the names of their fields.
        key: key of the configuration, for messages; empty: it is the whole one.
        source: what decides, as key and value, for messages.

    Raises:
        UserError: a field has another value than the deciding one, and not its default.
    """
    above = f"{key}." if key else ""
    for name, there in true.items():
        given = getattr(config, name)
        if given != there and not has_default(config, name):
            raise UserError(
                f"{above}{name}: {given} has no effect: it is {there} in {source}; leave it out"
            )
    return config.model_copy(update=dict(true))


def settled_choice(config: Config, true: Choice, key: str, source: str) -> Choice:
    """The deciding choice, which a configuration may have, with the same options or the default.

    Args:
        true: what something else decides, such as a checkpoint.
        key: the field of the configuration that chooses.
        source: what decides, as key and value, for messages.

    Raises:
        UserError: the configuration has another choice or option, and not the default.
    """
    given: Choice = getattr(config, key)
    if str(given) == str(true):
        settled(given.options, dict(true.options), key, source)
    elif not has_default(config, key):
        raise UserError(f"{key}: {given} has no effect: it is {true} in {source}; leave it out")
    return true
