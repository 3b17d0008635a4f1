"""Draw the report's maps, each as one `Chart`: accuracy and attention by cell, and confusions.

Shapes: R rows of a grid, C columns of a grid.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gpt2v.report.analysis import Confusion
from gpt2v.report.chart import Chart, Values
from gpt2v.report.checked import Row
from gpt2v.report.svg import STAND_IN, WIDTH, style, to_svg
from gpt2v.report.words import counted, grid_in_words, percent, points, shorten

SHADES = (0.06, 0.48)  # alphas of the palest and the fullest shade; ink is readable on both
MOST_NUMBERS = 18  # names in a row of confusions; numbers would be too small with more


def cell_map(name: str, title: str, value: np.ndarray, low: float, colour: str) -> Chart:
    """Accuracy by cell (R, C); the shade goes from pale at `low` to full at 1."""
    caption = f"{title}, by cell"
    rows, cols = value.shape
    words = [[percent(float(v)) if np.isfinite(v) else "not asked" for v in row] for row in value]
    with style():
        cell = max(2 / max(rows, cols), 0.4)  # inches
        figure = Figure(figsize=(0.2 + cell * cols, 0.2 + cell * rows), layout="constrained")
        axes = figure.add_subplot(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))
        size = min(10.0, 17 * cell)
        for (row, col), share in np.ndenumerate(value):
            if np.isfinite(share):
                shade = (share - low) / max(1 - low, 1e-9)
                _shaded(axes, row, col, shade, colour, words[row][col], size)
        _plain_ticks(axes, [str(row) for row in range(rows)], [str(col) for col in range(cols)])
        svg = to_svg(figure, name, f"{caption}, {grid_in_words(words)}", enlarged=1.2)
    heads = ("", *(f"column {col}" for col in range(cols)))
    table = [(f"row {row}", *cells) for row, cells in enumerate(words)]
    return Chart(title, svg, Values(caption, heads, table))


def border_map(name: str, title: str, row: Row, vision: Row, low: float, colour: str) -> Chart:
    """Cells where they lie in a vision tower's picture, with the borders of its patches.

    Text has none; its cells are drawn at the same places.

    Args:
        row: one of `patch_borders` in results.json.
        vision: the tower's `image_size` and `patch_size`.
        low: accuracy that the palest shade stands for.
    """
    side, patch = vision["image_size"], vision["patch_size"]
    has_patches = row["modality"] != "text"
    value, pure = np.array(row["accuracy"]), np.array(row["pure"])
    ends = np.array(row["rows"]) / side, np.array(row["cols"]) / side
    words = [[percent(float(share)) for share in line] for line in value]
    with style():
        figure = Figure(figsize=(0.5 * WIDTH, 0.5 * WIDTH), layout="constrained")
        axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(1.01, -0.01))
        axes.set_axis_off()
        size = min(9.0, 45 / max(value.shape))
        behind = {"facecolor": STAND_IN["surface"], "linewidth": 0, "pad": 0.8}
        for (r, c), share in np.ndenumerate(value):
            (top, bottom), (left, right) = ends[0][r], ends[1][c]
            shade = (share - low) / max(1 - low, 1e-9)
            box = (left, top, right - left, bottom - top)
            _box(axes, box, shade, colour, words[r][c] if size > 5 else "", size, behind)
            axes.add_patch(Rectangle(box[:2], *box[2:], fill=False, ec=STAND_IN["ink"], lw=1.2))
        lines = np.arange(side // patch + 1) * patch / side
        for draw in (axes.hlines, axes.vlines) if has_patches else ():
            draw(lines, 0, lines[-1], color=STAND_IN["muted"], lw=0.6)
        borders = f", with the borders of {side // patch} by {side // patch} patches"
        label = f"{title}{borders if has_patches else ''}, {grid_in_words(words)}"
        svg = to_svg(figure, name, label)
    table = [
        (f"row {r}, column {c}", words[r][c], percent(float(pure[r, c])))
        for r, c in np.ndindex(value.shape)
    ]
    heads = ("", "right", "in pure patches")
    return Chart(title, svg, Values(f"{title}, by cell", heads, table))


def offset_map(
    name: str,
    title: str,
    value: np.ndarray,
    colour: str,
    in_words: Callable[[float], str] = percent,
) -> Chart:
    """A share by distance from a cell, (2 R - 1, 2 C - 1); pale at 0, full at the highest."""
    rows, cols = ([f"{i - n // 2:+d}".replace("+0", "0") for i in range(n)] for n in value.shape)
    words = [[in_words(float(v)) if np.isfinite(v) else "" for v in row] for row in value]
    with style():
        cell = max(3 / max(value.shape), 0.3)  # inches
        width, height = 0.4 + cell * len(cols), 0.4 + cell * len(rows)
        figure = Figure(figsize=(width, height), layout="constrained")
        limits = {"xlim": (-0.5, len(cols) - 0.5), "ylim": (len(rows) - 0.5, -0.5)}
        axes = figure.add_subplot(**limits)
        for (row, col), share in np.ndenumerate(value):
            if np.isfinite(share):
                shade = share / max(float(np.nanmax(value)), 1e-9)
                text = words[row][col] if cell >= 0.5 else ""
                _shaded(axes, row, col, shade, colour, text, min(9.0, 15 * cell))
        _plain_ticks(axes, rows, cols)
        axes.set(xlabel="columns to the right", ylabel="rows down")
        svg = to_svg(figure, name, f"{title}, {grid_in_words(words)}", enlarged=1.2)
    heads = ("", *(f"column {col}" for col in cols))
    table = [(f"row {row}", *cells) for row, cells in zip(rows, words, strict=True)]
    return Chart(title, svg, Values(title, heads, table))


def patch_map(
    name: str, title: str, share: np.ndarray, cells: Sequence[Sequence[int]], n_cols: int
) -> Chart:
    """The patches of a picture: the colour is that of the cell, the shade the share that is in it.

    Args:
        share: of each patch that lies in each cell, (n_cells, n_down, n_across).
        cells: numbers of the patches that are read for each cell; others are grey.
        n_cols: number of columns of the grid.
    """
    n_cells, down, across = share.shape
    flat = share.reshape(n_cells, -1)
    used = np.zeros(flat.shape, bool)
    for cell, patches in enumerate(cells):
        used[cell, list(patches)] = True
    with style():
        figure = Figure(figsize=(0.62 * WIDTH, 0.62 * WIDTH * down / across), layout="constrained")
        limits = {"xlim": (-0.5, across - 0.5), "ylim": (down - 0.5, -0.5)}
        axes = figure.add_subplot(aspect="equal", **limits)
        axes.set_axis_off()
        for patch in range(flat.shape[1]):
            row, col = divmod(patch, across)
            cell = int((flat[:, patch] + used[:, patch]).argmax())
            r, c = divmod(cell, n_cols)
            colour = ("text", "image", "probe", "bad")[2 * (r % 2) + c % 2]
            colour = colour if used[cell, patch] else "lm"
            _shaded(axes, row, col, float(flat[cell, patch]), colour, "", 8)
        size = min(10.0, 55 / max(n_cols, n_cells // n_cols))
        for cell, patches in enumerate(cells):
            if not len(patches):
                continue
            rows, cols = np.divmod(np.array(patches, int), across)
            middle, label = (cols.mean(), rows.mean()), "{}, {}".format(*divmod(cell, n_cols))
            axes.text(*middle, label, ha="center", va="center", size=size)
        svg = to_svg(figure, name, f"{title}: {down} by {across} patches, {n_cells} cells")
    table = [
        (
            "row {}, column {}".format(*divmod(cell, n_cols)),
            f"{len(patches):,}",
            percent(float(flat[cell, list(patches)].mean())) if len(patches) else "",
            percent(float(flat[cell, list(patches)].sum() / max(flat[cell].sum(), 1e-9))),
        )
        for cell, patches in enumerate(cells)
    ]
    heads = ("cell", "patches read", "of these in the cell", "of the cell in these")
    return Chart(title, svg, Values(f"{title}, by cell", heads, table))


def leakage_map(name: str, title: str, cells: Sequence[str], excess: np.ndarray) -> Chart:
    """What is read of each cell (columns) from the patches of each cell (rows).

    Args:
        cells: their names.
        excess: in excess of what the read cell's own object tells, and on the diagonal the
            accuracy, (n_cells, n_cells); NaN where it is not known.
    """
    n = len(cells)
    own = np.eye(n, dtype=bool)
    words = [["" if np.isnan(value) else points(float(value)) for value in row] for row in excess]
    worst = max(float(np.nanmax(excess[~own], initial=0.0)), 0.05)
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
        limits = {"xlim": (-0.5, n - 0.5), "ylim": (n - 0.5, -0.5)}
        axes = figure.add_subplot(aspect="equal", **limits)
        for (row, col), value in np.ndenumerate(excess):
            if np.isfinite(value):
                shade, colour = (value, "probe") if row == col else (value / worst, "bad")
                text = words[row][col] if n <= MOST_NUMBERS else ""
                _shaded(axes, row, col, float(shade), colour, text, min(8.5, 85 / n))
        _plain_ticks(axes, list(cells), list(cells), rotation=90, size=min(8.5, 150 / n))
        axes.set(xlabel="object of the cell", ylabel="read from the patches of the cell")
        svg = to_svg(figure, name, f"{title}: {n} cells in rows, {n} cells in columns")
    heads = ("read from", *(f"of {cell}" for cell in cells))
    table = [(cell, *row) for cell, row in zip(cells, words, strict=True)]
    return Chart(title, svg, Values(f"{title}, in percentage points", heads, table))


def confusion_map(name: str, title: str, confusion: Confusion, colour: str, worst: float) -> Chart:
    """Share of the answers to the questions about each object, in percent.

    Mistakes are shaded in red, from pale at 0 to full at the share `worst`.
    """
    truths, answers = confusion.truths, confusion.answers
    n = max(len(truths), len(answers))
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH * len(truths) / len(answers)), layout="constrained")
        limits = {"xlim": (-0.5, len(answers) - 0.5), "ylim": (len(truths) - 0.5, -0.5)}
        axes = figure.add_subplot(aspect="equal", **limits)
        for (row, col), part in np.ndenumerate(confusion.shares):
            right = truths[row] == answers[col]
            text = _number(float(part)) if has_numbers(confusion) else ""
            if right:
                _shaded(axes, row, col, float(part), colour, text, min(7.5, 85 / n))
            elif part > 0:
                shade = float(part) / max(worst, 1e-9)
                _shaded(axes, row, col, shade, "bad", text, min(7.5, 85 / n))
        rows, cols = ([shorten(name, 14) for name in names] for names in (truths, answers))
        _plain_ticks(axes, rows, cols, rotation=90, size=min(8.5, 100 / n))
        axes.set(xlabel="answer", ylabel="true object")
        alt = f"{title}: {len(truths)} true objects in rows, {len(answers)} answers in columns"
        svg = to_svg(figure, name, alt)
    heads = ("true object", *answers, "all")
    table = [
        (truth, *(f"{count:,}" for count in (*counts, counts.sum())))
        for truth, counts in zip(truths, confusion.counts, strict=True)
    ]
    total = counted(int(confusion.counts.sum()), "question")
    return Chart(title, svg, Values(f"{title}: number of answers to {total}", heads, table))


def has_numbers(confusion: Confusion) -> bool:
    """Whether there is room for numbers in a map of confusions."""
    return max(len(confusion.truths), len(confusion.answers)) <= MOST_NUMBERS


def _number(share: float) -> str:
    """A share in percent; empty if it would be shown as 0."""
    if share < 0.0005:
        return ""
    return "100" if share == 1 else f"{min(100 * share, 99.9):.1f}"


def _shaded(
    axes: Axes, row: int, col: int, shade: float, colour: str, text: str, size: float
) -> None:
    _box(axes, (col - 0.48, row - 0.48, 0.96, 0.96), shade, colour, text, size)


def _box(
    axes: Axes,
    box: tuple[float, float, float, float],
    shade: float,
    colour: str,
    text: str,
    size: float,
    behind: dict[str, Any] | None = None,
) -> None:
    """A shaded rectangle (left, top, width, height) with text in its middle.

    Args:
        behind: the box behind the text, for lines that cross it.
    """
    low, high = SHADES
    alpha = low + (high - low) * min(max(shade, 0.0), 1.0)
    left, top, width, height = box
    axes.add_patch(Rectangle((left, top), width, height, color=STAND_IN[colour], alpha=alpha, lw=0))
    if text:
        middle = left + width / 2, top + height / 2
        axes.text(*middle, text, ha="center", va="center", size=size, bbox=behind)


def _plain_ticks(
    axes: Axes, rows: list[str], cols: list[str], rotation: float = 0, size: float = 8.5
) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(cols)), cols, rotation=rotation)
    axes.tick_params(length=0, labelsize=size)
    axes.spines[:].set_visible(False)
