"""Text rendering: a sample as a sequence of pieces, in any text form or with image placeholders.

Shapes: B samples of a batch, Q questions about a grid, J questions in a flat list,
A choices of a question, K text pieces in a row.
"""

import re

import numpy as np

from gpt2v.data import rng
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.instructions.base import DIRECTIONS, Asked, Vocabulary, joined
from gpt2v.data.grids.paraphrases import HELD_OUT_PROMPTS, PALETTE_ENDS, PROMPTS
from gpt2v.data.grids.samples import Samples
from gpt2v.data.render.forms import written_pieces
from gpt2v.data.render.views import TextView, View
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, IMAGE, Strings, begins_another, different_rows


def grid_pieces(samples: Samples, view: View, names: tuple[str, ...], table: Strings) -> Ints:
    """The lines that show the grid, (B, K)."""
    if isinstance(view, TextView):
        return written_pieces(samples, view, names, table)
    shapes, which = samples.shapes
    lines = []
    for rows, cols in shapes.tolist():
        line = view.span_of(rows, cols).line
        placeholders = np.full(len(line), table.id(IMAGE))
        after = np.where(np.diff(line, append=line[-1] + 1), table.id("\n"), EMPTY)
        lines.append(np.stack([placeholders, after], axis=1).reshape(-1))
    padded = np.full((len(lines), max(map(len, lines))), EMPTY)
    for row, pieces in zip(padded, lines, strict=True):
        row[: len(pieces)] = pieces
    pictured = padded[which]
    if view.words is None:
        return pictured
    return np.concatenate([pictured, written_pieces(samples, view.words, names, table)], axis=1)


def prompt_pieces(samples: Samples, names: tuple[str, ...], table: Strings) -> Ints:
    """The line after the grid: its size and the palette in its listed order, (B, K)."""
    batch = len(samples.index)
    numbers = {"rows": samples.rows, "cols": samples.cols}
    sizes = table.ids([f" {n}" for n in range(max(v.max(initial=0) for v in numbers.values()) + 1)])
    start = np.empty((batch, 5), np.int64)
    for which, prompt in enumerate(PROMPTS + HELD_OUT_PROMPTS):
        worded = samples.prompt == which
        if not worded.any():
            continue
        lead, first, middle, second, end = _parts(prompt)
        start[worded, ::2] = table.ids([lead, middle, end])
        for column, name in ((1, first), (3, second)):
            start[worded, column] = sizes[numbers[name][worded]]
    palette = np.append(table.ids(list(names)), EMPTY)[samples.palette]  # (B, max_objects)
    listed = np.where(palette[:, :, None] == EMPTY, EMPTY, table.id("', '"))
    listed = np.concatenate([palette[:, :, None], listed], axis=2).reshape(batch, -1)
    last = 2 * samples.n_objects - 1
    listed[np.arange(batch), last] = table.ids(list(PALETTE_ENDS))[samples.base]
    return np.concatenate([start, listed], axis=1)


def question_pieces(samples: Samples, names: tuple[str, ...], table: Strings) -> Ints:
    """Pieces of `What object is in row 2, column 2? A:` for each question, (B, Q, K)."""
    vocabulary = Vocabulary(table, names)
    parts = []
    for number, asked, (grid, slot) in samples.asked:
        wording = samples.question[grid, slot]
        for which in rng.different(wording):
            pieces = _worded(ALL[number].every_wording[which], asked, vocabulary)
            chosen = wording == which
            parts.append(((grid[chosen], slot[chosen]), pieces[chosen]))
    return _scattered(samples, parts)


def answer_pieces(samples: Samples, names: tuple[str, ...], table: Strings) -> Ints:
    """Pieces of ` bird` and the newline that ends every answer, (B, Q, K)."""
    vocabulary = Vocabulary(table, names)
    parts = []
    for number, asked, where in samples.asked:
        answer = ALL[number].answer(asked, vocabulary)
        newline = np.full((len(answer), 1), table.id("\n"))
        parts.append((where, np.concatenate([answer, newline], axis=1)))
    return _scattered(samples, parts)


def choice_pieces(
    samples: Samples, names: tuple[str, ...], table: Strings, scored: bool = False
) -> Ints:
    """The possible answers of each question, (B, Q, A); all EMPTY if they are too many to list.

    Args:
        scored: give the answers that are scored, which may hold objects outside the palette too.
    """
    vocabulary = Vocabulary(table, names)
    parts = []
    for number, asked, where in samples.asked:
        of = ALL[number].scored if scored else ALL[number].choices
        parts.append((where, of(asked, vocabulary)))
    return _scattered(samples, parts)


def ended_choices(choices: Ints, table: Strings) -> Ints:
    """Choices (B, Q, A) with what is read after them, (B, Q, A, 2).

    That is the line break, if a choice of the question begins another one; else nothing.
    """
    if not choices.size:
        return np.stack([choices, choices], axis=-1)
    flat = choices.reshape(-1, choices.shape[-1])
    different, which = different_rows(flat)
    unclear = [begins_another(table.strings[p] for p in row if p != EMPTY) for row in different]
    needed = np.array(unclear, bool)[which].reshape(*choices.shape[:2], 1)
    after = np.where(needed & (choices != EMPTY), table.id("\n"), EMPTY)
    return np.stack([choices, after], axis=-1)


def document_pieces(samples: Samples, view: View, names: tuple[str, ...], table: Strings) -> Ints:
    """Whole documents with chained questions, (B, K)."""
    batch = len(samples.index)
    chat = np.concatenate(
        [question_pieces(samples, names, table), answer_pieces(samples, names, table)], axis=-1
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


def _worded(template: str, asked: Asked, v: Vocabulary) -> Ints:
    """A template with the fields of each question filled in, (J, K)."""
    pieces = [
        _field(part, asked, v) if k % 2 else np.full((len(asked.grid), 1), v.table.id(part))
        for k, part in enumerate(_parts(template))
    ]
    return np.concatenate(pieces, axis=1)


def _field(name: str, asked: Asked, v: Vocabulary) -> Ints:
    """The pieces of one field of a template for each question, (J, K)."""
    if name == "numbering":
        palette, numbers = asked.grids.palette[asked.grid], asked.numbers
        equals = np.full_like(palette, v.table.id(" ="))
        numbered = np.stack([v.words[palette], equals, v.numbers(numbers)], axis=-1)
        return joined(numbered, palette >= 0, v.table.id(","))
    if name == "object":
        return v.words[asked.object][:, None]
    if name == "direction":
        return v.table.ids(list(DIRECTIONS))[asked.direction][:, None]
    return v.numbers(getattr(asked, name) + asked.base)[:, None]


def _parts(template: str) -> list[str]:
    """Split a template: text, name of a field, text, ..., text.

    The space before a field belongs to the field.
    """
    return re.split(r" \{(\w+)\}", template)


def _scattered(samples: Samples, parts: list[tuple[tuple[Ints, Ints], Ints]]) -> Ints:
    """Arrange the pieces of flat questions by sample and slot, (B, Q, K), padded with EMPTY.

    Args:
        parts: pairs of the indices in (B, Q), two arrays (J,), and the pieces (J, K) there.
    """
    if len(parts) == 1 and len(parts[0][1]) == samples.row.size:
        return parts[0][1].reshape(*samples.row.shape, -1)
    width = max((pieces.shape[1] for _, pieces in parts), default=0)
    whole = np.full((*samples.row.shape, width), EMPTY)
    for (grid, slot), pieces in parts:
        whole[grid, slot, : pieces.shape[1]] = pieces
    return whole
