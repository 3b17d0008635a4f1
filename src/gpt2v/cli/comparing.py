"""`gpt2v eval compare` and `eval plan`: compare evaluations, and plan how much to measure."""

import argparse
import re
from collections.abc import Callable
from math import isinf
from typing import TYPE_CHECKING, Any

from gpt2v.cli.found import show
from gpt2v.cli.overrides import Overrides, whole_number
from gpt2v.cli.running import measuring_run, no_fields, run_options
from gpt2v.errors import UserError
from gpt2v.messages import aligned
from gpt2v.paths import expanded_text

if TYPE_CHECKING:
    from gpt2v.eval.plan import Spread

COMPARE, PLAN = "eval compare", "eval plan"  # commands of two words, beside `eval MODEL`
_SUPPOSED: dict[str, float] = {  # what a plan supposes without evaluations
    "discordant": 0.05,
    "in_picture": 0.1,
    "in_tile": 0.3,
    "questions": 9,
    "classes": 10,
}
_MEANINGS = {
    "discordant": "share of the questions that only one of the two answers right",
    "in_picture": "correlation of two questions about one grid",
    "in_tile": "correlation of two questions about two grids that read one tile",
    "questions": "questions about a grid",
    "classes": "number of classes of tiles",
}


def add_commands(commands: Any) -> None:
    """Add these commands to argparse's group of commands."""
    compare = commands.add_parser(COMPARE, help="compare evaluations of the same samples")
    compare.add_argument(
        "run",
        type=expanded_text,
        nargs="+",
        help="runs of gpt2v eval, or demos; each is compared with the first",
    )
    compare.add_argument(
        "--by",
        help="compare also by part of a suite, instruction, cell of the grid (look-ups), class of "
        "the asked object (look-ups): part,instruction,cell,class, some of these, or none (default "
        "all)",
    )
    run_options(compare, "runs/compare-A-B, with a number if it exists")
    compare.set_defaults(command=_compare)

    plan = commands.add_parser(PLAN, help="how many grids and tiles a difference needs")
    plan.add_argument(
        "run",
        type=expanded_text,
        nargs="*",
        help="two evaluations of the same samples, whose answers differ as those to come (default: "
        "as the options say)",
    )
    plan.add_argument(
        "--difference",
        type=_between(0, 1),
        required=True,
        help="the difference of two accuracies that shall be found, e.g. 0.01",
    )
    plan.add_argument(
        "--power",
        type=_between(0.05, 1),
        default=0.8,
        help="in which share of repetitions it shall be found (default %(default)s)",
    )
    for name, value in _SUPPOSED.items():
        plan.add_argument(
            f"--{name.replace('_', '-')}",
            type=_count if isinstance(value, int) else _between(0, 1),
            help=f"{_MEANINGS[name]} (default {value})",
        )
    plan.set_defaults(command=_plan)


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        is_number = re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]{1,2})?", text)
        if not (is_number and low < float(text) < high):
            raise argparse.ArgumentTypeError(
                f"must be a number above {low:g} and below {high:g}, not {text}"
            )
        return float(text)

    return number


def _count(text: str) -> int:
    if whole_number(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def _compare(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.eval.compare import BREAKDOWNS, check_compared, compare_runs

    no_fields(overrides, COMPARE)
    by = BREAKDOWNS if args.by is None else [] if args.by == "none" else args.by.split(",")
    check_compared(args.run, by)
    with measuring_run(args, "compare", args.run[0], args.run[1]) as run:
        show(compare_runs(args.run, by, run))


def _plan(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.eval.plan import plan

    no_fields(overrides, PLAN)
    given = {key: getattr(args, key) for key in _SUPPOSED if getattr(args, key) is not None}
    classes = int({**_SUPPOSED, **given}["classes"])
    for name, spread in _spreads(args.run, given).items():
        print(
            f"{name}: variance of a question {spread.question:.4f}, covariance in a picture "
            f"{spread.picture:.4f}, by a tile {spread.tile:.4f}, {spread.per_grid:g} questions"
        )
        rows = [
            [f"{tiles:,}", "none is enough" if isinf(grids) else f"{grids:,}"]
            for tiles, grids in plan(spread, args.difference, args.power, classes)
        ]
        print("\n".join(aligned([["tiles of a class", "grids"], *rows], 0)))


def _spreads(names: list[str], given: dict[str, Any]) -> "dict[str, Spread]":
    """The spreads to plan with, by what they are called in the output."""
    from gpt2v.eval.paired import pairs_of, read_evaluation
    from gpt2v.eval.plan import Spread

    if not names:
        known = {**_SUPPOSED, **given}
        spread = Spread.supposed(
            known["discordant"], known["in_picture"], known["in_tile"], known["questions"]
        )
        return {"supposed": spread}
    if len(names) != 2:
        raise UserError(f"{PLAN}: needs two evaluations of the same samples, or none")
    for key in given.keys() - {"classes"}:
        raise UserError(
            f"--{key.replace('_', '-')}: has no effect with two evaluations, which tell it"
        )
    first, other = map(read_evaluation, names)
    return {pair.modality: Spread.measured(pair) for pair in pairs_of(first, other)}
