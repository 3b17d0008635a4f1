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
        takes_options: whether one of them may have options of its own.
        reserved: names that have another meaning.
        option_names_taken: names that no option may have, besides `name`.
        needs: attributes that each class must have.
        options_need: attributes that the options of each must have; so each must have options.
    """

    def __init__(
        self,
        title: str,
        home: str,
        where: str,
        takes_options: bool = True,
        reserved: tuple[str, ...] = (),
        option_names_taken: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        options_need: tuple[str, ...] = (),
    ) -> None:
        self.title, self.where = title, where
        self._takes_options, self._reserved = takes_options, reserved
        self._option_names_taken, self._needs = option_names_taken, needs
        self._options_need = options_need
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
            UserError: the name is taken or is no name, or the options cannot be such.
        """
        self._load_home()
        if not isinstance(name, str) or not name:
            raise UserError(f'give the {self.title} a name: register("NAME")')
        self._check_options(name, options)

        def add(thing: T) -> T:
            if name in self._entries or name in self._reserved:
                raise UserError(f"the {self.title} '{name}' exists already; choose another name")
            for attribute in self._needs:
                if not hasattr(thing, attribute):
                    raise UserError(f"the {self.title} '{name}' needs an attribute '{attribute}'")
            summary = " ".join((thing.__doc__ or "").strip().partition("\n\n")[0].split())
            # What is built in may be imported by a user's file, and is still no part of it.
            built_in = thing.__module__.startswith("gpt2v.")
            sha256 = None if built_in else _importing.get()
            self._entries[name] = Entry(name, summary, options, at or thing, sha256)
            return thing

        return add

    def _check_options(self, name: str, options: Any) -> None:
        if options is None:
            if self._options_need:
                raise UserError(f"the {self.title} '{name}' needs options")
            return
        if not self._takes_options:
            raise UserError(f"the {self.title} '{name}': {self.title}s have no options")
        if not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise UserError(f"the {self.title} '{name}': options must be a class of options")
        for field in ("name", *self._option_names_taken):
            if field in options.model_fields:
                raise UserError(f"the {self.title} '{name}': no option may be called '{field}'")
        for field in self._options_need:
            if field not in options.model_fields and not hasattr(options, field):
                raise UserError(f"the {self.title} '{name}' needs an option '{field}'")

    def forget(self, sha256: str) -> None:
        """Remove what the user's file with this hash has registered."""
        for name in [n for n, entry in self._entries.items() if entry.sha256 == sha256]:
            del self._entries[name]

    def names(self) -> list[str]:
        """All names, the built-in ones first."""
        self._load_home()
        built_in = sorted(name for name, entry in self._entries.items() if entry.sha256 is None)
        return built_in + [name for name in self._entries if name not in built_in]

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


PROJECTORS = Registry("projector", "gpt2v.config.projectors", "`projector` of `mm train`")
INSTRUCTIONS = Registry(
    "instruction",
    "gpt2v.data.grids.instructions",
    "`instructions` of a grid",
    option_names_taken=("weight",),
    needs=("wordings", "held_out"),
)
TEXT_FORMS = Registry("text form", "gpt2v.data.render.forms", "`form` of a grid")
TOKEN_SOURCES = Registry(
    "token source", "gpt2v.config.vision_tokens", "`vision_tokens` of `mm train`; a rung's `source`"
)
RUNGS = Registry(
    "rung", "gpt2v.ablate.rungs", "`rungs` of `ablate tokens`", needs=("title", "layout")
)
CONTROLS = Registry(
    "control", "gpt2v.probing.controls", "`controls` of `probe`", reserved=("none",)
)
DECODERS = Registry("decoder", "gpt2v.config.decoders", "`decoders` of `probe`")
METRICS = Registry("metric", "gpt2v.eval.metrics", "`metrics` of `eval`")
PROMPTS = Registry(
    "prompt", "gpt2v.eval.hf.prompts", "`hf.prompt` of `eval hf:NAME`", needs=("chat", "words")
)
PHENOMENA = Registry(
    "phenomenon",
    "gpt2v.eval.language.pairs",
    "`pairs` of `eval`",
    takes_options=False,
    reserved=("all",),
    needs=("family", "slots", "item"),
)
SECTIONS = Registry(
    "report section",
    "gpt2v.report.sections",
    "the kinds of the runs, or `--sections` of `report`",
    needs=("nav", "kinds"),
)
ENCODER_FAMILIES = Registry(
    "encoder family",
    "gpt2v.model.families",
    "the type of the checkpoint, or `encoder_family` of `mm train`",
    needs=("name", "model_types", "model", "config"),
)
VISION_TOWERS = Registry(
    "vision tower",
    "gpt2v.config.towers",
    "`vision` of `encoder train` and `mm train`",
    options_need=("image_size", "patch_size", "hidden_size"),
)
TILE_SOURCES = Registry("tile source", "gpt2v.config.tile_sources", "`tiles.source`")
EXECUTORS = Registry("executor", "gpt2v.execute.executors", "`--executor` of `data export`")
FORMATS = Registry(
    "export format", "gpt2v.data.export.formats", "`--format` of `data export`", takes_options=False
)

REGISTRIES = (
    TILE_SOURCES,
    INSTRUCTIONS,
    TEXT_FORMS,
    ENCODER_FAMILIES,
    VISION_TOWERS,
    PROJECTORS,
    TOKEN_SOURCES,
    METRICS,
    PROMPTS,
    PHENOMENA,
    CONTROLS,
    DECODERS,
    RUNGS,
    SECTIONS,
    FORMATS,
    EXECUTORS,
)


def _titled(title: str) -> Registry:
    return next(registry for registry in REGISTRIES if registry.title == title)
