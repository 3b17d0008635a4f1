"""What commands that write a run directory have in common."""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gpt2v.cli.overrides import Overrides
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.paths import expanded_text
from gpt2v.runs import new_run


def run_options(parser: argparse.ArgumentParser, default: str | None, resume: bool = False) -> None:
    """Add `--out`, `--overwrite` and, for trainings, `--resume`."""
    shown = default or "runs/CONFIG"
    parser.add_argument(
        "--out", type=expanded_text, default=default, help=f"run directory (default {shown})"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    if resume:
        parser.add_argument(
            "--resume",
            action="store_true",
            help="continue from the newest whole checkpoint in --out",
        )


def run_directory(args: argparse.Namespace) -> Path:
    """The run directory of a command: `--out`, or `runs/` and the name of its configuration."""
    return Path(args.out) if args.out else Path("runs") / Path(args.config).stem


@contextmanager
def shared_run(args: argparse.Namespace) -> Iterator[Path]:
    """The run directory. One process makes it; the others that torchrun started wait for it."""
    with ExitStack() as stack:
        run = new_run(run_directory(args), args.overwrite, args.resume)
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:  # a mistake is told without torch
            stack.enter_context(run)
        else:
            with importing():
                from gpt2v.train.distributed import from_rank_0, processes
            stack.enter_context(processes())
            from_rank_0(lambda: str(stack.enter_context(run)))
        yield run_directory(args)


def no_fields(overrides: Overrides, command: str) -> None:
    """Refuse all options of fields, for a command that has no configuration."""
    if overrides:
        raise UserError(f"--{next(iter(overrides))}: {command} has no such option")


def quiet() -> None:
    """Hide transformers' progress bars, and its warnings about things that are intended here."""
    with importing():
        from gpt2v.model.files import quiet_transformers

    quiet_transformers()
