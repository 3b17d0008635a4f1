"""Draw the report's bars and dots, each as one `Chart`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import (
    counted,
    duration,
    interval,
    percent,
    points,
    points_between,
    shorten,
)

MARKS = (("o", 7.0), ("s", 4.5))  # of text and of picture; where they meet, both are seen
DOTS: dict[str, Any] = {"lw": 1.0, "ls": (0, (1.5, 2))}


@dataclass(frozen=True)
class Bar:
    """One horizontal bar with a label; `colour` is a name in `svg.NAMES`."""

    label: str
    rate: Rate
    colour: str


def bars(
    name: str,
    title: str,
    rows: Sequence[Bar],
    baselines: Mapping[str, float],
    rate: str = "accuracy",
) -> Chart:
    """Bars from 0 to 100% with 95% intervals; dotted lines mark the baselines.

    Args:
        rate: what the bars are, as the head of the table.
    """
    with style():
        figure = Figure(
            figsize=(WIDTH, (0.75 if baselines else 0.5) + 0.5 * len(rows)), layout="constrained"
        )
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
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.55, -0.62 if baselines else -0.5))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100%"])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        table = [(bar.label, percent(bar.rate.value), interval(bar.rate.ci)) for bar in rows]
        table += [(f"baseline: {key}", percent(value), "") for key, value in baselines.items()]
        values = Values(title, ("", rate, "95% interval"), table)
        return _listed(figure, name, values)


def _listed(figure: Figure, name: str, values: Values) -> Chart:
    """A chart with few values: its alternative text lists the first number of each row."""
    text = "; ".join(f"{label} {number}" for label, number, *_ in values.rows)
    svg = to_svg(figure, name, f"{values.caption}: {text}")
    return Chart(values.caption, svg, values)


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


def differences(name: str, title: str, rows: Sequence[Bar]) -> Chart:
    """Dots with 95% intervals in percentage points, and a line at no difference."""
    with style():
        figure = Figure(figsize=(WIDTH, 0.6 + 0.26 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for y, bar in enumerate(rows):
            colour, value = STAND_IN[bar.colour], 100 * bar.rate.value
            if bar.rate.ci:
                low, high = (100 * end for end in bar.rate.ci)
                axes.plot((low, high), (y, y), color=colour, lw=1.4)
            axes.plot(value, y, "o", ms=5, color=colour)
        axes.axvline(0, color=STAND_IN["muted"], zorder=0.5, **DOTS)
        axes.set_yticks(range(len(rows)), [shorten(bar.label, 30) for bar in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("percentage points")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        axes.tick_params(length=0, axis="y")
        axes.spines["left"].set_visible(False)
        table = [(b.label, points(b.rate.value), points_between(b.rate.ci)) for b in rows]
        heads = ("", "percentage points", "95% interval")
        return _listed(figure, name, Values(title, heads, table))


def class_dots(
    name: str, title: str, classes: list[str], series: Mapping[str, tuple[np.ndarray, str]]
) -> Chart:
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
        marks = zip(series.items(), MARKS, strict=False)
        for (key, (values, colour)), (mark, size) in marks:
            axes.plot(
                values, range(len(classes)), mark, ms=size, c=STAND_IN[colour], label=key,
                clip_on=False,
            )  # fmt: skip
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
        table = [
            (item, *("" if np.isnan(value) else percent(float(value)) for value in stacked[:, i]))
            for i, item in enumerate(classes)
        ]
        drawing = to_svg(figure, name, f"{title}: {', '.join(series)}, of {len(classes)} objects")
        return Chart(title, drawing, Values(title, ("object", *series), table))


def stacked(name: str, title: str, parts: Sequence[tuple[str, int, str]]) -> Chart:
    """One bar of shares that add up to 1; a legend lists the shares.

    Args:
        parts: (label, number of questions, colour) of each part.
    """
    total = sum(number for _, number, _ in parts)
    with style():
        figure = Figure(figsize=(WIDTH, 0.55 + 0.23 * len(parts)), layout="constrained")
        axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
        axes.set_axis_off()
        left = 0.0
        for label, number, colour in parts:
            share = number / total
            text = f"{label}: {percent(share)}"
            axes.barh(0.5, share, left=left, height=0.9, color=STAND_IN[colour], label=text)
            left += share
        figure.legend(loc="outside lower left", fontsize=9, handlelength=1, labelspacing=0.3)
        table = [(label, percent(number / total), f"{number:,}") for label, number, _ in parts]
        caption = f"{title}, {counted(total, 'question')}"
        return _listed(figure, name, Values(caption, ("", "share", "questions"), table))


def seconds_bars(name: str, title: str, seconds: Mapping[str, float]) -> Chart:
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
        table = [(sub_run, duration(value)) for sub_run, value in seconds.items()]
        return _listed(figure, name, Values(title, ("stage", "wall time"), table))
