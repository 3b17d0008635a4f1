"""Pieces: the strings that documents consist of. Each piece is tokenized once, as a whole.

The borders between pieces are also borders of the tokenizer's pre-tokens. So the joined tokens of
the pieces are exactly the tokens of the joined string. `render.spelling` checks this for each
tokenizer and data spec before they are used. Rendering is then integer arithmetic on arrays.

Shapes: B samples of a batch, T token positions, K text pieces in a row.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer

from gpt2v.data.kept_text import tokens_of
from gpt2v.data.rng import Ints

END_OF_TEXT = "<|endoftext|>"  # begins, ends and separates documents
IMAGE = "<image>"  # placeholder of one vision token
PAD = "<pad>"
CUT = "…"  # no token: follows an answer that was cut before it ended
SPECIAL_TOKENS = (END_OF_TEXT, IMAGE, PAD)


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of one of our special tokens; every tokenizer in this project has them."""
    number = tokenizer.token_to_id(token)
    assert number is not None, f"the tokenizer lacks {token}"
    return number


def n_ids(tokenizer: Tokenizer) -> int:
    """Rows that an embedding needs. Ids may have gaps, so it can exceed the number of tokens."""
    return max(tokenizer.get_vocab().values()) + 1


def begins_another(strings: Iterable[str]) -> bool:
    """Whether one of the strings begins another one, as `1` begins `12`.

    Then they are no choices: a reader who says `12` has also said `1`, whose probability can only
    be larger. With what follows an answer, a line break, they are.
    """
    ordered = sorted(set(strings))
    return any(longer.startswith(one) for one, longer in pairwise(ordered))


def different_rows(rows: Ints) -> tuple[Ints, Ints]:
    """The different rows among (B, K) numbers from 0, sorted; and which of them each is, (B,).

    As `numpy.unique(axis=0)`, but an order of magnitude faster where a row fits one number.
    """
    n_bits = 63 // max(1, rows.shape[1])
    if not rows.size or int(rows.max()).bit_length() > n_bits:
        different, which = np.unique(rows, axis=0, return_inverse=True)
        return different, which.reshape(-1)
    shifts = n_bits * np.arange(rows.shape[1])[::-1]
    _, first, which = np.unique((rows << shifts).sum(1), return_index=True, return_inverse=True)
    return rows[first], which.reshape(-1)


EMPTY = 0  # number of the piece without text; rows of pieces are padded with it


class Strings:
    """A table of pieces: each different string has a number. A document is a row of numbers."""

    def __init__(self) -> None:
        self.strings: list[str] = [""]
        self._ids: dict[str, int] = {"": EMPTY}

    def id(self, string: str) -> int:
        """Number of the piece with this text; a new text gets the next number."""
        if string not in self._ids:
            self._ids[string] = len(self.strings)
            self.strings.append(string)
        return self._ids[string]

    def ids(self, strings: list[str]) -> Ints:
        """Numbers of the pieces with these texts, (len(strings),)."""
        return np.array([self.id(string) for string in strings], np.int64)

    def text(self, pieces: Ints) -> str:
        """The text of a row of pieces (K,)."""
        return "".join(self.strings[piece] for piece in pieces)

    def texts(self, rows: Ints) -> list[str]:
        """The text of each row of pieces (B, K); rows that are the same are joined once."""
        different, which = different_rows(rows)
        texts = [self.text(row) for row in different]
        return [texts[number] for number in which.tolist()]


class PieceTable(Strings):
    """A table of pieces with their token ids; each piece is tokenized once.

    Args:
        where: the setting that names the tokenizer, for error messages.
    """

    def __init__(self, tokenizer: Tokenizer, where: str = "tokenizer") -> None:
        super().__init__()
        self.tokenizer, self.where = tokenizer, where
        self.image_id = special_id(tokenizer, IMAGE)
        self.pad_id = special_id(tokenizer, PAD)
        self._tokens: list[list[int]] = []
        self._flat: tuple[Ints, Ints, Ints] | None = None

    def tokens(self, string: str) -> list[int]:
        """Token ids of one string, without special tokens around it.

        Raises:
            UserError: the tokenizer cannot read it.
        """
        return tokens_of(self.tokenizer, [string], self.where)[0]

    def lengths(self, pieces: Ints) -> Ints:
        """Number of tokens of each piece, same shape."""
        return self._flattened()[2][pieces]

    def assemble(self, pieces: Ints) -> tuple[Ints, Ints]:
        """Join the pieces of each row.

        Args:
            pieces: (B, K) numbers of pieces.

        Returns:
            token ids (B, T), padded on the right; and for each token the column in `pieces` that
            it came from (B, T), -1 at padding.
        """
        lengths = self.lengths(pieces)
        if len(lengths) and (lengths == lengths[0]).all():  # all rows have the same layout
            flat, starts, _ = self._flattened()
            which = np.repeat(np.arange(len(lengths[0])), lengths[0])
            within = np.arange(len(which)) - (np.cumsum(lengths[0]) - lengths[0])[which]
            input_ids = np.tile(flat[starts[pieces[0]][which] + within], (len(pieces), 1))
            vary = np.flatnonzero((pieces != pieces[0]).any(0)[which])
            input_ids[:, vary] = flat[starts[pieces[:, which[vary]]] + within[vary]]
            return input_ids, np.broadcast_to(which, input_ids.shape)
        total = lengths.sum(1)
        tokens, which = self.end_to_end(pieces.reshape(-1))
        filled = np.arange(total.max(initial=0)) < total[:, None]
        input_ids = np.full(filled.shape, self.pad_id, np.int64)
        column = np.full(filled.shape, -1, np.int64)
        input_ids[filled] = tokens
        column[filled] = which % pieces.shape[1]
        return input_ids, column

    def end_to_end(self, pieces: Ints) -> tuple[Ints, Ints]:
        """All tokens of pieces (K,) end to end, and for each token the index of its piece."""
        flat, starts, all_lengths = self._flattened()
        lengths = all_lengths[pieces]
        which = np.repeat(np.arange(len(pieces)), lengths)  # one entry per token
        shift = starts[pieces] - (np.cumsum(lengths) - lengths)
        return flat[shift[which] + np.arange(len(which))], which

    def _flattened(self) -> tuple[Ints, Ints, Ints]:
        """All tokens of the table end to end, with the start and the length of each piece."""
        known = len(self._tokens)
        if self._flat is None or known < len(self.strings):
            self._tokens += [self.tokens(string) for string in self.strings[known:]]
            lengths = np.array([len(tokens) for tokens in self._tokens], np.int64)
            flat = np.array([token for tokens in self._tokens for token in tokens], np.int64)
            self._flat = flat, np.cumsum(lengths) - lengths, lengths
        return self._flat
