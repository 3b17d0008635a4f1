"""Draw bars in groups: several rates of each of some things, with their intervals."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from gpt2v.report.analysis import Rate
from gpt2v.report.chart import Chart, Values
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import MINUS, interval, percent, shorten

_HIGH = 0.19  # inches, of a bar with its room


def grouped_bars(
    name: str,
    title: str,
    what: str,
    groups: Mapping[str, Mapping[str, Rate]],
    colours: Mapping[str, str],
) -> Chart:
    """A group of bars for each thing, and in it a bar for each of its rates.

    Args:
        what: what the things are, as the head of the table.
        groups: rates by name, of each thing.
        colours: of the rates, by name.
    """
    step = 1 / (len(colours) + 0.7)
    with style():
        height = 0.75 + _HIGH * len(groups) / step
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        lowest = 0.0
        for y, rates in enumerate(groups.values()):
            for number, (key, colour) in enumerate(colours.items()):
                if key not in rates:
                    continue
                rate, at = rates[key], y + step * (number - (len(colours) - 1) / 2)
                axes.barh(at, rate.value, height=0.9 * step, color=STAND_IN[colour], alpha=0.75)
                if rate.ci:
                    axes.plot(rate.ci, (at, at), color=STAND_IN["ink"], lw=1.2)
                lowest = min(lowest, rate.value, *(rate.ci or ()))
                axes.annotate(
                    _percent(rate.value), (1, at), xycoords=("axes fraction", "data"), size=7.5,
                    xytext=(3, 0), textcoords="offset points", va="center", annotation_clip=False,
                )  # fmt: skip
        marks = [
            axes.barh(0, 0, color=STAND_IN[colour], alpha=0.75, label=key)
            for key, colour in colours.items()
        ]
        axes.set_yticks(range(len(groups)), [shorten(key, 24) for key in groups])
        axes.set(ylim=(len(groups) - 0.5, -0.5), xlim=(1.05 * lowest, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%".replace("-", MINUS))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=8.5)
        if lowest < 0:
            axes.axvline(0, color=STAND_IN["muted"], lw=0.8)
        axes.spines["left"].set_visible(False)
        n_cols = 1 if max(map(len, colours)) > 24 else len(colours)
        figure.legend(handles=marks, loc="outside upper left", ncols=n_cols, fontsize=8.5)
        table = [
            (f"{thing}: {key}", _percent(rate.value), interval(rate.ci).replace("-", MINUS))
            for thing, rates in groups.items()
            for key, rate in rates.items()
        ]
        text = "; ".join(f"{label} {value}" for label, value, _ in table)
        svg = to_svg(figure, name, f"{title}: {text}")
    return Chart(title, svg, Values(title, (what, "rate", "95% interval"), table))


def _percent(value: float) -> str:
    return percent(value).replace("-", MINUS)
