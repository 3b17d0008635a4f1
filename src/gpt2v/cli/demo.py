"""`gpt2v demo`: train and measure a small GPT-2v in one command, with a report."""

import argparse
from pathlib import Path
from typing import Any

from gpt2v.cli.before_torch import check_demo
from gpt2v.cli.found import show
from gpt2v.cli.overrides import Overrides, describe_fields, describe_names, whole_number
from gpt2v.cli.running import hardware_options, on_hardware, quiet, run_options
from gpt2v.config.load import load
from gpt2v.config.origins import Option, told
from gpt2v.demo.config import SUB_RUNS, DemoConfig, demo_config
from gpt2v.demo.tiles import MANY, suited_preset
from gpt2v.demo.wishes import LARGEST, Wishes
from gpt2v.hardware.memory import importing
from gpt2v.paths import expanded_text
from gpt2v.registry import TILE_SOURCES
from gpt2v.run_layout import CONFIG, is_finished
from gpt2v.runs import new_run

DEFAULT_RUN = "runs/demo"
_WISHES = {  # options for every part of the demo
    "rows": f"number of rows of the grids, from 1 to {LARGEST} (default 3)",
    "cols": f"number of columns of the grids, from 1 to {LARGEST} (default 3)",
    "palette": "number of different objects that a grid may hold (default 4, or all classes of the "
    "tiles if there are fewer)",
    "seed": "seed of all trainings, of their data and of the grids that are measured",
}


def add_commands(commands: Any) -> None:
    """Add this command to argparse's group of commands."""
    demo = commands.add_parser("demo", help="train and measure a small GPT-2v, with a report")
    run_options(demo, DEFAULT_RUN, resume=True)
    demo.set_defaults(out=DEFAULT_RUN)
    hardware_options(demo)
    demo.add_argument(
        "--preset",
        type=expanded_text,
        help="default (minutes), photographs (most of an hour), distilled (likewise; learns from "
        "the encoder of photographs, --encoder.teacher) or smoke (seconds, learns nothing), or a "
        f"demo's config.yaml (default: default, or photographs for {MANY:,} pictures or more)",
    )
    demo.add_argument("--tiles", help="tile source, see below (default sprites)")
    describe_names(demo, "--tiles", TILE_SOURCES)
    demo.add_argument("--tiles-path", help="folder or hub id of the tiles; not for sprites")
    for name, text in _WISHES.items():
        demo.add_argument(f"--{name}", type=whole_number, metavar="N", help=text)
    describe_fields(demo, DemoConfig, skip=[f"{name}.tiles" for name in SUB_RUNS])
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace, overrides: Overrides) -> None:
    tiles = {
        Option("tiles.source", "--tiles"): args.tiles,
        Option("tiles.path", "--tiles-path"): args.tiles_path,
    }
    overrides = {**{key: value for key, value in tiles.items() if value}, **overrides}
    preset, why = (args.preset, "") if args.preset else suited_preset(overrides)
    wishes = Wishes(**{name: getattr(args, name) for name in _WISHES})
    with told("", [Option(name, f"--{name}") for name in _WISHES]):
        config = demo_config(preset, overrides, Path(args.out), wishes)
    origin = f"preset {preset}"
    with new_run(args.out, args.overwrite, args.resume) as run:
        if (run / CONFIG).is_file():
            load(DemoConfig, run / CONFIG, {})  # refuses a run that is not a demo
        if not is_finished(run):
            with told(origin, overrides):
                check_demo(config, tuple(str(run / name) for name in SUB_RUNS))
        with on_hardware(args):
            with importing():
                from gpt2v.demo.run import keep_demo, run_demo

            quiet()
            if is_finished(run):
                keep_demo(config, run)
                print(f"run: {run} is finished already")
                return
            print(f"demo: preset {preset}{f' ({why})' if why else ''}", flush=True)
            with told(origin, overrides):
                done = run_demo(config, preset, run)
    show(done)
    print(f"report: {run / 'report' / 'index.html'}")
