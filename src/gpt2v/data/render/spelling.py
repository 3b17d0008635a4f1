"""Whether a tokenizer reads the documents of a data spec as they are rendered: piece by piece.

Tokenizers differ in what they join, e.g. punctuation and the line break after it, and in what they
change. So before a tokenizer is used for grids, its tokens of joined pieces are compared with the
tokens of the pieces, in every way in which a spec puts pieces next to each other.

Shapes: B samples of a batch, A choices of a question, K text pieces in a row.
"""

import numpy as np

from gpt2v.config.grids import LARGEST, SampleSpec
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.kept_text import changed_text, quoted, tokens_of
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.text import (
    answer_pieces,
    choice_pieces,
    grid_pieces,
    prompt_pieces,
    question_pieces,
)
from gpt2v.data.render.views import View
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import EMPTY, SPECIAL_TOKENS, PieceTable
from gpt2v.errors import UserError

_DRAWN = 64  # samples of each instruction: enough for all of its wordings
_WHOLE = 12  # at most so many of them are compared as whole documents, too ...
_CHARACTERS = 10_000  # ... or about so many characters
_ADVICE = "choose another tokenizer, such as GPT-2's"


def check_spelling(spec: SampleSpec, view: View, render: Renderer) -> None:
    """Check that a tokenizer reads the documents of a spec as they are rendered.

    Every instruction, wording and class name of the spec occurs, each of them with all of its
    possible neighbours.

    Raises:
        UserError: names the first text that becomes other tokens or another text.
    """
    table, names = render.table, render.bank.class_names
    _check_special(table)
    alike = [table.ids([f"{space}{name}" for name in names]) for space in ("", " ")]
    alike.append(table.ids([f" {number}" for number in range(LARGEST + 1)]))
    rows: list[Ints] = []
    for instruction in spec.instructions:
        one = spec.model_copy(update={"instructions": {instruction: 1.0}, "questions": 1})
        samples = draw_samples(one, render.bank, 0, "train", np.arange(_DRAWN))
        if not rows:  # the grids are the same for all instructions
            rows.append(_grids(samples, view, render))
        rows += _chats(samples, render)
    _check_names(table, names)
    for part in rows:
        _check_kept(table, part[:2])
    pairs = np.concatenate([_neighbours(part) for part in rows])
    _check_joined(table, _exchanged(pairs, alike), names)
    for part in rows:
        _check_joined(table, part[: _n_whole(table, part)], names)


def _n_whole(table: PieceTable, rows: Ints) -> int:
    """How many rows of pieces (n_rows, K) are compared as a whole."""
    length = max((len(table.text(row)) for row in rows[:2]), default=1)
    return max(2, min(_CHARACTERS // length, _WHOLE))


def _grids(samples: Samples, view: View, render: Renderer) -> Ints:
    """The pieces of documents up to their first question, (B, K)."""
    table, names = render.table, render.bank.class_names
    grids = grid_pieces(samples, view, names, table)
    return np.concatenate([grids, prompt_pieces(samples, names, table)], axis=1)


def _chats(samples: Samples, render: Renderer) -> list[Ints]:
    """Rows of pieces (n_rows, K): what follows the grids, and each choice after its question."""
    table, names = render.table, render.bank.class_names
    batch = len(samples.index)
    prompt = prompt_pieces(samples, names, table)
    question = question_pieces(samples, names, table).reshape(batch, -1)
    answer = answer_pieces(samples, names, table).reshape(batch, -1)
    # a question follows the prompt, or the answer to another question
    chats = np.concatenate([prompt, question, answer, question, answer], axis=1)
    choices = choice_pieces(samples, names, table, scored=True)[:, 0]  # (B, A)
    asked = np.repeat(question, choices.shape[1], axis=0)
    said, newline = choices.reshape(-1, 1), np.full((choices.size, 1), table.id("\n"))
    return [chats, np.concatenate([asked, said, newline], axis=1)[said[:, 0] != EMPTY]]


def _neighbours(rows: Ints) -> Ints:
    """The different pairs of pieces that are next to each other in rows (n_rows, K), (n, 2)."""
    row = np.nonzero(rows != EMPTY)[0]
    pieces = rows[rows != EMPTY]
    same = row[1:] == row[:-1]
    base = pieces.max(initial=0) + 1
    found = np.unique(pieces[:-1][same] * base + pieces[1:][same])
    return np.stack(np.divmod(found, base), axis=1)


def _exchanged(pairs: Ints, alike: list[Ints]) -> Ints:
    """Pairs of pieces (n, 2) in which each piece is exchanged for all that are used like it.

    Args:
        alike: sets of pieces that are used alike, such as the class names.
    """
    kind = np.full(pairs.max(initial=0) + 1, -1)
    for number, pieces in enumerate(alike):
        kind[pieces[pieces < len(kind)]] = number
    patterns = {
        tuple((int(kind[p]), 0 if kind[p] >= 0 else p) for p in pair) for pair in pairs.tolist()
    }
    made = []
    for pattern in sorted(patterns):
        sides = [alike[number] if number >= 0 else np.array([piece]) for number, piece in pattern]
        longest = max(map(len, sides))
        # of two exchanged pieces, each occurs with itself and with the next one
        for shift in (0, 1):
            turn = np.arange(longest)
            left, right = turn % len(sides[0]), (turn + shift) % len(sides[1])
            made.append(np.stack([sides[0][left], sides[1][right]], axis=1))
    return np.unique(np.concatenate(made), axis=0) if made else pairs


def _check_special(table: PieceTable) -> None:
    """Each of our special tokens must be one token, wherever it stands."""
    for token in SPECIAL_TOKENS:
        number = table.tokenizer.token_to_id(token)
        if table.tokens(token + token) != [number, number]:
            raise UserError(f"{table.where}: does not read {token} as one token; {_ADVICE}")


def _check_names(table: PieceTable, names: tuple[str, ...]) -> None:
    """No class name may be changed or be a special token; if all are, it is not for their words."""
    texts = {name: f"a {name}." for name in names}
    changes = {
        name: changed_text(table.tokenizer, text, table.tokens(text))
        for name, text in texts.items()
    }
    for name, change in changes.items():
        if change and not all(changes.values()):
            raise UserError(
                f"{table.where}: the class name {quoted(name)} is not kept: {change}; rename the "
                "class, or choose another tokenizer"
            )


def _check_kept(table: PieceTable, rows: Ints) -> None:
    """Decoding must give the text of rows (n_rows, K) back; it may hold image placeholders."""
    for row in rows:
        text = table.text(row)
        change = changed_text(table.tokenizer, text, table.tokens(text), special=True)
        if change:
            raise UserError(f"{table.where}: does not keep the text of grids: {change}; {_ADVICE}")


def _check_joined(table: PieceTable, rows: Ints, names: tuple[str, ...]) -> None:
    """The tokens of each row of pieces (n_rows, K) must be those of its text."""
    texts = [table.text(row) for row in rows]
    encoded = tokens_of(table.tokenizer, texts, table.where)
    tokens, _ = table.end_to_end(rows.reshape(-1))
    ends = np.cumsum(table.lengths(rows).sum(1)).tolist()
    for row, whole, start, end in zip(rows, encoded, [0, *ends], ends, strict=False):
        ids = tokens[start:end].tolist()
        if ids != whole:
            raise _joined(table, row, ids, whole, names)


def _joined(
    table: PieceTable, row: Ints, ids: list[int], whole: list[int], names: tuple[str, ...]
) -> UserError:
    """The error that names the pieces of a row (K,) at the first token that differs."""
    at = next(
        (i for i, pair in enumerate(zip(ids, whole, strict=False)) if pair[0] != pair[1]),
        min(len(ids), len(whole)),
    )
    of_token = table.end_to_end(row)[1].tolist()
    nearest = of_token[min(at, len(of_token) - 1)] if of_token else 0
    near = [table.strings[piece] for piece in row[max(0, nearest - 1) : nearest + 2] if piece]
    read, written = (
        " ".join(quoted(table.tokenizer.decode([i], skip_special_tokens=False)) for i in those)
        for those in (table.tokens("".join(near)), [i for part in near for i in table.tokens(part)])
    )
    is_name = {part.strip() for part in near} & set(names)
    advice = "rename the class, or choose another tokenizer" if is_name else _ADVICE
    return UserError(
        f"{table.where}: reads {quoted(''.join(near))} as {read}, but grids are written as "
        f"{written}; {advice}"
    )
