"""Accuracy against minutes of training: read from runs, as a table and as a chart.

The clock of every curve runs while a training trains; validations and saves are not in it. Runs of
`gpt2v encoder train` log such rates (`samples_per_s`), the speed recipe such seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter
from safetensors import safe_open

from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.load import load
from gpt2v.errors import UserError
from gpt2v.messages import aligned
from gpt2v.report.read import read_lines
from gpt2v.run_layout import CONFIG, METRICS, checkpoints_of

SCORE = "val/cell_accuracy"
ABOUT = "recipe.json"  # of the speed recipe


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        parameters: of the vision tower, or of the recipe's network; none: no checkpoint yet.
        minutes: of training until each validation.
        accuracy: of each validation.
        step_seconds: median over the lines of the log.
        tiles_per_s: single tiles per second; a scene counts as as many as fit beside each other.
        wall_minutes: from the first line of the log to the last validation, with validations and
            saves.
    """

    name: str
    parameters: int | None
    minutes: list[float]
    accuracy: list[float]
    step_seconds: float
    tiles_per_s: float
    wall_minutes: float

    def at(self, minutes: float) -> float | None:
        """Accuracy after so many minutes, on the line between two validations; none: outside."""
        if not self.minutes[0] <= minutes <= self.minutes[-1]:
            return None
        return float(np.interp(minutes, self.minutes, self.accuracy))


def read_curve(name: str, run: Path) -> Curve:
    """The curve of a run, finished or not.

    Raises:
        UserError: the run has no validation yet, or is none of an encoder or of the recipe.
    """
    rows = read_lines(run / METRICS)
    scored = [row for row in rows if SCORE in row]
    if not scored:
        raise UserError(f"{run / METRICS}: no line has {SCORE}; a validation must have ended")
    if not any("samples_per_s" in row for row in rows if row["step"] <= scored[0]["step"]):
        raise UserError(f"{run / METRICS}: no line has samples_per_s before the first validation")
    tiles, parameters = 1.0, None
    if (run / ABOUT).is_file():
        about = json.loads((run / ABOUT).read_text(encoding="utf-8"))
        batch, parameters = about["batch"], about["parameters"]
        seconds = np.array([row["seconds"] for row in scored])
    else:
        config = load(EncoderConfig, run / CONFIG, {})
        batch, tiles = (
            config.batch_size,
            (config.vision.options.image_size / config.tiles.size) ** 2,
        )
        if kept := checkpoints_of(run):
            parameters = tower_parameters(kept[-1] / "model.safetensors")
        seconds = trained_seconds(rows, batch, [row["step"] for row in scored])
    rate = float(np.median([row["samples_per_s"] for row in rows if "samples_per_s" in row]))
    return Curve(
        name=name,
        parameters=parameters,
        minutes=(seconds / 60).tolist(),
        accuracy=[row[SCORE] for row in scored],
        step_seconds=batch / rate,
        tiles_per_s=rate * tiles,
        wall_minutes=(scored[-1]["time"] - rows[0]["time"]) / 60,
    )


def trained_seconds(rows: Sequence[dict[str, Any]], batch: int, steps: Sequence[int]) -> np.ndarray:
    """Seconds of training until each of `steps`, from the rates of a log."""
    rated = [row for row in rows if "samples_per_s" in row]
    ends = np.array([0, *(row["step"] for row in rated)])
    rates = np.array([row["samples_per_s"] for row in rated])
    seconds = np.cumsum([0, *(np.diff(ends) * batch / rates)])
    return np.interp(steps, ends, seconds)


def tower_parameters(file: Path) -> int:
    """Number of weights of the vision tower in a checkpoint, without running statistics."""
    with safe_open(file, "numpy") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    own = (n for n in shapes if n.startswith("vision_model.") and ".running_" not in n)
    return int(sum(np.prod(shapes[name]) for name in own))


def table(curves: Sequence[Curve]) -> list[str]:
    """Lines of text: an arm each, with its accuracy at 1, 2, 4, ... minutes and at the end."""
    longest = max(curve.minutes[-1] for curve in curves)
    columns = [2**i for i in range(20) if 2**i <= longest]
    rows = [["", "parameters", *(f"{m} min" for m in columns), "at the end", "s/step", "tiles/s"]]
    for curve in curves:
        met = [curve.at(minutes) for minutes in columns]
        rows.append(
            [
                curve.name,
                "-" if curve.parameters is None else f"{curve.parameters / 1e6:.2f}M",
                *("-" if accuracy is None else f"{accuracy:.1%}" for accuracy in met),
                f"{curve.accuracy[-1]:.1%} ({curve.minutes[-1]:.1f} min)",
                f"{curve.step_seconds:.3f}",
                f"{curve.tiles_per_s:,.0f}",
            ]
        )
    return aligned(rows, right=1)


def draw(curves: Sequence[Curve], file: Path) -> None:
    """Write the chart as a PNG file."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        axes.plot(curve.minutes, curve.accuracy, marker="o", markersize=3, label=curve.name)
    axes.set(xscale="log", xlabel="minutes of training", ylabel="accuracy, validation photographs")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)
