"""`gpt2v eval MODEL` with `--corpus`, `--pairs` or `--lm-eval`: language without grids."""

import argparse

from gpt2v.cli.before_torch import check_language
from gpt2v.cli.found import show
from gpt2v.cli.overrides import Overrides
from gpt2v.cli.running import measuring_run, on_hardware, quiet
from gpt2v.config.language import KINDS, LanguageConfig, language_kind
from gpt2v.config.load import load, read_mapping
from gpt2v.config.origins import told
from gpt2v.data.suites.load import is_suite
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.packaged import CONFIGS

OPTIONS = {f"--{key.replace('_', '-')}": kind for key, kind in KINDS.items()}


def language_config(suite: str | None, overrides: Overrides) -> LanguageConfig | None:
    """The configuration of a measurement of language; None: grids are measured.

    Args:
        suite: name of a suite, or a YAML file, such as the config.yaml of such a measurement.

    Raises:
        UserError: both grids and language are asked for, or a value is wrong.
    """
    if suite is not None and not is_suite(suite) and CONFIGS.path(suite).is_file():
        kind = language_kind(read_mapping(suite))
        if kind is not None:
            return load(kind, suite, overrides)
    kind = language_kind(overrides)
    if kind is None:
        return None
    if suite is not None:
        option = next(option for option, own in OPTIONS.items() if own is kind)
        raise UserError(f"{option}: has no grids, but --suite {suite} has; give one of them")
    return load(kind, None, overrides)


def evaluate_language(
    args: argparse.Namespace, overrides: Overrides, config: LanguageConfig
) -> None:
    """Measure, in a run directory with a name of its own, and print what was found."""
    if args.resume:
        raise UserError("--resume: only an evaluation of grids can be continued; leave it out")
    origin = args.suite or "command line"
    with measuring_run(args, "eval", args.model, config.of) as run:
        with told(origin, overrides):
            check_language(config, args.model)
        with on_hardware(args), told(origin, overrides):
            with importing():
                from gpt2v.eval.language.measure import measure_language
            quiet()
            show(measure_language(args.model, config, run))
