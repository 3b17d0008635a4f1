"""`gpt2v configs`: list the configurations that come with gpt2v, or print one to start from."""

import argparse
from typing import Any

from gpt2v.cli.overrides import Overrides
from gpt2v.cli.running import no_fields
from gpt2v.packaged import CONFIGS, PREFIX


def add_commands(commands: Any) -> None:
    """Add this command to argparse's group of commands."""
    configs = commands.add_parser("configs", help="list the configurations, or print one")
    configs.add_argument(
        "name", nargs="?", help="such as gpt2v:lm/grid-tiny: print it (> mine.yaml copies it)"
    )
    configs.words["name"] = lambda: [name.removeprefix(PREFIX) for name in CONFIGS.names()]
    configs.set_defaults(command=_configs)


def _configs(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "configs")
    if args.name is not None:
        print(_text(PREFIX + args.name.removeprefix(PREFIX)), end="")
        return
    names = CONFIGS.names()
    width = max(map(len, names))
    for name in names:
        first, *_ = _text(name).splitlines()  # a comment that says what it is
        print(f"{name:{width}}  {first.strip('# :.')}")


def _text(name: str) -> str:
    return CONFIGS.path(name).read_text(encoding="utf-8")
