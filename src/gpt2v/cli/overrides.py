"""Every field of a configuration is an option of its command, e.g. `--train.seed 1`."""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from gpt2v.config.base import Config
from gpt2v.config.describe import describe
from gpt2v.config.load import read_yaml
from gpt2v.errors import UserError
from gpt2v.extensions import import_file
from gpt2v.registry import Registry

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Overrides = dict[str, Any]

_FIELD = "field "  # prefix of the argparse names of fields


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with `notes`.

    The notes are written only when the user asks for help: they list what is registered, and
    importing that takes time.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.notes: list[Callable[[], str]] = []

    def format_help(self) -> str:
        self.epilog = "\n\n".join(note() for note in self.notes)
        return super().format_help()

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print the help; unlike argparse, do not hide an error of standard output."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def describe_names(parser: Parser, option: str, registry: Registry) -> None:
    """List in the help the registered names that an option accepts."""
    parser.notes.append(lambda: f"{option}: {', '.join(registry.names())}")


def describe_fields(parser: Parser, kind: type[Config], skip: Sequence[str] = ()) -> None:
    """Make every field of a configuration an option, and list the fields in the help.

    Args:
        skip: dotted names of fields that the help leaves out.
    """
    parser.notes.append(
        lambda: "fields of the configuration, each an option:\n" + "\n".join(describe(kind, skip))
    )
    taken = {option for action in parser._actions for option in action.option_strings}
    for name in kind.model_fields:
        if f"--{name}" not in taken:
            parser.add_argument(f"--{name}", dest=_FIELD + name, help=argparse.SUPPRESS)


def config_command(
    group: Any,
    name: str,
    kind: type[Config],
    command: Callable[[argparse.Namespace, Overrides], None],
    text: str,
    config: str = "YAML file",
) -> Parser:
    """Add a command that takes a configuration and has its fields as options.

    Args:
        group: argparse's group of commands.
        kind: class of the configuration.
        command: called with the parsed arguments and the overrides.
        text: help of the command.
        config: help of the configuration argument.
    """
    parser: Parser = group.add_parser(name, help=text)
    parser.add_argument("config", help=config)
    describe_fields(parser, kind)
    parser.set_defaults(command=command)
    return parser


def take_imports(words: list[str]) -> list[str]:
    """Import the file of each `--import FILE.py` and return the other words.

    Raises:
        UserError: a file is missing, does not run, or registers a name that is taken.
    """
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        option, equals, file = word.partition("=")
        if option != "--import":
            rest.append(word)
            continue
        file = file if equals else next(queue, "")
        if not file:
            raise UserError("--import: needs a file")
        import_file(file)
    return rest


def take_overrides(words: list[str]) -> tuple[list[str], Overrides]:
    """Split off the options with a dot in their name, which are fields; argparse gets the rest.

    Returns:
        The other words, and the overrides.
    """
    rest: list[str] = []
    fields: list[str] = []
    queue = iter(words)
    for word in queue:
        if word.startswith("--") and "." in word.partition("=")[0]:
            value = [] if "=" in word else [next(queue, None)]
            fields += [word, *[v for v in value if v is not None]]
        else:
            rest.append(word)
    return rest, overrides_of(fields)


def overrides_of(rest: list[str]) -> Overrides:
    """Parse options of fields, `--train.seed 1` or `--train.seed=1`.

    Raises:
        UserError: a word is no option, or has no value, or its value is not valid YAML.
    """
    overrides: Overrides = {}
    words = iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise UserError(f"unexpected argument: {word}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            following = next(words, None)
            if following is None:
                raise UserError(f"--{key}: needs a value")
            value = following
        overrides[key] = _value(key, value)
    return overrides


def top_level(args: argparse.Namespace) -> Overrides:
    """The fields without a dot in their name, which argparse has parsed."""
    given = {k.removeprefix(_FIELD): v for k, v in vars(args).items() if k.startswith(_FIELD)}
    return {key: _value(key, text) for key, text in given.items() if text is not None}


def _value(key: str, text: str) -> Any:
    return read_yaml(text, f"--{key}") if text else ""
