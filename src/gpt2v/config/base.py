"""The base class of all configurations, and hashes of configurations."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo

from gpt2v.config.choice import Choice

# Part of every data hash. Increase it when a default value or a name changes its meaning.
DATA_VERSION = 2
MOST = 10**12  # more than any real number of steps or samples


class Config(BaseModel):
    """Base class of all configurations.

    Attributes:
        elsewhere: keys that do not belong here but that a user may try, with the reason or what to
            do instead; for error messages.
        unhashed: fields that hashes leave out, because they are only names in logs.
        changeable: fields that may differ when a run is resumed, because results do not depend on
            them.
        only_default: dotted keys of fields that can have only their default here, as those below
            them, with `*` for numbers of lists; `--help` leaves them out.
        filled_later: whether what a user does not give is taken from elsewhere, not the default.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
    elsewhere: ClassVar[Mapping[str, str]] = {}
    unhashed: ClassVar[tuple[str, ...]] = ()
    changeable: ClassVar[tuple[str, ...]] = ()
    only_default: ClassVar[tuple[str, ...]] = ()
    filled_later: ClassVar[bool] = False

    def _awaits(self, name: str, info: ValidationInfo) -> bool:
        """Whether a field will get its value later, so that others cannot be compared with it."""
        later = bool(info.context and info.context.get("filled_later"))
        return later and name not in self.model_fields_set


def hash_of(*parts: object) -> str:
    """Short hash of strings, plain values and configurations, also in lists and mappings.

    Fields that equal their defaults are left out, so adding a field to a class changes no hash.
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
    """A value of a mapping; if its key is a choice with options, the pair of both."""
    choice = _plain(key)
    return [choice, share] if isinstance(choice, dict) else _plain(share)
