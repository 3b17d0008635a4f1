"""Text rendering: a sample as a sequence of pieces, in any text form or with image placeholders."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt2v.data import rng
from gpt2v.data.grids import Samples
from gpt2v.data.images import ImageSpan, patch_tiled_cells
from gpt2v.data.pieces import IMAGE, Strings
from gpt2v.data.rng import Ints
from gpt2v.data.wording import DELIMITERS, PALETTE_ENDS, PROMPTS, QUESTIONS


@dataclass(frozen=True)
class TextView:
    """The grid as words: `markdown`, or `patch-tiled` with `patches` x `patches` words a cell.

    With `noise` each patch-tiled word is, with that chance, drawn anew from all objects, so that
    a reader has to weigh a cell's words against each other and against the palette.
    With `spliced` the table's tokens become image placeholders that stand for themselves: the
    same embeddings reach the language model through the image splice.
    """

    form: Literal["markdown", "patch-tiled"] = "markdown"
    patches: int = 1
    noise: float = 0.0
    spliced: bool = False


@dataclass(frozen=True)
class ImageView:
    """The grid as the placeholders of a picture, or of one embedding per placeholder."""

    span: ImageSpan
    with_pixels: bool = True


View = TextView | ImageView


def grid_pieces(samples: Samples, view: View, names: tuple[str, ...], table: Strings) -> Ints:
    """The lines that show the grid, (B, K)."""
    batch, rows, cols = samples.classes.shape
    newline = table.id("\n")
    if isinstance(view, ImageView):
        row = [table.id(IMAGE)] * len(view.span) + [newline]
        return np.tile(np.array(row, np.int64), (batch, 1))
    words = table.ids([f" {name}" for name in names])
    if view.form == "patch-tiled":
        shown = samples.classes.reshape(batch, -1)[:, patch_tiled_cells(rows, cols, view.patches)]
        if view.noise:
            shown = _misread(shown, samples.key, view.noise, len(names))
        return _with_column(words[shown], newline)
    line = np.empty((batch, rows, 2 * cols + 2), np.int64)  # | a | b |\n
    line[:] = table.ids([f" {d}" for d in DELIMITERS])[samples.delimiter][:, None, None]
    line[:, :, 0] = table.ids(list(DELIMITERS))[samples.delimiter][:, None]
    line[:, :, 1:-1:2] = words[samples.classes]
    line[:, :, -1] = newline
    return line.reshape(batch, -1)


def prompt_pieces(samples: Samples, names: tuple[str, ...], table: Strings) -> Ints:
    """The line after the grid: its size and the palette in its listed order, (B, K)."""
    batch, rows, cols = samples.classes.shape
    size = {"rows": f" {rows}", "cols": f" {cols}"}
    starts = []
    for prompt in PROMPTS:
        lead, first, middle, second, end = _parts(prompt)
        starts.append(table.ids([lead, size[first], middle, size[second], end]))
    start = np.stack(starts)[np.broadcast_to(samples.prompt, batch)]  # (B, 5)
    palette = table.ids(list(names))[samples.palette]  # (B, P)
    listed = np.full((batch, 2 * palette.shape[1]), table.id("', '"), np.int64)
    listed[:, ::2] = palette
    listed[:, -1] = table.ids(list(PALETTE_ENDS))[samples.base]
    return np.concatenate([start, listed], axis=1)


def question_pieces(samples: Samples, table: Strings) -> Ints:
    """`What object is in row 2, column 2? A:` for each question, (B, Q, 5)."""
    shape, base = samples.row.shape, samples.base[:, None]
    numbers = table.ids([f" {i}" for i in range(max(samples.classes.shape[1:]) + 1)])
    number = {"row": numbers[samples.row + base], "col": numbers[samples.col + base]}
    pieces = np.empty((*shape, 5), np.int64)
    for which, question in enumerate(QUESTIONS):
        lead, first, middle, second, end = _parts(question)
        columns = [table.id(lead), number[first], table.id(middle), number[second], table.id(end)]
        worded = np.stack(np.broadcast_arrays(*columns), axis=-1)
        np.copyto(pieces, worded, where=(samples.question == which)[..., None])
    return pieces


def answer_pieces(samples: Samples, names: tuple[str, ...], table: Strings) -> Ints:
    """` bird` and the newline that ends every answer, (B, Q, 2)."""
    words = table.ids([f" {name}" for name in names])[samples.answer]
    return np.stack([words, np.full(words.shape, table.id("\n"))], axis=-1)


def document_pieces(samples: Samples, view: View, names: tuple[str, ...], table: Strings) -> Ints:
    """Whole documents, questions chained, (B, K)."""
    batch = len(samples.index)
    chat = np.concatenate(
        [question_pieces(samples, table), answer_pieces(samples, names, table)], axis=-1
    )
    parts = [
        grid_pieces(samples, view, names, table),
        prompt_pieces(samples, names, table),
        chat.reshape(batch, -1),
    ]
    return np.concatenate(parts, axis=1)


def documents(samples: Samples, view: View, names: tuple[str, ...], table: Strings) -> list[str]:
    """The samples as text, exactly what the models read."""
    return [table.text(row) for row in document_pieces(samples, view, names, table)]


def _misread(classes: Ints, key: rng.U64, noise: float, n_classes: int) -> Ints:
    """Classes (B, K), each replaced with chance `noise` by one of all classes at random."""
    size = classes.shape[1]
    words = rng.bits(key, 2 * size)
    other = rng.below(words[:, :size], n_classes)
    return np.where(rng.unit(words[:, size:]) < noise, other, classes)


def _parts(template: str) -> list[str]:
    """What stands before, between and after the numbers, and the names of those, in their order.

    The space before a number belongs to the number.
    """
    return re.split(r" \{(\w+)\}", template)


def _with_column(pieces: Ints, last: int) -> Ints:
    return np.concatenate([pieces, np.full((len(pieces), 1), last, np.int64)], axis=1)
