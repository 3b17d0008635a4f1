"""The base of all configurations, and hashes of them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from gpt2v.registry import Choice

# Part of every data hash: a new number where a default or a name changes its meaning.
DATA_VERSION = 1


class Config(BaseModel):
    """Base of all configurations.

    `elsewhere` has keys that a user may look for here, with what to do instead, for messages.
    `unhashed` has fields that are names in logs only: hashes leave them out.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")
    elsewhere: ClassVar[Mapping[str, str]] = {}
    unhashed: ClassVar[tuple[str, ...]] = ()


def hash_of(*parts: object) -> str:
    """Short hash of strings, plain values and configurations (also in lists): equal where they say
    the same. Fields that equal their defaults do not count, so a new field changes no hash.
    """
    plain = [DATA_VERSION, *map(_plain, parts)]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _plain(value: object) -> Any:
    if isinstance(value, Choice):
        return value.hashed()
    if isinstance(value, Config):
        fields = {
            name: (_plain(getattr(value, name)), _plain(field.get_default()))
            for name, field in type(value).model_fields.items()
            if name not in value.unhashed
        }
        return {name: now for name, (now, default) in fields.items() if now != default}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _plain_share(key, inner) for key, inner in value.items()}
    return value


def _plain_share(key: object, share: object) -> Any:
    """A value, and before it its key if that is a choice with more than a name."""
    choice = _plain(key)
    return [choice, share] if isinstance(choice, dict) else _plain(share)
