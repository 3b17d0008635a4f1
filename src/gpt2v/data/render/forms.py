"""Text forms: ways to write a grid as text. Each is a function from grids to rows of text pieces.

A form is registered in `TEXT_FORMS` and called as `form(samples, names, table, view)`: B samples,
the names of all classes, the table of pieces, and the text view. It returns the pieces of the lines
that show each grid, (B, K), padded with EMPTY. The borders of every piece must be borders of the
tokenizer's pre-tokens, for any neighbouring pieces.

Shapes: B samples of a batch, R rows of a grid, C columns of a grid, K text pieces in a row.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from gpt2v.config.choice import choose
from gpt2v.data import rng
from gpt2v.data.grids.paraphrases import DELIMITERS
from gpt2v.data.grids.samples import Samples
from gpt2v.data.render.spans import patch_tiled_cells
from gpt2v.data.render.views import TextView
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, Strings
from gpt2v.errors import UserError
from gpt2v.registry import TEXT_FORMS

_UNDELIMITED = ("plain", "patch-tiled")  # forms that write nothing between the words of cells


def written_pieces(
    samples: Samples, view: TextView, names: tuple[str, ...], table: Strings
) -> Ints:
    """The lines that show the grid in words, (B, K)."""
    form = choose(TEXT_FORMS, view.form).load()
    pieces: Ints = form(samples, names, table, view)
    return pieces


def check_names(form: str, names: tuple[str, ...]) -> None:
    """Check that the words of a grid in this form can be read in one way only.

    Without delimiters, `polar bear` may be one object or two. Names are a code over words, which
    Sardinas and Patterson's algorithm (1953) decides.

    Raises:
        UserError: they can be read in two ways.
    """
    words = {tuple(name.split(" ")) for name in names}
    if choose(TEXT_FORMS, form) not in _UNDELIMITED or all(len(word) == 1 for word in words):
        return
    known: set[tuple[str, ...]] = set()
    rest = {after for one in words for after in _after(one, words - {one})}
    while rest - known:
        known |= rest
        rest = {after for one in rest for after in _after(one, words)}
        rest |= {after for one in words for after in _after(one, known)}
        if () in rest:
            several = ", ".join(repr(name) for name in names if " " in name)
            raise UserError(
                f"form: {choose(TEXT_FORMS, form)} has no delimiters, so that {several} could be "
                "several objects; choose another form or rename the classes"
            )


def _after(begin: tuple[str, ...], whole: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """What follows `begin` in each of the sequences that begin with it."""
    for sequence in whole:
        if sequence[: len(begin)] == begin:
            yield sequence[len(begin) :]


@TEXT_FORMS.register("markdown")
def _markdown(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    """`| bird | frog |`"""
    delimiters = table.ids([f" {d}" for d in DELIMITERS])[samples.delimiter]
    first = table.ids(list(DELIMITERS))[samples.delimiter]
    after = np.broadcast_to(delimiters[:, None, None], samples.classes.shape)
    return _lines(samples, first[:, None], _words(samples, names, table, " "), after, table)


@TEXT_FORMS.register("csv")
def _csv(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    """`bird,frog`"""
    after = np.full(samples.classes.shape, table.id(","))
    return _lines(samples, None, _words(samples, names, table, ""), after, table, last=False)


@TEXT_FORMS.register("latex")
def _latex(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    r"""`bird & frog \\`, in a `tabular`."""
    words = _words(samples, names, table, " ")
    words[:, :, 0] = _words(samples, names, table, "")[:, :, 0]
    last = np.arange(samples.classes.shape[2]) == samples.cols[:, None, None] - 1
    after = np.where(last, table.id(" \\\\"), table.id(" &"))
    after = np.broadcast_to(after, samples.classes.shape)
    widths = range(samples.classes.shape[2] + 1)
    begin = table.ids([f"\\begin{{tabular}}{{{'c' * n}}}\n" for n in widths])[samples.cols]
    end = np.full((len(begin), 1), table.id("\\end{tabular}\n"))
    lines = _lines(samples, None, words, after, table)
    return np.concatenate([begin[:, None], lines, end], axis=1)


@TEXT_FORMS.register("coordinates")
def _coordinates(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    """`(0, 1): frog`, a line for each cell."""
    batch, rows, cols = samples.classes.shape
    labels = [f"({r}, {c}):" for r in range(rows + 1) for c in range(cols + 1)]
    pieces = table.ids(labels).reshape(rows + 1, cols + 1)
    base = samples.base[:, None]
    label = pieces[np.repeat(np.arange(rows), cols) + base, np.tile(np.arange(cols), rows) + base]
    inside = samples.inside.reshape(batch, -1)
    words = _words(samples, names, table, " ").reshape(batch, -1)
    parts = [np.where(inside, part, EMPTY) for part in (label, words, table.id("\n"))]
    return np.stack(parts, axis=-1).reshape(batch, -1)


@TEXT_FORMS.register("plain")
def _plain(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    """`bird frog`"""
    words = _words(samples, names, table, " ")
    words[:, :, 0] = _words(samples, names, table, "")[:, :, 0]
    after = np.full(samples.classes.shape, EMPTY)
    return _lines(samples, None, words, after, table)


@TEXT_FORMS.register("patch-tiled")
def _patch_tiled(samples: Samples, names: tuple[str, ...], table: Strings, view: TextView) -> Ints:
    """` bird bird frog frog bird bird frog frog`, all in one line."""
    batch, rows, cols = samples.classes.shape
    seen = samples.classes.reshape(batch, -1)
    if view.noise:
        seen = np.where(seen >= 0, _misread(seen, samples.key, view.noise, len(names)), seen)
    shown = seen[:, patch_tiled_cells(rows, cols, view.patches)]
    words = np.append(table.ids([f" {name}" for name in names]), EMPTY)
    newline = np.full((batch, 1), table.id("\n"), np.int64)
    return np.concatenate([words[shown], newline], axis=1)


def _words(samples: Samples, names: tuple[str, ...], table: Strings, space: str) -> Ints:
    """The word of each cell, (B, R, C); EMPTY beyond the grid."""
    return np.append(table.ids([f"{space}{name}" for name in names]), EMPTY)[samples.classes]


def _lines(
    samples: Samples,
    before: Ints | None,
    words: Ints,
    after: Ints,
    table: Strings,
    last: bool = True,
) -> Ints:
    """The pieces of a line for each row, and of its newline, (B, K).

    Args:
        before: (B, 1) first piece of each line; None for none.
        words: (B, R, C) word of each cell.
        after: (B, R, C) piece after each word.
        last: whether the last word of a line has a piece after it, too.
    """
    batch, rows, cols = words.shape
    line = np.empty((batch, rows, 2 * cols + 2), np.int64)
    line[:, :, 0] = EMPTY if before is None else before
    line[:, :, 1:-1:2] = words
    ends = np.arange(cols) == samples.cols[:, None, None] - 1
    line[:, :, 2:-1:2] = after if last else np.where(ends, EMPTY, after)
    line[:, :, -1] = table.id("\n")
    if not samples.inside.all():
        in_row = samples.inside[:, :, 0]
        line[:, :, 1:-1:2][~samples.inside] = EMPTY
        line[:, :, 2:-1:2][~samples.inside] = EMPTY
        line[:, :, 0][~in_row] = EMPTY
        line[:, :, -1][~in_row] = EMPTY
    return line.reshape(batch, -1)


def _misread(classes: Ints, key: rng.U64, noise: float, n_classes: int) -> Ints:
    """Classes (B, n_cells), each replaced with probability `noise` by a random one of all."""
    size = classes.shape[1]
    words = rng.bits(key, 2 * size)
    other = rng.below(words[:, :size], n_classes)
    return np.where(rng.unit(words[:, size:]) < noise, other, classes)
