"""`gpt2v completion SHELL`: print a script with which a shell completes commands, options, values.

The script is static, so that the Tab key does not have to wait for Python. It is made from the same
parsers as the help, by shtab.
"""

import argparse
from collections.abc import Callable
from typing import Any

from gpt2v.cli.overrides import Overrides, Parser
from gpt2v.cli.running import no_fields
from gpt2v.errors import UserError
from gpt2v.paths import expanded_text

SHELLS = ("bash", "zsh", "fish")


def add_commands(commands: Any, whole: Callable[[], Parser]) -> None:
    """Add this command to argparse's group of commands.

    Args:
        whole: makes the parser of all commands.
    """
    completion = commands.add_parser(
        "completion", help="print a script for the shell, which then completes words with Tab"
    )
    completion.add_argument("shell", help=f"{', '.join(SHELLS)}")
    completion.notes.append(lambda: _ADVICE)
    completion.words["shell"] = lambda: SHELLS
    completion.set_defaults(command=_completion, whole=whole)


_ADVICE = """\
bash: put into ~/.bashrc: eval "$(gpt2v completion bash)"
zsh: put into ~/.zshrc, after compinit: eval "$(gpt2v completion zsh)"
fish: gpt2v completion fish > ~/.config/fish/completions/gpt2v.fish
Do it again after an update of gpt2v."""


def _completion(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "completion")
    if args.shell not in SHELLS:
        raise UserError(f"completion: {args.shell}: must be one of {', '.join(SHELLS)}")
    print(script(args.whole(), args.shell))


def script(parser: Parser, shell: str) -> str:
    """The script for a shell.

    Args:
        parser: of all commands; it is changed.
    """
    import shtab

    _show_words(parser, shtab.FILE)
    return str(shtab.complete(parser, shell))


def _show_words(parser: Parser, files: dict[str, str]) -> None:
    """Tell shtab the fields, the words that options take, and which take a file or a folder.

    Args:
        files: what shtab completes files with.
    """
    fields = {f"--{field.key}": field for block in parser.blocks() for field in block.fields}
    for name in (name for name in fields if ".NAME." not in name):
        if name not in parser._option_string_actions:
            parser.add_argument(name)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            listed = action._choices_actions  # a shell completes one word after another
            listed[:] = [one for one in listed if " " not in one.dest]
            for name in [name for name in action.choices if " " in name]:
                del action.choices[name]
            for below in action.choices.values():
                _show_words(below, files)
            continue
        name = action.option_strings[-1] if action.option_strings else action.dest
        field = fields.get(name)
        words = field.words if field else parser.words.get(name, tuple)()
        is_text = action.type is expanded_text or (field is not None and "text" in field.values)
        if field:
            action.help = field.meaning.replace("%", "%%")
        if words:
            action.choices = list(words)
        elif is_text:
            action.complete = files  # type: ignore[attr-defined]
