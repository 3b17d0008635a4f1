"""Minutes until an encoder names photographs: ways to train one, and the CIFAR-10 speed recipe.

    python bench/photographs.py --tiles-path cifar10 --minutes 16 --out photos
    python bench/photographs.py --tiles-path cifar10 --minutes 16 --out new --teacher photos/conv
    python bench/photographs.py --runs vit=photos/vit distilled=new/distilled --out both
    python bench/photographs.py --sprites --minutes 0.1 --out smoke  # drawn tiles: does it run?

The arms, trained one after another:

vit: a plain CLIP vision transformer, as the preset `photographs` had it first;
conv: the encoder of the preset as it is now;
distilled: that transformer as the preset `distilled` trains it, with --teacher, whose own minutes
    are not counted; it ends early, because only the first steps wait for the teacher;
recipe: the speed recipe (speed_recipe.py), which trains on single tiles, has no captions and no
    patches, and always takes its own number of epochs.

An encoder's schedule ends after about --minutes: a short training is timed, and the number of steps
set accordingly. Ten-way accuracy is that of the validation split: for encoders zero-shot, on the
cells of 500 grids; for the recipe on every tile, in six views of it. Minutes are of training,
without validations and saves. A point on the way is not what a schedule that ends there would
reach. Between two validations the table reads the line that joins them. --runs reads finished
trainings and trains nothing.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, Never

from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.config.yaml12 import dump_yaml, read_yaml
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.report.read import read_lines
from gpt2v.run_layout import METRICS
from gpt2v.runs import versions
from photograph_curves import Curve, draw, read_curve, table, trained_seconds
from speed_recipe import train_recipe

ARMS = ("vit", "conv", "distilled", "recipe")
WARM, TIMED = 2, 8  # steps of the short training
VALIDATIONS = 8  # of each training
GRIDS = 500  # of each validation

VIT: dict[str, Any] = {
    "tiles": {"size": 32, "augment": {"flip": True, "crop": 0.15, "jitter": 0.3}},
    "vision": {
        "image_size": 96,
        "patch_size": 8,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "text": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "batch_size": 64,
    "steps": 4500,
    "scenes": {
        "flip": False,
        "jitter": 0,
        "cut": 0.5,
        "layouts": [
            {"lattice": 3, "weight": 4},
            {"lattice": 3, "scale": [1.0, 1.3], "weight": 3},
            {"lattice": 2, "scale": [0.8, 1.2], "occupancy": 0.8, "weight": 0.1},
            {"lattice": 1, "scale": [0.5, 1.1], "weight": 0.1},
        ],
    },
    "train": {
        "precision": "bf16",
        "groups": [
            {"name": "clip", "pattern": "", "lr": 0.02, "weight_decay": 0.2, "optimizer": "muon"}
        ],
    },
}


def preset_encoder(preset: str) -> dict[str, Any]:
    """The encoder of a preset of the demo, with its tiles."""
    file = resources.files("gpt2v.demo") / "presets" / f"{preset}.yaml"
    content = read_yaml(file.read_text(encoding="utf-8"), f"preset {preset}")
    return {**content["encoder"], "tiles": content["tiles"]}


def encoder_of(arm: str, tiles: dict[str, Any], teacher: str) -> dict[str, Any]:
    """The configuration of an arm.

    Args:
        tiles: replaces the source and the path of the tiles.
        teacher: of `distilled`.
    """
    content = VIT
    if arm == "conv":
        content = preset_encoder("photographs")
    elif arm == "distilled":
        content = {**preset_encoder("distilled"), "teacher": teacher}
    return {**content, "tiles": {**content.get("tiles", {}), **tiles}}


def with_steps(content: dict[str, Any], steps: int, train: dict[str, Any]) -> dict[str, Any]:
    """A configuration with another number of steps; what it says in steps keeps its share of them.

    Args:
        train: replaces keys of `train`.
    """
    default = EncoderConfig.model_fields["steps"].default
    share = steps / content.get("steps", default)

    def scaled(part: dict[str, Any], key: str) -> dict[str, Any]:
        return {**part, key: round(part[key] * share)} if part.get(key) else part

    loop = scaled(content["train"], "warmup")
    loop = {**loop, "groups": [scaled(group, "warmup") for group in loop["groups"]], **train}
    return {**scaled(content, "supervised_start"), "steps": steps, "train": loop}


def steps_for(minutes: float, step_seconds: float) -> int:
    """Number of steps that take about so many minutes; validations divide it."""
    return VALIDATIONS * max(1, round(60 * minutes / step_seconds / VALIDATIONS))


def train_encoder(content: dict[str, Any], run: Path) -> None:
    """Run `gpt2v encoder train`; its configuration is written beside the run.

    Raises:
        UserError: it has not ended well; it has said why.
    """
    file = run.with_suffix(".yaml")
    file.write_text(dump_yaml(content), encoding="utf-8")
    command = [sys.executable, "-m", "gpt2v", "encoder", "train", str(file), "--out", str(run)]
    if subprocess.run(command, check=False).returncode:
        raise UserError(f"{run.name}: the training has not ended well")


def timed_step(content: dict[str, Any]) -> float:
    """Seconds of a step, from a short training."""
    steps = WARM + TIMED
    once = {"log_every": 1, "eval_every": 0, "save_every": 0, "eval_grids": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "timed"
        train_encoder(with_steps(content, steps, once), run)
        rows = read_lines(run / METRICS)
    before, after = trained_seconds(rows, content["batch_size"], [WARM, steps])
    return float(after - before) / TIMED


def train_arm(content: dict[str, Any], minutes: float, seed: int, run: Path) -> None:
    """Train an encoder for about so many minutes."""
    content = {"batch_size": EncoderConfig.model_fields["batch_size"].default, **content}
    steps = steps_for(minutes, timed_step(content))
    validated = {"eval_every": steps // VALIDATIONS, "save_every": 0, "eval_grids": GRIDS}
    content = with_steps(content, steps, {**validated, "seed": seed})
    train_encoder({**content, "data_seed": seed}, run)


def train_arms(args: argparse.Namespace, out: Path) -> list[Curve]:
    """Train the arms, one after another.

    Raises:
        UserError: a run is there already, or a training has not ended well.
    """
    for arm in args.arms:
        if (out / arm).exists():
            raise UserError(f"{out / arm}: exists; choose another --out")
    tiles = {"source": "cifar10", "path": args.tiles_path, "size": 32}
    if args.sprites:
        tiles = {"source": "sprites", "per_class": 120, "size": 32}  # a batch of the recipe
    curves = []
    for arm in args.arms:
        if arm == "recipe":
            train_recipe(load_bank(TilesConfig.model_validate(tiles)), out / arm, seed=args.seed)
        else:
            content = encoder_of(arm, tiles, args.teacher)
            train_arm(content, args.minutes, args.seed, out / arm)
        curves.append(read_curve(arm, out / arm))
        print(*table(curves), sep="\n", flush=True)
    return curves


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """The options. A wrong one ends the process with status 2 and a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=ARMS, help="default: all that can be trained")
    parser.add_argument("--minutes", type=float, help="of an encoder's training")
    parser.add_argument("--tiles-path", help="folder of CIFAR-10, as for tiles.path")
    parser.add_argument("--sprites", action="store_true", help="drawn tiles, for a smoke test")
    parser.add_argument("--teacher", help="run of `encoder train`, for distilled")
    parser.add_argument("--runs", nargs="+", metavar="NAME=RUN", help="read these, train nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="bench-photographs", help="folder")
    args = parser.parse_args(words)
    if args.runs:
        for name in ("arms", "minutes", "tiles_path", "sprites", "teacher"):
            if getattr(args, name):
                parser.error(f"--{name.replace('_', '-')}: --runs trains nothing")
        if wrong := [run for run in args.runs if not all(run.partition("="))]:
            parser.error(f"--runs: {wrong[0]}: expected NAME=RUN")
        return args
    if not args.minutes or not 0 < args.minutes < math.inf:
        parser.error("--minutes: required, above 0 (or --runs, to read finished trainings)")
    if bool(args.tiles_path) == args.sprites:
        parser.error("give one of --tiles-path and --sprites")
    args.arms = args.arms or [arm for arm in ARMS if arm != "distilled" or args.teacher]
    if ("distilled" in args.arms) != bool(args.teacher):
        parser.error("--teacher: the arm distilled needs it, and no other")
    return args


def main(words: Sequence[str] | None = None) -> None:
    args = parsed(words)
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if args.runs:
            pairs = [run.partition("=") for run in args.runs]
            curves = [read_curve(name, Path(run)) for name, _, run in pairs]
            print(*table(curves), sep="\n")
        else:
            curves = train_arms(args, out)
    except FileExistsError:
        _refuse(UserError(f"--out {out}: is a file; choose a folder"))
    except UserError as error:
        _refuse(error)
    draw(curves, out / "photographs.png")
    content = {"kind": "bench", "versions": versions(), "seed": args.seed}
    content["results"] = [asdict(curve) for curve in curves]
    (out / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _refuse(error: UserError) -> Never:
    print(f"photographs.py: {error}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
