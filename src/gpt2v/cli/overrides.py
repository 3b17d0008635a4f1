"""Every field of a configuration is an option of its command, e.g. `--train.seed 1`.

The text of an option becomes a value when the class of the command's configuration is known.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from gpt2v.cli.help_text import WRITING, blocks_of_all, fields_help, wrapped
from gpt2v.config.base import Config
from gpt2v.config.describe import Block, blocks_of, title_of
from gpt2v.config.option_values import values_of
from gpt2v.config.origins import Option
from gpt2v.errors import UserError
from gpt2v.extensions import import_file
from gpt2v.messages import shown
from gpt2v.packaged import EXAMPLES
from gpt2v.paths import expanded_text
from gpt2v.registry import Registry

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

Overrides = dict[str, Any]  # dotted key, an `Option` -> value
Texts = list[tuple[str, str]]  # dotted keys and texts, as they were typed

CONFIG_HELP = "YAML file, or one that comes with gpt2v (see gpt2v configs)"

_FIELD = "field "  # prefix of the argparse names of fields


class _Once(argparse.Action):
    """Stores the value of an option, which may be given once; a field's text, for its type."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if self.dest.startswith(_FIELD):
            texts = namespace.__dict__.setdefault("field_texts", [])
            texts.append((str(option).removeprefix("--"), values))
            return
        given = namespace.__dict__.setdefault("_given", set())
        if option is not None and self.dest in given:
            raise UserError(f"{option}: given twice")
        if values == "":  # e.g. a variable of the shell that is not set
            raise UserError(f"{option or self.dest}: is empty")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Help(argparse.Action):
    """Prints the help, or the help of the fields whose names begin with the option's value."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        print(parser.help_of_fields(values)) if values else parser.print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """A parser whose help ends with `notes` and the fields of the command's configuration.

    These are written only when the user asks for help: they list what is registered, and importing
    that takes time. In names of options, `-` and `_` are the same.

    Attributes:
        kinds: the classes of the command's configuration, each after when it is used.
        others: those of a configuration that an option chooses, by this option.
        words: argument -> makes the words that it takes, for completion.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, add_help=False, **kwargs)
        for name in (None, "store"):
            self.register("action", name, _Once)
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.notes: list[Callable[[], str]] = []
        self.kinds: Mapping[str, type[Config]] = {}
        self.others: Mapping[str, type[Config]] = {}
        self.words: dict[str, Callable[[], Sequence[str]]] = {}
        self.skip: Sequence[str] = ()
        self._typed: list[str] = []
        self._help = self.add_argument(
            "-h", "--help", action=_Help, nargs=0, default=argparse.SUPPRESS, help="show this help"
        )

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        """Add an argument; an option can also be typed with `_` for `-`."""
        action = super().add_argument(*args, **kwargs)
        for name in (option[2:] for option in action.option_strings if option.startswith("--")):
            for spelling in (name.replace("_", "-"), name.replace("-", "_")):
                self._option_string_actions.setdefault(f"--{spelling}", action)
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words, and keep them for messages."""
        self._typed = [word.partition("=")[0] for word in args or ()]
        return super().parse_known_args(args, namespace)

    def add_fields(
        self,
        kinds: Mapping[str, type[Config]],
        skip: Sequence[str],
        others: Mapping[str, type[Config]],
    ) -> None:
        """Make every field of the classes an option, and list the fields in the help."""
        self.kinds, self.skip, self.others = kinds, skip, others
        every = (*kinds.values(), *others.values())
        self.set_defaults(kinds=every)
        for name in {name: None for kind in every for name in kind.model_fields}:
            if name not in skip and f"--{name}" not in self._option_string_actions:
                self.add_argument(f"--{name}", dest=_FIELD + name, help=argparse.SUPPRESS)
        self._help.nargs, self._help.metavar = "?", "FIELD"
        self._help.help = "show this help, or only that of fields whose names begin with FIELD"

    def blocks(self) -> list[Block]:
        """What the help tells about the fields."""
        blocks = blocks_of_all(self.kinds, self.skip) if self.kinds else []
        for option, kind in self.others.items():
            (own,) = blocks_of(kind)
            blocks.append(Block(option, title_of(kind), own.fields))
        return blocks

    def help_of_fields(self, prefix: str) -> str:
        """The help of the fields whose names begin with `prefix`.

        Raises:
            UserError: there are none.
        """
        return fields_help(self.blocks(), prefix)

    def format_help(self) -> str:
        parts = [wrapped(note()) for note in self.notes]
        if blocks := self.blocks():
            title = "fields of the configuration, each an option"
            parts += [title, fields_help(blocks), wrapped(WRITING)]
        self.epilog = "\n\n".join(parts)
        return super().format_help()

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Print the help; unlike argparse, do not hide an error of standard output."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names an option as it was typed."""
        name, _, fault = message.removeprefix("argument ").partition(": ")
        known = self._option_string_actions
        typed = [word for word in self._typed if word in known and known.get(name) == known[word]]
        message = f"{typed[0]}: {fault}" if typed else message
        raise UserError(f"{message} (see {self.prog} --help)")


def whole_number(text: str) -> int:
    """The type of options that are numbers; int() also takes 1_000 and digits of other scripts."""
    if not re.fullmatch("[-+]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"must be a whole number, not {shown(text)}")
    return int(text)


def describe_names(parser: Parser, option: str, registry: Registry) -> None:
    """List in the help the registered names that an option accepts."""
    parser.notes.append(lambda: f"{option}: {', '.join(registry.names())}")
    parser.words[option] = registry.names


def describe_fields(
    parser: Parser,
    kind: type[Config] | Mapping[str, type[Config]],
    skip: Sequence[str] = (),
    others: Mapping[str, type[Config]] | None = None,
) -> None:
    """Make every field of a configuration an option, and list the fields in the help.

    Args:
        kind: class of the configuration; if there are several, each after when it is used.
        skip: dotted names of fields that the help leaves out.
        others: classes without parts, each after the option that chooses it.
    """
    parser.add_fields(kind if isinstance(kind, Mapping) else {"": kind}, skip, others or {})


def config_command(
    group: Any,
    name: str,
    kind: type[Config] | Mapping[str, type[Config]],
    command: Callable[[argparse.Namespace, Overrides], None],
    text: str,
    config: str = CONFIG_HELP,
    skip: Sequence[str] = (),
) -> Parser:
    """Add a command that takes a configuration and has its fields as options.

    Args:
        group: argparse's group of commands.
        kind, skip: as for `describe_fields`.
        command: called with the parsed arguments and the overrides.
        text: help of the command.
        config: help of the configuration argument.
    """
    parser: Parser = group.add_parser(name, help=text)
    parser.add_argument("config", type=expanded_text, help=config)
    describe_fields(parser, kind, skip)
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


def joined(words: list[str], commands: Sequence[str]) -> list[str]:
    """The words of a command line, of which the first two are one if they name a command."""
    name = " ".join(words[:2])
    return [name, *words[2:]] if name in commands else words


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
        UserError: a word is no option, or has no value.
    """
    texts: Texts = []
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
        texts.append((key, value))
    return texts


def overrides_of(args: argparse.Namespace, texts: Texts) -> Overrides:
    """The values of the options that are fields of the command's configuration.

    Args:
        args: what argparse has parsed: the classes of the configuration, and fields without a dot.
        texts: the other fields.

    Raises:
        UserError: an option is given twice, or its text is not valid YAML.
    """
    return values_of(getattr(args, "kinds", ()), [*getattr(args, "field_texts", ()), *texts])


def typed(overrides: Overrides) -> str:
    """The first of the options, as it was typed."""
    option = next(iter(overrides))
    return option.typed if isinstance(option, Option) else f"--{option}"
