"""What commands share that fill a run directory."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gpt2v.cli.overrides import Overrides
from gpt2v.errors import UserError
from gpt2v.runs import new_run


def run_options(parser: argparse.ArgumentParser, default: str | None, resume: bool = False) -> None:
    """Add `--out`, `--overwrite` and, for trainings, `--resume`."""
    shown = default or "runs/CONFIG"
    parser.add_argument("--out", default=default, help=f"run directory (default {shown})")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    if resume:
        parser.add_argument(
            "--resume", action="store_true", help="go on from the newest whole checkpoint in --out"
        )


def run_directory(args: argparse.Namespace) -> Path:
    """Where a command's run goes: `--out`, or a folder with its configuration's name."""
    return Path(args.out) if args.out else Path("runs") / Path(args.config).stem


@contextmanager
def shared_run(args: argparse.Namespace) -> Iterator[Path]:
    """The run directory: made by one process, waited for by the others that torchrun started."""
    from gpt2v.train.distributed import from_rank_0

    with ExitStack() as stack:
        place = new_run(run_directory(args), args.overwrite, args.resume)
        from_rank_0(lambda: str(stack.enter_context(place)))
        yield run_directory(args)


def no_fields(overrides: Overrides, command: str) -> None:
    """Refuse options of fields, for a command that has none."""
    if overrides:
        raise UserError(f"--{next(iter(overrides))}: {command} has no such option")


def quiet() -> None:
    """Keep transformers' bars and warnings about what we do on purpose from the user."""
    from gpt2v.model.files import quiet_transformers

    quiet_transformers()
