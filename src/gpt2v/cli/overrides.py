"""Every field of a configuration is an option of its command, e.g. `--train.seed 1`.

The text of an option becomes a value when the class of the command's configuration is known.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from gpt2v.config.base import Config
from gpt2v.config.describe import describe
from gpt2v.config.option_values import values_of
from gpt2v.errors import UserError
from gpt2v.extensions import import_file
from gpt2v.messages import shown
from gpt2v.packaged import EXAMPLES
from gpt2v.paths import expanded_text
from gpt2v.registry import Registry

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Overrides = dict[str, Any]  # dotted key -> value
Texts = dict[str, str]  # dotted key -> text, as it was typed

CONFIG_HELP = "YAML file, or one that comes with gpt2v (see gpt2v configs)"

_FIELD = "field "  # prefix of the argparse names of fields
_WRITING = """\
Text, such as a path or a name, is taken as it is: --tiles.path 'photos #2'. null means none, where
that is possible (a file of this name: ./null). Every other value is YAML 1.2: true, 3e-4, '[a, b]',
'{name: mlp, hidden_size: 64}'. Each option is given once."""


class _Once(argparse.Action):
    """Stores the value of an option, which may be given once."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        given = namespace.__dict__.setdefault("_given", set())
        if option is not None and self.dest in given:
            raise UserError(f"{option}: given twice")
        is_field = self.dest.startswith(_FIELD)  # for its type to decide
        if values == "" and not is_field:  # e.g. a variable of the shell that is not set
            raise UserError(f"{option or self.dest}: is empty")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with `notes`.

    The notes are written only when the user asks for help: they list what is registered, and
    importing that takes time.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)
        for name in (None, "store"):
            self.register("action", name, _Once)
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


def whole_number(text: str) -> int:
    """The type of options that are numbers; int() also takes 1_000 and digits of other scripts."""
    if not re.fullmatch("[-+]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, not {shown(text)}")
    return int(text)


def describe_names(parser: Parser, option: str, registry: Registry) -> None:
    """List in the help the registered names that an option accepts."""
    parser.notes.append(lambda: f"{option}: {', '.join(registry.names())}")


def describe_fields(parser: Parser, kind: type[Config], skip: Sequence[str] = ()) -> None:
    """Make every field of a configuration an option, and list the fields in the help.

    Args:
        skip: dotted names of fields that the help leaves out.
    """
    parser.notes.append(
        lambda: "\n".join(
            ["fields of the configuration, each an option:", *describe(kind, skip), "", _WRITING]
        )
    )
    parser.set_defaults(kind=kind)
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
    config: str = CONFIG_HELP,
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
    parser.add_argument("config", type=expanded_text, help=config)
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
        import_file(EXAMPLES.path(expanded_text(file)))
    return rest


def take_fields(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off the options with a dot in their name, which are fields; argparse gets the rest.

    Returns:
        The other words, and the words of the fields.
    """
    rest: list[str] = []
    fields: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":  # what follows are no options
            rest += [word, *queue]
            break
        if not (word.startswith("--") and "." in word.partition("=")[0]):
            rest.append(word)
            continue
        fields.append(word)
        if "=" not in word and queue and not queue[0].startswith("--"):
            fields.append(queue.pop(0))
    return rest, fields


def texts_of(words: Sequence[str]) -> Texts:
    """Parse options of fields, `--train.seed 1` or `--train.seed=1`.

    Raises:
        UserError: a word is no option, or has no value, or is given twice.
    """
    texts: Texts = {}
    queue = iter(words)
    for word in queue:
        if not word.startswith("--"):
            raise UserError(f"unexpected argument: {word}")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(queue, "--")
            if value.startswith("--"):
                raise UserError(
                    f"--{key}: needs a value; one that begins with -- is --OPTION=VALUE"
                )
        if key in texts:
            raise UserError(f"--{key}: given twice")
        texts[key] = value
    return texts


def overrides_of(args: argparse.Namespace, texts: Texts) -> Overrides:
    """The values of the options that are fields of the command's configuration.

    Args:
        args: what argparse has parsed: the class of the configuration, and fields without a dot.
        texts: the other fields.

    Raises:
        UserError: an option is given twice, or its text is not valid YAML.
    """
    given = {k.removeprefix(_FIELD): v for k, v in vars(args).items() if k.startswith(_FIELD)}
    texts = {**{key: text for key, text in given.items() if text is not None}, **texts}
    return values_of(getattr(args, "kind", Config), texts)
