"""`gpt2v eval|probe|ablate|report`: measure models and write reports."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2v.cli.before_torch import check_measured
from gpt2v.cli.found import show
from gpt2v.cli.language import OPTIONS, evaluate_language, language_config
from gpt2v.cli.overrides import (
    Overrides,
    Parser,
    config_command,
    describe_fields,
    describe_names,
)
from gpt2v.cli.running import (
    hardware_options,
    measuring_run,
    no_fields,
    on_hardware,
    quiet,
    run_options,
)
from gpt2v.config.base import Config
from gpt2v.config.load import load, read_mapping
from gpt2v.config.measuring import EvalConfig, LadderConfig, SuiteEvalConfig
from gpt2v.config.origins import told
from gpt2v.config.probing import ProbeConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.data.suites.load import is_suite, suite_names
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.packaged import CONFIGS
from gpt2v.paths import expanded_text
from gpt2v.registry import SECTIONS
from gpt2v.runs import check_there

_Measuring = Callable[[Any, Path], Any]


def add_commands(commands: Any) -> None:
    """Add these commands to argparse's group of commands."""
    evaluate = commands.add_parser("eval", help="measure a model on held-out grids, or on text")
    evaluate.add_argument(
        "model", type=expanded_text, help="a run, or a checkpoint; hf:NAME: any other model"
    )
    evaluate.add_argument(
        "--suite",
        type=expanded_text,
        help="a named suite, or a YAML file (default: 1,000 3x3 grids)",
    )
    evaluate.words["--suite"] = suite_names
    run_options(evaluate, "runs/eval-MODEL-SUITE, with a number if it exists", resume=True)
    hardware_options(evaluate)
    _say_defaults(evaluate)
    kinds: dict[str, type[Config]] = {
        "for own grids": EvalConfig,
        "with --suite NAME": SuiteEvalConfig,
    }
    describe_fields(evaluate, kinds, skip=["suite"], others=OPTIONS)
    evaluate.set_defaults(command=_eval)

    probe = config_command(
        commands, "probe", ProbeConfig, _probe, "read the object of each cell from hidden states"
    )
    _say_defaults(probe)
    run_options(probe, "runs/probe-MODEL-CONFIG, with a number if it exists", resume=True)
    hardware_options(probe)
    ablate = commands.add_parser(
        "ablate", help="replace parts of the input of a GPT-2v"
    ).add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    tokens = config_command(
        ablate, "tokens", LadderConfig, _ablate_tokens, "measure the ladder from text to picture"
    )
    _say_defaults(tokens)
    run_options(tokens, "runs/ladder-MODEL-CONFIG, with a number if it exists")
    hardware_options(tokens)

    report = commands.add_parser("report", help="write the HTML report of one or more runs")
    report.add_argument("run", type=expanded_text, nargs="+", help="finished runs, of any command")
    report.add_argument(
        "--out",
        type=expanded_text,
        help="folder (default RUN/report; for several runs: runs/report)",
    )
    report.add_argument(
        "--sections", help="sections to show, '[NAME, {name: NAME, OPTION: VALUE}]' (default all)"
    )
    describe_names(report, "--sections", SECTIONS)
    report.set_defaults(command=_report)


def _say_defaults(parser: Parser) -> None:
    parser.notes.append(
        lambda: (
            "tiles, grid: what is not given is taken from the run of the model (its last stage "
            "with grids); the defaults below are those for a model without a run"
        )
    )


def _eval(args: argparse.Namespace, overrides: Overrides) -> None:
    language = language_config(args.suite, overrides)
    if language is not None:
        evaluate_language(args, overrides, language)
        return
    config = eval_config(args.suite, overrides)
    origin = args.suite or "command line"
    with measuring_run(args, "eval", args.model, args.suite) as run:
        with told(origin, overrides):
            check_measured(config, args.model)
        with on_hardware(args), told(origin, overrides):
            with importing():
                from gpt2v.eval.evaluate import evaluate_model
            quiet()
            show(evaluate_model(args.model, config, run))


def eval_config(suite: str | None, overrides: Overrides) -> EvalConfig | SuiteEvalConfig:
    """The configuration of an evaluation.

    Args:
        suite: name of a suite, or a YAML file, which may name a suite; none: only the overrides.

    Raises:
        UserError: no such suite or file, or a value is wrong.
    """
    if is_suite(suite):
        return load(SuiteEvalConfig, None, {**overrides, "suite": suite})
    if suite is None:
        return load(EvalConfig, None, overrides)
    if not CONFIGS.path(suite).exists():
        raise UserError(
            f"--suite: {suite}: no such file or suite; the suites are {', '.join(suite_names())}"
            f"{CONFIGS.hint(suite)}"
        )
    if "suite" in read_mapping(suite):
        return load(SuiteEvalConfig, suite, overrides)
    return load(EvalConfig, suite, overrides)


def _probe(args: argparse.Namespace, overrides: Overrides) -> None:
    def part() -> _Measuring:
        from gpt2v.probing.probe import probe_model

        return probe_model

    _measure("probe", args, overrides, load(ProbeConfig, args.config, overrides), part)


def _ablate_tokens(args: argparse.Namespace, overrides: Overrides) -> None:
    def part() -> _Measuring:
        from gpt2v.ablate.ladder import climb_model

        return climb_model

    _measure("ladder", args, overrides, load(LadderConfig, args.config, overrides), part)


def _measure(
    kind: str,
    args: argparse.Namespace,
    overrides: Overrides,
    config: ProbeConfig | LadderConfig,
    part: Callable[[], _Measuring],
) -> None:
    """Measure; `part` imports torch, and returns the measurement."""
    with measuring_run(args, kind, config.model, args.config) as run:
        with told(args.config, overrides):
            check_measured(config, config.model)
        with on_hardware(args), told(args.config, overrides):
            with importing():
                measure = part()
            quiet()
            show(measure(config, run))


def _report(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "the report")
    for run in args.run:
        check_there(Path(run))
    with importing():
        from gpt2v.report import write_report

    sections = read_yaml(args.sections, "--sections") if args.sections else None
    print(f"report: {write_report(args.run, args.out, sections)}")
