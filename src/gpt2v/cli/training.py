"""`gpt2v lm|encoder|mm ...`: train models, generate text, export a GPT-2v."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gpt2v.cli.before_torch import check_encoder, check_lm, check_mm, check_model
from gpt2v.cli.found import show
from gpt2v.cli.overrides import Overrides, Parser, config_command, describe_fields
from gpt2v.cli.running import (
    hardware_options,
    no_fields,
    on_hardware,
    quiet,
    run_options,
    shared_run,
)
from gpt2v.config.base import Config
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import load
from gpt2v.config.mistakes import impossible_value
from gpt2v.config.origins import told
from gpt2v.config.training import GenerateConfig, LMConfig, MMConfig
from gpt2v.errors import UserError
from gpt2v.hardware.memory import importing
from gpt2v.paths import expanded_text
from gpt2v.results import read_results
from gpt2v.run_layout import is_finished
from gpt2v.runs import write_config

C = TypeVar("C", bound=Config)
_Training = Callable[[Any, Path], Any]
_Settled = Callable[[Any], Config]


def add_commands(commands: Any) -> None:
    """Add these commands to argparse's group of commands."""
    for group, kind, command, text in (
        ("lm", LMConfig, _lm_train, "pre-train a GPT-2"),
        ("encoder", EncoderConfig, _encoder_train, "pre-train a CLIP encoder"),
        ("mm", MMConfig, _mm_train, "train a GPT-2v"),
    ):
        sub = commands.add_parser(group, help=text).add_subparsers(
            required=True, metavar="COMMAND", parser_class=Parser
        )
        train = config_command(sub, "train", kind, command, text)
        run_options(train, "runs/CONFIG", resume=True)
        hardware_options(train)
        if group == "lm":
            sample = sub.add_parser("sample", help="generate text that continues prompts")
            sample.add_argument("run", type=expanded_text, help="a run, a checkpoint or a hub id")
            sample.add_argument(
                "--prompt", action="append", help="text to continue; can be given several times"
            )
            hardware_options(sample)
            describe_fields(sample, GenerateConfig)
            sample.set_defaults(command=_lm_sample)
        if group == "mm":
            export = sub.add_parser("export", help="write a GPT-2v as a standard LLaVA checkpoint")
            export.add_argument("run", type=expanded_text, help="a run, or a checkpoint")
            export.add_argument(
                "--to", type=expanded_text, required=True, help="folder for the files"
            )
            export.add_argument(
                "--overwrite", action="store_true", help="replace an existing export"
            )
            export.add_argument("--push", metavar="OWNER/NAME", help="also upload it to the Hub")
            export.add_argument(
                "--public", action="store_true", help="make the upload public (default: private)"
            )
            export.set_defaults(command=_mm_export)


def _lm_train(args: argparse.Namespace, overrides: Overrides) -> None:
    def parts() -> tuple[_Training, _Settled]:
        from gpt2v.lm_train.train import settled_lm, train_lm

        return train_lm, settled_lm

    _train(args, overrides, load(LMConfig, args.config, overrides), check_lm, parts)


def _encoder_train(args: argparse.Namespace, overrides: Overrides) -> None:
    def parts() -> tuple[_Training, _Settled]:
        from gpt2v.encoder_train.train import settled_encoder, train_encoder

        return train_encoder, settled_encoder

    _train(args, overrides, load(EncoderConfig, args.config, overrides), check_encoder, parts)


def _mm_train(args: argparse.Namespace, overrides: Overrides) -> None:
    def parts() -> tuple[_Training, _Settled]:
        from gpt2v.mm_train.train import settled_mm, train_mm

        return train_mm, settled_mm

    _train(args, overrides, load(MMConfig, args.config, overrides), check_mm, parts)


def _train(
    args: argparse.Namespace,
    overrides: Overrides,
    config: C,
    check: Callable[[C], None],
    parts: Callable[[], tuple[_Training, _Settled]],
) -> None:
    """Train, or say that this is done.

    Args:
        check: refuses what needs no torch to be refused.
        parts: imports torch; returns the training, and what fills in the parts of a configuration
            that the models decide which the training starts from.
    """
    with shared_run(args) as run:
        is_done = args.resume and is_finished(run)
        with told(args.config, overrides):
            if not is_done:
                check(config)
        with on_hardware(args), told(args.config, overrides):
            with importing():
                from gpt2v.train.distributed import rank

                train, settled = parts()
            quiet()
            if is_done:
                write_config(run, settled(config))
                print(f"run: {run} is finished already")
                return
            train(config, run)
        if rank() == 0:
            show(read_results(run))
            print(f"run: {run}")


def _lm_sample(args: argparse.Namespace, overrides: Overrides) -> None:
    settings = load(GenerateConfig, None, overrides)
    for prompt in args.prompt or []:
        if fault := impossible_value(prompt, "--prompt"):
            raise UserError(fault)
    check_model(args.run, "model")
    with on_hardware(args):
        with importing():
            from gpt2v.lm_train.sample import sample
        quiet()
        sample(args.run, args.prompt or [], settings)


def _mm_export(args: argparse.Namespace, overrides: Overrides) -> None:
    no_fields(overrides, "mm export")
    from gpt2v.mm_train.export import check_export, check_push, export_llava, push

    check_push(args.push, args.public)
    check_export(args.run, Path(args.to), args.overwrite)
    quiet()
    summary = export_llava(args.run, Path(args.to), args.overwrite)
    print(f"export: {args.to}: {summary}", flush=True)
    if args.push:
        print(f"pushed: {push(Path(args.to), args.push, args.public)}")
