"""Draw accuracies by value of a key with their intervals, and by confidence."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from gpt2v.eval.breakdown import Group
from gpt2v.eval.reliability import Reliability
from gpt2v.report.chart import Chart, Values
from gpt2v.report.plots import DOTS, MARKS
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import interval, percent, shorten


def rate_dots(
    name: str, title: str, key: str, series: Mapping[str, tuple[Sequence[Group], str]]
) -> Chart:
    """Accuracy with its 95% interval: a row for each value, and in it a dot for each series.

    Args:
        key: what the values are of.
        series: name -> (accuracy for each value, colour).
    """
    values = list(dict.fromkeys(group.value for groups, _ in series.values() for group in groups))
    apart = 0.36 / len(series)
    with style():
        row = 0.25 if len(series) == 1 else 0.34
        figure = Figure(figsize=(WIDTH, 0.75 + row * len(values)), layout="constrained")
        axes = figure.add_subplot()
        lowest = 1.0
        for number, (label, (groups, colour)) in enumerate(series.items()):
            y = [
                values.index(group.value) + apart * (number - (len(series) - 1) / 2)
                for group in groups
            ]
            for at, group in zip(y, groups, strict=True):
                axes.plot(group.ci, (at, at), color=STAND_IN[colour], lw=1.4)
            mark, size = MARKS[number % len(MARKS)]
            axes.plot(
                [group.accuracy for group in groups], y, mark, ms=0.8 * size,
                color=STAND_IN[colour], label=label, clip_on=False,
            )  # fmt: skip
            lowest = min(lowest, *(group.ci[0] for group in groups))
        axes.set_yticks(range(len(values)), [shorten(value, 18) for value in values])
        axes.set_ylim(len(values) - 0.4, -0.6)
        low = max(np.floor(20 * lowest) / 20, 0)
        axes.set_xlim(min(low, 0.95) - 0.002, 1.002)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=len(series), handletextpad=0.1, fontsize=9)
        svg = to_svg(figure, name, f"{title}: {', '.join(series)}, {len(values)} values")
    table = [
        (f"{group.value}: {label}", percent(group.accuracy), interval(group.ci),
         f"{group.n_questions:,}")
        for value in values
        for label, (groups, _) in series.items()
        for group in groups
        if group.value == value
    ]  # fmt: skip
    return Chart(title, svg, Values(title, (key, "accuracy", "95% interval", "questions"), table))


def reliability_diagram(name: str, title: str, found: Reliability, colour: str) -> Chart:
    """Accuracy by confidence, beside the diagonal of a calibrated model; below, how many each."""
    edges = np.arange(len(found.n) + 1) / len(found.n)
    some = found.n > 0
    with style():
        figure = Figure(figsize=(3.1, 3.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot((0, 1), (0, 1), color=STAND_IN["muted"], **DOTS)
        width = 0.86 / len(found.n)
        middle = (edges[:-1] + edges[1:]) / 2
        drawn = {"width": width, "color": STAND_IN[colour]}
        above.bar(middle[some], found.accuracy[some], alpha=0.35, **drawn)
        above.plot(
            found.confidence[some], found.accuracy[some], "o", ms=4, color=STAND_IN[colour],
            clip_on=False,
        )  # fmt: skip
        below.bar(middle, found.n / found.n_questions, **drawn)
        above.set(ylim=(0, 1), ylabel="accuracy")
        below.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share")
        quarters = np.arange(0, 1.01, 0.25)
        labels = [f"{100 * mark:g}%" for mark in quarters]
        above.set_yticks(quarters, labels)
        below.set_yticks((0.5, 1), ("50%", "100%"))
        below.set_xticks(quarters, labels)
        for axes in (above, below):
            axes.tick_params(length=0)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        alt = f"{title}, accuracy by confidence: expected calibration error {percent(found.ece)}"
        svg = to_svg(figure, name, alt, enlarged=1.2)
    table = [
        (f"{percent(low)} to {percent(high)}", f"{n:,}", percent(sure), percent(right))
        for low, high, n, sure, right in zip(
            edges[:-1].tolist(), edges[1:].tolist(), found.n.tolist(),
            found.confidence.tolist(), found.accuracy.tolist(), strict=True,
        )
        if n
    ]  # fmt: skip
    heads = ("confidence", "questions", "mean confidence", "accuracy")
    return Chart(title, svg, Values(f"{title}, by confidence", heads, table))
