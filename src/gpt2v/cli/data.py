"""`gpt2v data ...`: show samples, export them, list suites, tokenize text."""

import argparse
from pathlib import Path
from typing import Any

from gpt2v.cli.before_torch import check_lm
from gpt2v.cli.overrides import (
    CONFIG_HELP,
    Overrides,
    Parser,
    config_command,
    describe_fields,
    describe_names,
    typed,
    whole_number,
)
from gpt2v.config.load import load
from gpt2v.config.measuring import ExportConfig, PreviewConfig, SuiteExportConfig, SuiteTilesConfig
from gpt2v.config.option_values import choice_of
from gpt2v.config.origins import told
from gpt2v.config.training import LMConfig
from gpt2v.errors import UserError, within
from gpt2v.hardware.memory import importing
from gpt2v.packaged import CONFIGS
from gpt2v.paths import expanded_text
from gpt2v.registry import EXECUTORS, FORMATS
from gpt2v.storage.names import resolved


def add_commands(commands: Any) -> None:
    """Add these commands to argparse's group of commands."""
    data = commands.add_parser("data", help="show samples, export them, list suites, tokenize text")
    group = data.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    preview = config_command(
        group, "preview", PreviewConfig, _preview, "print samples and write a PNG that shows them"
    )
    preview.add_argument("--n", type=whole_number, default=6, help="number of samples (default 6)")
    preview.add_argument(
        "--png",
        type=expanded_text,
        default="preview.png",
        help="file for the contact sheet (default preview.png)",
    )

    export = config_command(
        group,
        "export",
        {"for own grids": ExportConfig, "for a named suite": SuiteExportConfig},
        _export,
        "write samples for other tools; rerun to continue a stopped export",
        f"{CONFIG_HELP}, or the name of a suite",
        skip=["suite"],
    )
    export.add_argument("--to", type=expanded_text, required=True, help="folder for the files")
    export.add_argument("--format", required=True, help="format of the files, see below")
    export.add_argument(
        "--executor",
        default="serial",
        help="how to run the export (default serial): a name, or '{name: NAME, option: value}'",
    )
    describe_names(export, "--executor", EXECUTORS)
    describe_names(export, "--format", FORMATS)
    export.add_argument(
        "--workers",
        type=whole_number,
        help="number of shards to write at once (default: all cores)",
    )
    export.add_argument("--overwrite", action="store_true", help="replace an existing export")

    suites = group.add_parser("suites", help="list the named suites, or the parts of one suite")
    suites.add_argument(
        "name", nargs="?", help="name of a suite, to list its parts, baselines and hash"
    )
    suites.words["name"] = _suite_names
    describe_fields(suites, SuiteTilesConfig, skip=["suite"])
    suites.set_defaults(command=_suites)

    tokenize = config_command(
        group, "tokenize", LMConfig, _tokenize, "tokenize the plain text of an lm configuration"
    )
    tokenize.add_argument(
        "--out", type=expanded_text, required=True, help="folder for the token files"
    )


def _preview(args: argparse.Namespace, overrides: Overrides) -> None:
    beside = ("n_images", "shard_size", "modalities", "metrics", "examples", "features", "allow")
    config = load(PreviewConfig, args.config, overrides, beside)
    from gpt2v.data.preview import preview

    with told(args.config, overrides):
        preview(config, args.n, Path(args.png))


def _export(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.data.export.run import export
    from gpt2v.data.suites.load import is_suite, suite_names

    config: ExportConfig | SuiteExportConfig
    if is_suite(args.config):
        config = load(SuiteExportConfig, None, {**overrides, "suite": args.config})
    elif not Path(args.config).suffix and not CONFIGS.path(args.config).exists():
        raise UserError(
            f"{args.config}: no such file or suite; the suites are {', '.join(suite_names())}"
        )
    else:
        config = load(ExportConfig, args.config, overrides)
    with within("--to: "):
        to = resolved(Path(args.to))  # if it is a link, the folder that it leads to
    with told(args.config, overrides):
        executor = choice_of(EXECUTORS, args.executor, "--executor")
        export(config, to, args.format, executor, args.workers, args.overwrite)
    print(f"export: {args.to}")


def _suites(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.data.suites.load import load_suite, suite_names
    from gpt2v.data.suites.table import suite_table
    from gpt2v.messages import aligned

    if args.name is None:
        if overrides:
            raise UserError(f"{typed(overrides)}: needs the name of a suite")
        for line in aligned([[name, load_suite(name).description] for name in suite_names()]):
            print(line)
        return
    config = load(SuiteTilesConfig, None, {**overrides, "suite": args.name})
    for line in suite_table(config):
        print(line)


def _suite_names() -> list[str]:
    from gpt2v.data.suites.load import suite_names

    return suite_names()


def _tokenize(args: argparse.Namespace, overrides: Overrides) -> None:
    config = load(LMConfig, args.config, overrides)
    with told(args.config, overrides):
        check_lm(config)
        with importing():
            from gpt2v.lm_train.train import tokenize

        tokenize(config, Path(args.out))
