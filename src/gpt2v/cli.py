"""`gpt2v ...`: one command for each module; every field of a configuration is an option.

A user's mistake ends with one line on stderr and exit status 2.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gpt2v import __version__
from gpt2v.config import Config
from gpt2v.configfile import load
from gpt2v.data_commands import add_data_commands
from gpt2v.errors import Stopped, UserError, within
from gpt2v.experiments import EncoderConfig, LMConfig, MMConfig, SampleConfig
from gpt2v.measurements import EvalConfig, LadderConfig, ProbeConfig
from gpt2v.options import (
    Overrides,
    Parser,
    config_command,
    describe_fields,
    overrides_of,
    take_overrides,
    top_level,
)
from gpt2v.presets import STAGES, DemoConfig, demo_config
from gpt2v.runs import FINISHED, new_run, write_config
from gpt2v.train.memory import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    keep_freed_memory()
    try:
        words, overrides = take_overrides(list(sys.argv[1:] if argv is None else argv))
        args, rest = _parser().parse_known_args(words)
        args.command(args, {**overrides, **top_level(args), **overrides_of(rest)})
    except UserError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes, one speaks
            print(f"gpt2v: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"gpt2v: {stopped}; the same command with --resume goes on", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt:
        print("gpt2v: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="gpt2v", description="The same grid as text and as a picture.")
    parser.add_argument("--version", action="version", version=f"gpt2v {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    demo = commands.add_parser("demo", help="everything, small, with a report")
    _run_options(demo, "runs/demo", resume=True)
    demo.add_argument("--preset", help="default, photographs or smoke; by --tiles if not given")
    sources = ["sprites", "cifar10", "cifar100", "folder"]
    demo.add_argument("--tiles", default="sprites", choices=sources)
    demo.add_argument("--tiles-path", help="where the tiles are, if not sprites")
    describe_fields(demo, DemoConfig, skip=[f"{stage}.tiles" for stage in STAGES])
    demo.set_defaults(command=_demo)

    data = commands.add_parser("data", help="look at samples, write them, prepare text")
    add_data_commands(data.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser))

    for group, kind, train, text in (
        ("lm", LMConfig, _lm_train, "pre-train a GPT-2"),
        ("encoder", EncoderConfig, _encoder_train, "pre-train a CLIP encoder"),
        ("mm", MMConfig, _mm_train, "train a GPT-2v"),
    ):
        sub = commands.add_parser(group, help=text).add_subparsers(
            required=True, metavar="COMMAND", parser_class=Parser
        )
        _run_options(config_command(sub, "train", kind, train, text), None, resume=True)
        if group == "lm":
            sample = sub.add_parser("sample", help="continue prompts, to read what was learnt")
            sample.add_argument("run", help="a run, a checkpoint or a hub id")
            sample.add_argument("--prompt", action="append", help="text to continue; repeatable")
            describe_fields(sample, SampleConfig)
            sample.set_defaults(command=_lm_sample)
        if group == "mm":
            export = sub.add_parser("export", help="write a GPT-2v as a stock LLaVA checkpoint")
            export.add_argument("run", help="a run or a checkpoint")
            export.add_argument("--to", required=True, help="folder for the files")
            export.add_argument("--overwrite", action="store_true", help="replace an export")
            export.add_argument("--push", metavar="OWNER/NAME", help="upload it to the Hub as well")
            export.add_argument("--public", action="store_true", help="for all (default: private)")
            export.set_defaults(command=_mm_export)

    evaluate = commands.add_parser("eval", help="measure a model on held-out grids")
    evaluate.add_argument("model", help="a run or a checkpoint")
    evaluate.add_argument(
        "--suite", help="a named suite, or a YAML file; 1,000 3x3 grids if absent"
    )
    _run_options(evaluate, "runs/eval")
    describe_fields(evaluate, EvalConfig)
    evaluate.set_defaults(command=_eval)

    probe = config_command(commands, "probe", ProbeConfig, _probe, "linear probes of the patches")
    _run_options(probe, None)
    ablate = commands.add_parser("ablate", help="ablations").add_subparsers(
        required=True, metavar="COMMAND", parser_class=Parser
    )
    tokens = config_command(
        ablate, "tokens", LadderConfig, _ablate_tokens, "the vision-token ladder"
    )
    _run_options(tokens, None)

    report = commands.add_parser("report", help="write the HTML report of a run")
    report.add_argument("run", help="a finished run of `gpt2v demo`")
    report.set_defaults(command=_report)
    return parser


def _run_options(
    parser: argparse.ArgumentParser, default: str | None, resume: bool = False
) -> None:
    shown = default or "runs/CONFIG"
    parser.add_argument("--out", default=default, help=f"run directory (default {shown})")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run")
    if resume:
        parser.add_argument(
            "--resume", action="store_true", help="go on from the newest whole checkpoint in --out"
        )


def _out(args: argparse.Namespace) -> Path:
    return Path(args.out) if args.out else Path("runs") / Path(args.config).stem


def _demo(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.demo import run_demo

    preset = args.preset or ("default" if args.tiles == "sprites" else "photographs")
    tiles = {"tiles.source": args.tiles}
    if args.tiles_path:
        tiles["tiles.path"] = args.tiles_path
    config = demo_config(preset, {**tiles, **overrides}, Path(args.out))
    _quiet()
    before = Path(args.out) / "config.yaml"
    if args.resume and before.is_file():
        load(DemoConfig, before, {})  # another kind of run is refused, and left as it is
    with new_run(args.out, args.overwrite, args.resume) as run, within(f"preset {preset}: "):
        found = run_demo(config, preset, run)
    print(
        f"text {found['text_accuracy']:.1%}, image {found['image_accuracy']:.1%}, "
        f"probe {found['probe_palette_accuracy']:.1%} of {found['n_questions']} questions about "
        f"{found['n_images']} held-out grids (blind {found['blind_accuracy']:.0%}, "
        f"bag {found['bag_accuracy']:.0%})\nreport: {run / 'report' / 'index.html'}"
    )


def _measure(
    kind: type[Config], measure: Callable[[Any, Path], Any], args: argparse.Namespace, o: Overrides
) -> None:
    config = load(kind, args.config, o)
    _quiet()
    with new_run(_out(args), args.overwrite) as run, within(f"{args.config}: "):
        measure(config, run)
    print(f"run: {run}")


def _train(
    kind: type[Config], train: Callable[[Any, Path], Any], args: argparse.Namespace, o: Overrides
) -> None:
    from gpt2v.train.distributed import processes, rank

    config = load(kind, args.config, o)
    _quiet()
    with processes(), _shared_run(args) as run, within(f"{args.config}: "):
        if args.resume and (run / FINISHED).is_file():
            write_config(run, config)
            print(f"run: {run} is finished already")
            return
        train(config, run)
        if rank() == 0:
            print(f"run: {run}")


@contextmanager
def _shared_run(args: argparse.Namespace) -> Iterator[Path]:
    """The run directory: made by one process, waited for by the others that torchrun started."""
    from gpt2v.train.distributed import from_rank_0

    with ExitStack() as stack:
        place = new_run(_out(args), args.overwrite, args.resume)
        from_rank_0(lambda: str(stack.enter_context(place)))
        yield _out(args)


def _lm_train(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.lm_train.train import train_lm

    _train(LMConfig, train_lm, args, overrides)


def _lm_sample(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.lm_train.sample import sample

    settings = load(SampleConfig, None, overrides)
    _quiet()
    sample(args.run, args.prompt or [], settings)


def _encoder_train(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.mm_train.encoder import train_encoder

    _train(EncoderConfig, train_encoder, args, overrides)


def _mm_train(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.mm_train.train import train_mm

    _train(MMConfig, train_mm, args, overrides)


def _mm_export(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.mm_train.export import check_push, export_llava, push

    _no_fields(overrides, "mm export")
    check_push(args.push, args.public)
    _quiet()
    said = export_llava(args.run, Path(args.to), args.overwrite)
    print(f"export: {args.to}: {said}", flush=True)
    if args.push:
        print(f"pushed: {push(Path(args.to), args.push, args.public)}")


def _eval(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.eval.command import eval_config, evaluate_model

    config = eval_config(args.suite, overrides)
    _quiet()
    with new_run(args.out, args.overwrite) as run, within(f"{args.suite or 'command line'}: "):
        found = evaluate_model(args.model, config, run)
    for row in found["results"]:
        low, high = row["ci95"]
        print(
            f"{row.get('part', ''):12} {row['instruction']:11} {row['modality']:6} "
            f"{row['accuracy']:.4f} [{low:.4f}, {high:.4f}]  blind {row['blind_accuracy']:.3f}, "
            f"bag {row['bag_accuracy']:.3f}"
        )


def _probe(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.probe.probe import probe_model

    _measure(ProbeConfig, probe_model, args, overrides)


def _ablate_tokens(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.ablate.ladder import climb_model

    _measure(LadderConfig, climb_model, args, overrides)


def _report(args: argparse.Namespace, overrides: Overrides) -> None:
    from gpt2v.report import write_report

    _no_fields(overrides, "the report")
    print(f"report: {write_report(Path(args.run))}")


def _no_fields(overrides: Overrides, command: str) -> None:
    if overrides:
        raise UserError(f"--{next(iter(overrides))}: {command} has no such option")


def _quiet() -> None:
    from gpt2v.model.files import quiet_transformers

    quiet_transformers()


if __name__ == "__main__":
    sys.exit(main())
