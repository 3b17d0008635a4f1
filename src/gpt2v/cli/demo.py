"""`gpt2v demo`: everything in one go, with a report."""

import argparse
from pathlib import Path
from typing import Any

from gpt2v.cli.overrides import Overrides, describe_fields, describe_names
from gpt2v.cli.running import quiet, run_options
from gpt2v.config.load import load
from gpt2v.demo.config import STAGES, DemoConfig, demo_config
from gpt2v.errors import within
from gpt2v.registry import TILE_SOURCES
from gpt2v.runs import new_run


def add_commands(commands: Any) -> None:
    """Add this command to argparse's group of commands."""
    demo = commands.add_parser("demo", help="everything, small, with a report")
    run_options(demo, "runs/demo", resume=True)
    demo.add_argument(
        "--preset",
        help="default, photographs or smoke (by --tiles if not given), or a demo's config.yaml",
    )
    demo.add_argument("--tiles", help="tile source (default sprites)")
    describe_names(demo, "--tiles", TILE_SOURCES)
    demo.add_argument("--tiles-path", help="where the tiles are, if not sprites")
    describe_fields(demo, DemoConfig, skip=[f"{stage}.tiles" for stage in STAGES])
    demo.set_defaults(command=_demo)


def _demo(args: argparse.Namespace, overrides: Overrides) -> None:
    drawn = args.tiles in (None, "sprites")
    preset = args.preset or ("default" if drawn else "photographs")
    tiles = {"tiles.source": args.tiles, "tiles.path": args.tiles_path}
    given = {key: value for key, value in tiles.items() if value}
    config = demo_config(preset, {**given, **overrides}, Path(args.out))
    from gpt2v.demo.run import run_demo

    quiet()
    with new_run(args.out, args.overwrite, args.resume) as run:
        before = run / "config.yaml"
        if before.is_file():
            load(DemoConfig, before, {})  # another kind of run is refused, and left as it is
        with within(f"preset {preset}: "):
            found = run_demo(config, preset, run)
    print(
        f"text {found['text_accuracy']:.1%}, image {found['image_accuracy']:.1%}, "
        f"probe {found['probe_palette_accuracy']:.1%} of {found['n_questions']} questions about "
        f"{found['n_images']} held-out grids (blind {found['blind_accuracy']:.0%}, "
        f"bag {found['bag_accuracy']:.0%})\nreport: {run / 'report' / 'index.html'}"
    )
