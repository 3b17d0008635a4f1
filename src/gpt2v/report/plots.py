"""Draw the report's charts, each as one inline SVG element.

Shapes: R rows of a grid, C columns of a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gpt2v.report.analysis import Rate, series, stages
from gpt2v.report.read import Row
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg

MINUS = "\N{MINUS SIGN}"
DOTS: dict[str, Any] = {"lw": 1.0, "ls": (0, (1.5, 2))}


@dataclass(frozen=True)
class Bar:
    """One horizontal bar with a label; `colour` is a name in `svg.NAMES`."""

    label: str
    rate: Rate
    colour: str


def percent(value: float) -> str:
    """`0.9734` -> `97.3%`; with two decimals if one decimal would give 0 or 100."""
    one = f"{100 * value:.1f}"
    if (one == "100.0" and value < 1) or (one == "0.0" and value > 0):
        return f"{100 * value:.2f}%"
    return f"{one}%"


def bars(name: str, label: str, rows: Sequence[Bar], baselines: Mapping[str, float]) -> Markup:
    """Bars from 0 to 100% with 95% intervals; dotted lines mark the baselines."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for y, bar in enumerate(rows):
            colour, value = STAND_IN[bar.colour], bar.rate.value
            axes.barh(y + 0.14, value, height=0.36, color=colour)
            if bar.rate.ci:
                axes.plot(bar.rate.ci, (y + 0.14, y + 0.14), color=STAND_IN["ink"], lw=1.4)
                for end in bar.rate.ci:
                    axes.plot((end, end), (y + 0.04, y + 0.24), color=STAND_IN["ink"], lw=1.4)
            for line in baselines.values():
                axes.plot((line, line), (y - 0.04, y + 0.32), color=STAND_IN["surface"], **DOTS)
            label_box = {"facecolor": STAND_IN["surface"], "linewidth": 0, "pad": 0.5}
            axes.text(0, y - 0.14, shorten(bar.label, 44), va="bottom", bbox=label_box)
            axes.text(1, y - 0.14, percent(value), va="bottom", ha="right", weight="bold")
        for line in sorted(set(baselines.values())):
            axes.axvline(line, color=STAND_IN["muted"], zorder=0.5, **DOTS)
        _label_baselines(axes, baselines)
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.55, -0.62))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, label)


def _label_baselines(axes: Axes, baselines: Mapping[str, float]) -> None:
    """Write the names of the dotted lines above the bars; close lines share a label."""
    groups: list[list[tuple[str, float]]] = []
    for item in sorted(baselines.items(), key=lambda pair: pair[1]):
        if groups and item[1] - groups[-1][-1][1] < 0.12:
            groups[-1].append(item)
        else:
            groups.append([item])
    for group in groups:
        text = "\n".join([", ".join(key for key, _ in group), _span([v for _, v in group])])
        middle = float(np.mean([value for _, value in group]))
        axes.annotate(
            text, (min(max(middle, 0.07), 0.93), 1), xycoords=("data", "axes fraction"),
            xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
            color=STAND_IN["muted"], size=8, annotation_clip=False,
        )  # fmt: skip


def _span(values: Sequence[float]) -> str:
    """The first and the last value as percentages; only one if they are equal."""
    ends = dict.fromkeys((percent(values[0]), percent(values[-1])))
    return " \N{EN DASH} ".join(ends)


def lost_points(name: str, label: str, rows: Sequence[Bar]) -> Markup:
    """Bars of percentage points, on a scale that fits them; a negative bar goes to the left."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.45 + 0.5 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        values = [100 * bar.rate.value for bar in rows]
        low, high = min(0.0, *values), max(0.5, *values)
        for y, (bar, value) in enumerate(zip(rows, values, strict=True)):
            axes.barh(y + 0.14, value, height=0.36, color=STAND_IN[bar.colour])
            axes.text(low, y - 0.14, shorten(bar.label, 44), va="bottom")
            number = f"{value:.1f}".replace("-", MINUS)
            axes.text(high, y - 0.14, number, va="bottom", ha="right", weight="bold")
        if low < 0:
            axes.axvline(0, color=STAND_IN["muted"], lw=0.8)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.55, -0.55))
        axes.set_yticks([])
        axes.set_xlabel("percentage points")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.locator_params(axis="x", nbins=5)
        axes.spines["left"].set_visible(False)
        return to_svg(figure, name, label)


def cell_map(name: str, label: str, value: np.ndarray, low: float, colour: str) -> Markup:
    """Accuracy by cell (R, C); the shade goes from pale at `low` to full at 1."""
    rows, cols = value.shape
    with style():
        figure = Figure(figsize=(2.2, 2.2 * rows / cols), layout="constrained")
        axes = figure.add_subplot(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))
        size = min(10.0, 34 / cols)
        for (row, col), share in np.ndenumerate(value):
            if np.isfinite(share):
                shade = (share - low) / max(1 - low, 1e-9)
                _shaded(axes, row, col, shade, colour, percent(float(share)), size)
        _plain_ticks(axes, [str(row) for row in range(rows)], [str(col) for col in range(cols)])
        return to_svg(figure, name, label)


def confusion_map(
    name: str, label: str, share: np.ndarray, classes: list[str], colour: str, worst: float
) -> Markup:
    """Share of answers (n_classes, n_classes), true class by answered class.

    Mistakes are shaded in red, from pale at 0 to full at the share `worst`.
    """
    n = len(classes)
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
        axes = figure.add_subplot(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
        size = min(7.5, 85 / n)
        for (row, col), part in np.ndenumerate(share):
            if row == col:
                text = f"{min(100 * part, 99.9):.1f}" if part < 1 else "100"
                _shaded(axes, row, col, float(part), colour, text, size)
            elif part > 0:
                text = "" if part < 0.0005 else f"{100 * part:.{0 if part >= 0.1 else 1}f}"
                _shaded(axes, row, col, 0.85 * float(part) / max(worst, 1e-9), "bad", text, size)
        names = [shorten(item, 14) for item in classes]
        _plain_ticks(axes, names, names, rotation=90, size=min(8.5, 100 / n))
        axes.set(xlabel="answer", ylabel="true object")
        return to_svg(figure, name, label)


def _shaded(
    axes: Axes, row: int, col: int, shade: float, colour: str, text: str, size: float
) -> None:
    alpha = 0.08 + 0.84 * min(max(shade, 0.0), 1.0)
    corner = (col - 0.48, row - 0.48)
    axes.add_patch(Rectangle(corner, 0.96, 0.96, color=STAND_IN[colour], alpha=alpha, lw=0))
    ink = STAND_IN["on" if alpha > 0.75 else "mid" if alpha > 0.6 else "ink"]
    if text:
        axes.text(col, row, text, ha="center", va="center", color=ink, size=size)


def _plain_ticks(
    axes: Axes, rows: list[str], cols: list[str], rotation: float = 0, size: float = 8.5
) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(cols)), cols, rotation=rotation)
    axes.tick_params(length=0, labelsize=size)
    axes.spines[:].set_visible(False)


def class_dots(
    name: str, label: str, classes: list[str], series: Mapping[str, tuple[np.ndarray, str]]
) -> Markup:
    """Accuracy by class: a row for each class, and in it a dot for each series.

    Args:
        series: name -> (values (n_classes,), colour).
    """
    with style():
        figure = Figure(figsize=(WIDTH, 0.75 + 0.25 * len(classes)), layout="constrained")
        axes = figure.add_subplot()
        stacked = np.stack([values for values, _ in series.values()])  # (n_series, n_classes)
        ends = zip(np.nanmin(stacked, axis=0), np.nanmax(stacked, axis=0), strict=True)
        for y, (low, high) in enumerate(ends):
            axes.plot((low, high), (y, y), color=STAND_IN["rule"], lw=2.5, zorder=1)
        for key, (values, colour) in series.items():
            axes.plot(
                values, range(len(classes)), "o", ms=6, c=STAND_IN[colour], label=key, clip_on=False
            )
        axes.set_yticks(range(len(classes)), [shorten(item, 18) for item in classes])
        axes.set_ylim(len(classes) - 0.4, -0.6)
        low = np.floor(20 * np.nanmin(stacked)) / 20
        axes.set_xlim(min(low, 0.95) - 0.002, 1.002)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(series), handletextpad=0.1, fontsize=9)
        return to_svg(figure, name, label)


def stacked(name: str, label: str, parts: Sequence[Bar]) -> Markup:
    """One bar of shares that add up to 1; a legend lists the shares."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.55 + 0.23 * len(parts)), layout="constrained")
        axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
        axes.set_axis_off()
        left = 0.0
        for part in parts:
            text = f"{part.label}: {percent(part.rate.value)}"
            axes.barh(
                0.5, part.rate.value, left=left, height=0.9, color=STAND_IN[part.colour], label=text
            )
            left += part.rate.value
        figure.legend(loc="outside lower left", fontsize=9, handlelength=1, labelspacing=0.3)
        return to_svg(figure, name, label)


def seconds_bars(name: str, label: str, seconds: Mapping[str, float]) -> Markup:
    """Wall time of each sub-run, on one scale from 0."""
    longest = max(max(seconds.values()), 1e-9)
    with style():
        figure = Figure(figsize=(WIDTH, 0.2 + 0.26 * len(seconds)), layout="constrained")
        axes = figure.add_subplot(xlim=(0, 1.18 * longest), ylim=(len(seconds) - 0.5, -0.5))
        for y, value in enumerate(seconds.values()):
            axes.barh(y, value, height=0.6, color=STAND_IN["lm"])
            axes.text(value + 0.015 * longest, y, duration(value), va="center")
        axes.set_yticks(range(len(seconds)), [shorten(sub_run, 18) for sub_run in seconds])
        axes.tick_params(length=0, labelcolor=STAND_IN["ink"])
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        return to_svg(figure, name, label)


def duration(seconds: float) -> str:
    """`75.2` -> `1 min 15 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def shorten(text: str, limit: int) -> str:
    """The text with at most `limit` characters; a longer one ends with an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


CURVE_COLOURS = {"loss": "ink", "val/text/markdown": "text", "val/image": "image"}  # prefixes
OTHER_CURVES = ("probe", "lm", "bad", "muted")


def learning_curves(name: str, label: str, lines: Sequence[Row]) -> Markup:
    """Losses by step; below them, if there was validation, the accuracies by step.

    The thin line is the logged loss, the bold line its running mean over 9 entries. Vertical lines
    mark where the training data changed.
    """
    scores = series(lines, lambda key: key.startswith("val/") and "accuracy" in key)
    losses = series(lines, lambda key: key == "loss" or (key.startswith("val/") and "loss" in key))
    panels = [panel for panel in (losses, scores) if panel]
    with style():
        figure = Figure(figsize=(WIDTH, 0.4 + 1.55 * len(panels)), layout="constrained")
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            for index, (key, (steps, values)) in enumerate(panel.items()):
                usual = [name for start, name in CURVE_COLOURS.items() if key.startswith(start)]
                colour = STAND_IN[[*usual, OTHER_CURVES[index % len(OTHER_CURVES)]][0]]
                if key == "loss" and len(values) > 27:
                    axes.plot(steps, values, color=colour, lw=0.8, alpha=0.3)
                    steps, values = steps[4:-4], np.convolve(values, np.full(9, 1 / 9), "valid")
                marker = "o" if len(values) < 40 and key != "loss" else ""
                axes.plot(steps, values, color=colour, lw=1.7, marker=marker, ms=3, label=key)
            for start, _ in stages(lines)[1:]:
                axes.axvline(start, color=STAND_IN["muted"], zorder=0.5, **DOTS)
            axes.grid(axis="y")
            axes.tick_params(length=0)
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2, fontsize=8.5,
                borderaxespad=0, handlelength=1.2, columnspacing=1.2,
            )  # fmt: skip
            if panel is scores:
                axes.set_ylim(0, 1.03)
                axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
            else:
                axes.set_ylim(bottom=0)
        grid[-1].set_xlabel("step")
        return to_svg(figure, name, label)
