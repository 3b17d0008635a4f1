"""Figures for notebooks, each a `matplotlib.figure.Figure` of its own.

They need no display and leave pyplot's state alone; a notebook shows a figure that a cell ends
with, and `figure.savefig("cells.png")` writes it. With `ax=...` a figure is drawn into given axes,
e.g. of `pyplot.subplots`. The numbers are counted as in the report.

Shapes: R rows of a grid, C columns of a grid.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gpt2v.api.measuring import Measurement
from gpt2v.data.preview import montage
from gpt2v.data.render.examples import Example
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.errors import UserError
from gpt2v.eval import reliability as calibration
from gpt2v.eval.breakdown import KEYS, NEEDED, series_in
from gpt2v.eval.breakdown import accuracy_by as counted_by
from gpt2v.eval.reliability import COLUMNS, N_BINS
from gpt2v.report.analysis import cell_accuracy, series
from gpt2v.report.read import read_lines
from gpt2v.report.words import percent
from gpt2v.results import RunPath, read_records
from gpt2v.run_layout import METRICS

if TYPE_CHECKING:
    import pyarrow as pa

    from gpt2v.model.attention import Attention

__all__ = [
    "accuracy_by",
    "accuracy_by_cell",
    "attention",
    "learning_curve",
    "reliability",
    "sample",
]


def sample(sample: Example, ax: Axes | None = None) -> Figure:
    """The picture of a sample, with its first question and answer as title.

    Args:
        sample: `data[i]` of a `GridDataset`.
        ax: where to draw.
    """
    figure, axes = _axes(ax)
    axes.imshow(montage(sample.by_row(sample.pictures)))
    axes.set_axis_off()
    if sample.asked:
        first = sample.asked[0]
        axes.set_title(f"{first.question} {first.answer}", fontsize=9, parse_math=False)
    return figure


def accuracy_by(
    records: "pa.Table | Measurement | RunPath", key: str, ax: Axes | None = None
) -> Figure:
    """Share of right answers for each value of a key, with 95% intervals; a line each modality.

    Args:
        records: a table of records, a measurement, or a finished run of an evaluation.
        key: `size` of the grid, `palette` (number of listed objects), `instruction`, or `question`
            (number of earlier questions about the grid).
        ax: where to draw.

    Raises:
        UserError: no such key, or the records lack a column.
    """
    figure, axes = _axes(ax)
    for (model, modality), table in _series(records, *NEEDED).items():
        groups = counted_by(table, key)
        rates = np.array([group.accuracy for group in groups])
        low, high = np.array([group.ci for group in groups]).T
        values, whiskers = [group.value for group in groups], np.stack([rates - low, high - rates])
        axes.errorbar(values, rates, whiskers, fmt="o-", capsize=3, label=f"{model}, {modality}")
    axes.set(ylim=(0, 1.03), xlabel=KEYS[key].title, ylabel="right answers")
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}%")
    axes.legend()
    return figure


def reliability(
    records: "pa.Table | Measurement | RunPath", n_bins: int = N_BINS, ax: Axes | None = None
) -> Figure:
    """Accuracy by confidence (the probability of the likeliest choice), a line each modality.

    The legend tells the expected calibration error (Guo et al. 2017).

    Args:
        records: a table of records, a measurement, or a finished run of an evaluation.
        n_bins: number of bins, of equal width.
        ax: where to draw.

    Raises:
        UserError: no question has listed choices, or the records lack a column.
    """
    found = {
        f"{model}, {modality}": calibration.reliability(table, n_bins)
        for (model, modality), table in _series(records, *COLUMNS).items()
    }
    if not any(own.n_questions for own in found.values()):
        raise UserError("no question in the records has listed choices")
    figure, axes = _axes(ax)
    axes.plot((0, 1), (0, 1), color="0.5", ls=":")
    for label, own in found.items():
        some = own.n > 0
        label = f"{label}: ECE {percent(own.ece)}" if some.any() else f"{label}: no choices"
        axes.plot(own.confidence[some], own.accuracy[some], "o-", label=label)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence", ylabel="right choices")
    axes.legend()
    return figure


def accuracy_by_cell(
    records: "pa.Table | Measurement | RunPath", modality: str | None = None, ax: Axes | None = None
) -> Figure:
    """Share of right look-ups in each cell of the grid.

    Args:
        records: a table of records, a measurement, or a finished run of an evaluation.
        modality: the only one to count, e.g. `image`; None: all of them together.
        ax: where to draw.

    Raises:
        UserError: there are no such questions.
    """
    values = _by_cell(_table(records), modality)
    figure, axes = _axes(ax)
    image = axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
    for (row, col), share in np.ndenumerate(values):
        if np.isfinite(share):
            colour = "white" if share > 0.6 else "black"
            axes.text(col, row, percent(float(share)), ha="center", va="center", color=colour)
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    axes.set(xlabel="column", ylabel="row", title=f"right answers, {modality or 'all'}")
    figure.colorbar(image, ax=axes, format=lambda share, _: f"{100 * share:.0f}%")
    return figure


def attention(
    attention: "Attention",
    layer: int | None = None,
    head: int | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The attention of an answer's position, over the picture.

    Args:
        attention: what `model.attention(...)` returns.
        layer: number of a layer; None: the mean of all layers.
        head: number of a head; None: the mean of all heads.
        ax: where to draw.
    """
    weights = attention.weights
    chosen = weights if layer is None else weights[layer][None]
    chosen = chosen if head is None else chosen[:, head][:, None]
    figure, axes = _axes(ax)
    height, width = attention.pixels.shape[:2]
    axes.imshow(_grey(attention.pixels))
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    shown = axes.imshow(chosen.mean((0, 1)), extent=edges, cmap="magma", alpha=0.6)
    axes.set_axis_off()
    axes.set_title(attention.question, fontsize=9, parse_math=False)
    figure.colorbar(shown, ax=axes, label="attention on a patch")
    return figure


def learning_curve(run: RunPath, ax: Axes | None = None) -> Figure:
    """The training loss by step, and the accuracy of every validation.

    Args:
        run: the directory of a training, or what it has returned.
        ax: where to draw the loss; accuracies get an axis on the right.

    Raises:
        UserError: the run has logged nothing.
    """
    path = Path(os.fspath(run)) / METRICS
    lines = read_lines(path)
    losses = series(lines, lambda key: key == "loss")
    scores = series(lines, lambda key: key.startswith("val/") and "accuracy" in key)
    if not losses and not scores:
        raise UserError(f"{path}: no step is logged")
    figure, axes = _axes(ax)
    axes.set(xlabel="step", ylabel="loss")
    for steps, values in losses.values():
        axes.plot(steps, values, color="0.5", label="loss")
    other = axes.twinx()
    other.set(ylim=(0, 1.03), ylabel="accuracy")
    for key, (steps, values) in scores.items():
        name = key.removeprefix("val/").removesuffix("_accuracy")
        other.plot(steps, values, marker="o", label=name)
    handles, labels = (a + b for a, b in zip(*map(_legend, (axes, other)), strict=True))
    axes.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def _axes(ax: Axes | None) -> tuple[Figure, Axes]:
    """The figure to return, and the axes to draw into."""
    if ax is None:
        figure = Figure(figsize=(5, 4), layout="constrained")
        return figure, figure.add_subplot()
    root = ax.get_figure(root=True)
    assert root is not None, "the axes have been removed from their figure"
    return root, ax


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return list(handles), list(labels)


def _table(records: "pa.Table | Measurement | RunPath") -> "pa.Table":
    if isinstance(records, str | os.PathLike):
        return read_records(records)
    if isinstance(records, Measurement):
        if records.records is None:
            raise UserError(f"a {records.results['kind']} has no records")
        return records.records
    return records


def _series(
    records: "pa.Table | Measurement | RunPath", *needed: str
) -> "dict[tuple[str, str], pa.Table]":
    """The records of each model and modality, which must have some columns."""
    table = _table(records)
    for name in ("model", "modality", *needed):
        if name not in table.column_names:
            raise UserError(f"the records have no column '{name}'")
    return series_in(table)


def _by_cell(table: "pa.Table", modality: str | None) -> np.ndarray:
    """Share of right answers (R, C) in each cell."""
    columns: Mapping[str, np.ndarray] = {
        name: table[name].to_numpy() for name in table.column_names if name not in _LISTS
    }
    chosen = np.ones(len(table), bool)
    if "instruction" in columns:
        chosen &= columns["instruction"] == "lookup"
    if modality is not None:
        chosen &= columns.get("modality", np.full(len(table), "image")) == modality
    if not chosen.any():
        raise UserError(f"no look-up in the records{f' of {modality}' if modality else ''}")
    kept = {name: column[chosen] for name, column in columns.items()}
    right = kept["exact"] if "exact" in kept else kept["prediction"] == kept["truth"]
    return cell_accuracy(kept, np.asarray(right, bool))


_LISTS = ("palette", "tiles", "choices", "logprobs")


def _grey(pixels: Pixels) -> Pixels:
    """The picture without colours, (height, width, 3)."""
    return np.repeat(pixels.mean(-1, keepdims=True).astype(np.uint8), 3, axis=2)
