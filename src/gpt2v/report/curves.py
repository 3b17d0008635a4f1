"""Draw the learning curves of a training as one `Chart`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2v.report.analysis import Series, series, stages
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.plots import DOTS
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import percent, shorten

USUAL_COLOURS = {"loss": "ink", "val/text/markdown": "text", "val/image": "image"}  # prefixes
OTHER_COLOURS = ("probe", "lm", "bad", "muted")
DASHES = ("-", (0, (4, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))  # not by colour alone
MOST_ROWS = 20  # of the table of values
FEWEST_AVERAGED = 28  # logged losses, for a running mean


def curve_name(key: str) -> str:
    """A key of metrics.jsonl in words: `val/text/markdown 3x3_accuracy` -> `text as markdown 3x3`.

    The head of a chart's panel says whether it is accuracy or loss.
    """
    if key == "loss":
        return "training"
    name = key.removeprefix("val/")
    for end in ("_accuracy", "_loss", "accuracy", "loss"):
        name = name.removesuffix(end)
    name = name.replace("text/", "text as ", 1) if name.startswith("text/") else name
    if "loss" in key:
        return f"held out: {name}"
    return {"cell": "cells of a grid", "": "all"}.get(name, name)


def learning_curves(name: str, title: str, lines: Sequence[Row]) -> Chart:
    """Losses by step; below them, if there was validation, the accuracies by step.

    With at least `FEWEST_AVERAGED` logged losses, the thin line is the loss and the bold line its
    running mean over 9 of them. Vertical lines mark where the training data changed.
    """
    losses = series(lines, lambda key: key == "loss" or (key.startswith("val/") and "loss" in key))
    scores = series(lines, lambda key: key.startswith("val/") and "accuracy" in key)
    panels = {"loss": losses, "accuracy on held-out grids": scores}
    panels = {head: panel for head, panel in panels.items() if panel}
    heights = [1.4 + 0.17 * len(panel) for panel in panels.values()]
    with style():
        figure = Figure(figsize=(WIDTH, 0.4 + sum(heights)), layout="constrained")
        grid = figure.subplots(
            len(panels), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]  # fmt: skip
        for axes, (head, panel) in zip(grid, panels.items(), strict=True):
            _panel(axes, head, panel)
            for start, _ in stages(lines)[1:]:
                axes.axvline(start, color=STAND_IN["muted"], zorder=0.5, **DOTS)
            if panel is scores:
                axes.set_ylim(0, 1.03)
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
            else:
                axes.set_ylim(0, 1.06 * _highest(panel))
        grid[-1].set_xlabel("step")
        last = [f"{head} {_last(panel, head)}" for head, panel in panels.items()]
        svg = to_svg(figure, name, f"{title}: at the end, {'; '.join(last)}")
    return Chart(title, svg, _values(title, losses, scores))


def _highest(panel: Mapping[str, Series]) -> float:
    """The highest finite value of all curves; 1 if that is 0."""
    values = np.concatenate([values for _, values in panel.values()])
    return float(max(values[np.isfinite(values)], default=0)) or 1.0


def _last(panel: Mapping[str, Series], head: str) -> str:
    """The last value of each curve, in words."""
    ends = {curve_name(key): float(values[-1]) for key, (_, values) in panel.items()}
    show = "{:.3g}".format if head == "loss" else percent
    return ", ".join(f"{key} {show(value)}" for key, value in ends.items())


def _panel(axes: Axes, head: str, panel: Mapping[str, Series]) -> None:
    """One panel, with a legend of a line for each curve above it."""
    for index, (key, (steps, values)) in enumerate(panel.items()):
        usual = [name for start, name in USUAL_COLOURS.items() if key.startswith(start)]
        colour = STAND_IN[[*usual, OTHER_COLOURS[index % len(OTHER_COLOURS)]][0]]
        if key == "loss" and len(values) >= FEWEST_AVERAGED:
            axes.plot(steps, values, color=colour, lw=0.8, alpha=0.3)
            steps, values = steps[4:-4], np.convolve(values, np.full(9, 1 / 9), "valid")
        axes.plot(
            steps, values, color=colour, lw=1.7, ls=DASHES[index % len(DASHES)], ms=3,
            marker="o" if len(values) < 40 and key != "loss" else "",
            label=shorten(curve_name(key), 48),
        )  # fmt: skip
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.99), fontsize=8.5, borderaxespad=0,
        handlelength=2.4, labelspacing=0.25, title=head, title_fontsize=8.5, alignment="left",
    )  # fmt: skip


def _values(title: str, losses: Mapping[str, Series], scores: Mapping[str, Series]) -> Values:
    """The curves at some of the logged steps, among them steps of validation if there are any."""
    curves = {**losses, **scores}
    every = np.unique(np.concatenate([steps for steps, _ in curves.values()]))
    validated = [steps for key, (steps, _) in curves.items() if key.startswith("val/")]
    chosen = np.union1d(_some(every), _some(np.unique(np.concatenate(validated or [every]))))
    heads = [f"{'loss' if key in losses else 'accuracy'}, {curve_name(key)}" for key in curves]
    rows = []
    for step in chosen.tolist():
        row = [f"{step:,g}"]
        for key, (steps, values) in curves.items():
            show = "{:.3f}".format if key in losses else percent
            row.append(" ".join(show(value) for value in values[steps == step][-1:].tolist()))
        rows.append(row)
    return Values(f"{title}: values at some of the logged steps", ("step", *heads), rows)


def _some(steps: np.ndarray) -> np.ndarray:
    """At most half of `MOST_ROWS`, evenly spread, with the first and the last."""
    chosen = np.linspace(0, len(steps) - 1, min(len(steps), MOST_ROWS // 2))
    some: np.ndarray = steps[chosen.round().astype(int)]
    return some
