"""The command `gpt2v`. Every field of a command's configuration is an option.

A user's mistake ends with one line on stderr and exit status 2. Configurations are checked before
torch is imported, because the import takes seconds.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from gpt2v import __version__
from gpt2v.cli import data, demo, measuring, training
from gpt2v.cli.overrides import Parser, overrides_of, take_imports, take_overrides, top_level
from gpt2v.errors import Stopped, UserError
from gpt2v.hardware.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    keep_freed_memory()
    try:
        words = take_imports(list(sys.argv[1:] if argv is None else argv))
        words, overrides = take_overrides(words)
        args, rest = _parser().parse_known_args(words)
        args.command(args, {**top_level(args), **overrides_of(rest), **overrides})
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # only one of several processes prints
            print(f"gpt2v: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"gpt2v: {stopped}; rerun with --resume to continue", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt:
        print("gpt2v: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has closed it, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="gpt2v",
        description="Ask a small GPT-2 about the same grid as text and as a picture.",
    )
    parser.notes.append(
        lambda: "All commands take --import FILE.py, a file with your own projectors, metrics, ..."
    )
    parser.add_argument("--version", action="version", version=f"gpt2v {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for family in (demo, data, training, measuring):
        family.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
