"""`gpt2v eval compare`: evaluations of the same samples, compared."""

import argparse
from typing import Any

from gpt2v.cli.found import show
from gpt2v.cli.overrides import Overrides
from gpt2v.cli.running import measuring_run, no_fields, run_options
from gpt2v.paths import expanded_text

COMPARE = "eval compare"  # a command of two words, beside `eval MODEL`


def add_commands(commands: Any) -> None:
    """Add this command to argparse's group of commands."""
    compare = commands.add_parser(COMPARE, help="compare evaluations of the same samples")
    compare.add_argument(
        "run",
        type=expanded_text,
        nargs="+",
        help="runs of gpt2v eval, or demos; each is compared with the first",
    )
    compare.add_argument(
        "--by",
        default="part,instruction,cell,class",
        help="compare also by part of a suite, instruction, cell of the grid (look-ups), class of "
        "the asked object (look-ups); names with commas, or none (default %(default)s)",
    )
    run_options(compare, "runs/compare-A-B, with a number if it exists")
    compare.set_defaults(command=_compare)


def _compare(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.eval.compare import check_compared, compare_runs

    no_fields(overrides, COMPARE)
    by = [] if args.by == "none" else args.by.split(",")
    check_compared(args.run, by)
    with measuring_run(args, "compare", args.run[0], args.run[1]) as run:
        show(compare_runs(args.run, by, run))
