"""`gpt2v eval|probe|ablate|report`: measure models and write reports."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt2v.cli.overrides import (
    Overrides,
    Parser,
    config_command,
    describe_fields,
    describe_names,
)
from gpt2v.cli.running import no_fields, quiet, run_directory, run_options
from gpt2v.config.base import Config
from gpt2v.config.load import load, read_mapping
from gpt2v.config.measuring import EvalConfig, LadderConfig, ProbeConfig, SuiteEvalConfig
from gpt2v.config.yaml12 import read_yaml
from gpt2v.data.suites.load import is_suite, suite_names
from gpt2v.errors import UserError, within
from gpt2v.packaged import CONFIGS
from gpt2v.paths import expanded_text
from gpt2v.registry import SECTIONS
from gpt2v.runs import new_run


def add_commands(commands: Any) -> None:
    """Add these commands to argparse's group of commands."""
    evaluate = commands.add_parser("eval", help="measure a model on held-out grids")
    evaluate.add_argument("model", type=expanded_text, help="a run, or a checkpoint")
    evaluate.add_argument(
        "--suite",
        type=expanded_text,
        help="a named suite, or a YAML file (default: 1,000 3x3 grids)",
    )
    run_options(evaluate, "runs/eval")
    _say_defaults(evaluate)
    describe_fields(evaluate, EvalConfig)
    evaluate.set_defaults(command=_eval)

    probe = config_command(
        commands, "probe", ProbeConfig, _probe, "fit linear probes on the patch embeddings"
    )
    _say_defaults(probe)
    run_options(probe, None)
    ablate = commands.add_parser(
        "ablate", help="replace parts of the input of a GPT-2v"
    ).add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    tokens = config_command(
        ablate, "tokens", LadderConfig, _ablate_tokens, "measure the ladder from text to picture"
    )
    _say_defaults(tokens)
    run_options(tokens, None)

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
    config = eval_config(args.suite, overrides)
    from gpt2v.eval.evaluate import evaluate_model

    quiet()
    with new_run(args.out, args.overwrite) as run, within(f"{args.suite or 'command line'}: "):
        results = evaluate_model(args.model, config, run)
    for row in results["results"]:
        low, high = row["ci95"]
        print(
            f"{row.get('part', ''):12} {row['instruction']:11} {row['modality']:6} "
            f"{row['accuracy']:.4f} [{low:.4f}, {high:.4f}]  blind {row['blind_accuracy']:.3f}, "
            f"bag {row['bag_accuracy']:.3f}"
        )


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
    config = load(ProbeConfig, args.config, overrides)
    from gpt2v.probe.probe import probe_model

    _measure(config, probe_model, args)


def _ablate_tokens(args: argparse.Namespace, overrides: Overrides) -> None:
    config = load(LadderConfig, args.config, overrides)
    from gpt2v.ablate.ladder import climb_model

    _measure(config, climb_model, args)


def _measure(config: Config, measure: Callable[[Any, Path], Any], args: argparse.Namespace) -> None:
    quiet()
    with new_run(run_directory(args), args.overwrite) as run, within(f"{args.config}: "):
        measure(config, run)
    print(f"run: {run}")


def _report(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "the report")
    from gpt2v.report import write_report

    sections = read_yaml(args.sections, "--sections") if args.sections else None
    print(f"report: {write_report(args.run, args.out, sections)}")
