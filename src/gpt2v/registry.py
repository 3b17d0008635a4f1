"""Registries: named projectors, instructions, metrics ..., to which users can add their own.

The built-in ones are registered by the home module of their registry, which is imported when a name
is first needed. Home modules do not import torch. Where the class of a built-in needs torch, only
its location is registered, and it is imported when it is first used.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from gpt2v.errors import UserError

T = TypeVar("T", bound=Callable[..., Any])

# sha256 of the user's file that is being imported; None if no such file is.
_importing: ContextVar[str | None] = ContextVar("_importing", default=None)


@contextmanager
def registered_by(sha256: str) -> Iterator[None]:
    """Everything registered in this block is recorded as from the user's file with this hash."""
    token = _importing.set(sha256)
    try:
        yield
    finally:
        _importing.reset(token)


@dataclass(frozen=True)
class Entry:
    """One registered class or function.

    Attributes:
        name: the name that users choose it by.
        summary: first paragraph of its docstring.
        options: class of its options; none: it has no options.
        at: the class or function itself, or `module:name` if it is imported later.
        sha256: hash of the user's file that registered it; none: it is built in.
    """

    name: str
    summary: str
    options: type[BaseModel] | None
    at: Any
    sha256: str | None = None

    def load(self) -> Any:
        """The registered class or function."""
        if not isinstance(self.at, str):
            return self.at
        module, _, attribute = self.at.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(Mapping[str, Entry]):
    """Classes or functions of one type, each registered under a name by a decorator.

    Args:
        title: what one of them is called, for messages and tables.
        home: module that registers the built-in ones.
        where: where a user chooses one, for tables.
    """

    def __init__(self, title: str, home: str, where: str) -> None:
        self.title, self.where = title, where
        self._home: str | None = home
        self._entries: dict[str, Entry] = {}

    def register(
        self, name: str, *, options: type[BaseModel] | None = None, at: str | None = None
    ) -> Callable[[T], T]:
        """A decorator that registers a class or a function.

        Args:
            name: the name that users choose it by.
            options: class of its options, a `gpt2v.config.base.Config`; an instance is passed to
                the class or function as the keyword argument `options`.
            at: `module:name` of the class or function, if the decorated one only has its
                description.

        Raises:
            UserError: the name is taken.
        """
        self._load_home()

        def add(thing: T) -> T:
            if name in self._entries:
                raise UserError(f"the {self.title} '{name}' exists already; choose another name")
            summary = " ".join((thing.__doc__ or "").strip().partition("\n\n")[0].split())
            self._entries[name] = Entry(name, summary, options, at or thing, _importing.get())
            return thing

        return add

    def names(self) -> list[str]:
        """All names, the built-in ones first."""
        self._load_home()
        return list(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __hash__(self) -> int:
        return hash(self.title)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __contains__(self, name: object) -> bool:
        self._load_home()
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        """The entry with this name.

        Raises:
            UserError: no such name.
        """
        if name not in self:
            raise UserError(
                f"no such {self.title}: '{name}'; choose from {', '.join(self.names())}"
            )
        return self._entries[name]

    def __reduce__(self) -> Any:
        return _titled, (self.title,)

    def _load_home(self) -> None:
        if self._home is not None:
            home, self._home = self._home, None
            token = _importing.set(None)
            try:
                importlib.import_module(home)
            finally:
                _importing.reset(token)


class Choice(str):
    """The name of something registered, with its options.

    A choice equals the same name as a string. Two choices are equal if their names and options are.
    """

    registry: Registry
    options: BaseModel | None

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
        UserError: no such name, or options for something that has none.
        pydantic.ValidationError: an option is wrong.
    """
    if isinstance(value, Choice):
        return value
    options = dict(value) if isinstance(value, Mapping) else {"name": value}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"expected the name of a {registry.title}, or {{name: ..., options}}")
    entry = registry[name]
    if entry.options is None:
        if options:
            raise UserError(f"{next(iter(options))}: the {registry.title} '{name}' has no options")
        return Choice(name, registry)
    return Choice(name, registry, entry.options.model_validate(options))


PROJECTORS = Registry("projector", "gpt2v.config.projectors", "`projector` of `mm train`")
INSTRUCTIONS = Registry("instruction", "gpt2v.data.grids.instructions", "`instructions` of a grid")
TEXT_FORMS = Registry("text form", "gpt2v.data.render.forms", "`form` of a grid")
TOKEN_SOURCES = Registry(
    "token source", "gpt2v.config.vision_tokens", "`vision_tokens` of `mm train`; a rung's `source`"
)
RUNGS = Registry("rung", "gpt2v.ablate.rungs", "`rungs` of `ablate tokens`")
CONTROLS = Registry("control", "gpt2v.probe.controls", "`controls` of `probe`")
METRICS = Registry("metric", "gpt2v.eval.metrics", "`metrics` of `eval`")
SECTIONS = Registry("report section", "gpt2v.report.sections", "`report`, by the runs' kinds")
ENCODER_FAMILIES = Registry(
    "encoder family", "gpt2v.model.families", "`encoder` of `mm train`, by the checkpoint's type"
)
TILE_SOURCES = Registry("tile source", "gpt2v.data.tiles.load", "`tiles.source`")
EXECUTORS = Registry("executor", "gpt2v.data.export.executors", "`--executor` of `data export`")
FORMATS = Registry("export format", "gpt2v.data.export.formats", "`--format` of `data export`")

REGISTRIES = (
    TILE_SOURCES,
    INSTRUCTIONS,
    TEXT_FORMS,
    ENCODER_FAMILIES,
    PROJECTORS,
    TOKEN_SOURCES,
    METRICS,
    CONTROLS,
    RUNGS,
    SECTIONS,
    FORMATS,
    EXECUTORS,
)


def _titled(title: str) -> Registry:
    return next(registry for registry in REGISTRIES if registry.title == title)
