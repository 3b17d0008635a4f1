"""Draw rates as lines: by site, by layer, or by the number of training pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.curves import DASHES
from gpt2v.report.plots import DOTS
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import interval, percent, shorten

_MARKS = "osD^vP*"
_COLOURS = ("probe", "image", "text", "ink", "bad", "lm", "muted")


@dataclass(frozen=True)
class Line:
    """A rate at some places of the axis.

    Attributes:
        rates: by place.
        colour: a name in `svg.NAMES`; none: the next one that is free.
        control: drawn as a band, without marks.
    """

    label: str
    rates: Mapping[float, Rate]
    colour: str = ""
    control: bool = False


def rate_lines(
    name: str,
    title: str,
    axis: str,
    lines: Sequence[Line],
    *,
    places: Mapping[float, str],
    joined: float = np.inf,
    baselines: Mapping[str, float] | None = None,
    doubling: bool = False,
) -> Chart:
    """Rates with their 95% intervals, from the lowest to 100%.

    Args:
        axis: what the places are.
        places: their names.
        joined: places of a line that are farther apart have no line between them.
        baselines: dotted lines across.
        doubling: the axis is logarithmic.
    """
    long = max(map(len, places.values())) > 5 and len(places) > 3
    baselines = baselines or {}
    with style():
        height = 2.9 + (0.7 if long else 0) + 0.17 * len(lines)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        if doubling:
            axes.set_xscale("log", base=2)
        for number, line in enumerate(lines):
            _draw(axes, number, len(lines), line, joined, doubling)
        for number, (label, value) in enumerate(sorted(baselines.items(), key=lambda b: b[1])):
            axes.axhline(value, color=STAND_IN["muted"], zorder=0.5, **DOTS)
            axes.annotate(
                f"{label} {percent(value)}", (1, value), xycoords=("axes fraction", "data"),
                xytext=(0, 2 if number else -3), textcoords="offset points", ha="right", size=8,
                va="bottom" if number else "top", color=STAND_IN["muted"],
            )  # fmt: skip
        axes.set_xticks(list(places), list(places.values()), rotation=90 if long else 0)
        axes.tick_params(axis="x", labelsize=8 if len(places) < 24 else 6.5)
        axes.minorticks_off()
        lowest = [min(rate.ci or (rate.value,)) for line in lines for rate in line.rates.values()]
        lowest += [value - 0.05 for value in baselines.values()]  # with room for a name below
        low = max(float(np.floor(20 * min(*lowest, 0.9)) / 20) - 0.02, -0.05)
        axes.set(xlabel=axis, ylim=(low, 1.02))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=8.5, borderaxespad=0,
            handlelength=2.6, labelspacing=0.25,
        )  # fmt: skip
        ends = "; ".join(f"{line.label}: {_range(line)}" for line in lines)
        svg = to_svg(figure, name, f"{title}: {ends}")
    heads = (axis, *(head for line in lines for head in (line.label, "95% interval")))
    rows = []
    for place, label in places.items():
        rates = [line.rates.get(place) for line in lines]
        words = [(percent(r.value), interval(r.ci)) if r else ("", "") for r in rates]
        rows.append((label, *(word for pair in words for word in pair)))
    return Chart(title, svg, Values(title, heads, rows))


def _draw(axes: Axes, number: int, n_lines: int, line: Line, joined: float, doubling: bool) -> None:
    """One line; lines beside each other are moved a little, so that no whisker hides another."""
    colour = STAND_IN[line.colour or _COLOURS[number % len(_COLOURS)]]
    at = np.array(sorted(line.rates), float)
    value = np.array([line.rates[place].value for place in at])
    ci = np.array([line.rates[place].ci or (np.nan, np.nan) for place in at])
    aside = 0.0 if line.control else (number - (n_lines - 1) / 2) * 0.06
    x = at * 2 ** (0.4 * aside) if doubling else at + aside
    ends = np.flatnonzero(np.diff(at) > joined) + 1
    gaps = [np.insert(values, ends, np.nan, axis=0) for values in (x, value, ci)]
    dashes = DASHES[number % len(DASHES)]
    shown: dict[str, Any] = {
        "color": colour,
        "lw": 1.5,
        "ls": dashes,
        "label": shorten(line.label, 48),
    }
    if line.control:
        axes.fill_between(gaps[0], *gaps[2].T, color=colour, alpha=0.25, lw=0)
        mark = "_" if np.isfinite(joined) else ""  # a place of its own has no line
        axes.plot(gaps[0], gaps[1], marker=mark, **{**shown, "lw": 1.0})
        return
    axes.vlines(x, *ci.T, color=colour, lw=1.2)
    mark = _MARKS[number % len(_MARKS)]
    axes.plot(gaps[0], gaps[1], marker=mark, ms=4.5, **shown)


def _range(line: Line) -> str:
    values = [rate.value for rate in line.rates.values()]
    return f"{percent(min(values))} to {percent(max(values))}"
