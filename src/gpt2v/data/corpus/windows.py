"""Windows of a token file: equally long runs of tokens, packed without padding.

Training window number n is a pure function of (seed, n): epoch n // n_windows, then a place in that
epoch's permutation. Each epoch also shifts all of its windows, so that other tokens begin them. The
file is read as a ring (its first document begins with <|endoftext|>, as any other), so a shift
loses no window.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer, decoders

from gpt2v.data import rng
from gpt2v.data.corpus.tokens import Tokens
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError


@dataclass(frozen=True)
class TextBatch:
    """Windows of text: each token but the first of its window is predicted."""

    tokens: Ints  # (B, T + 1)
    first: int = 0  # number of the first window; the others follow it

    @property
    def index(self) -> Ints:
        """Numbers of the windows, (B,)."""
        return np.arange(self.first, self.first + len(self.tokens))

    @property
    def input_ids(self) -> Ints:
        """(B, T)"""
        return self.tokens[:, :-1]

    @property
    def targets(self) -> Ints:
        """(B, T) the token after each input."""
        return self.tokens[:, 1:]

    @property
    def n_supervised(self) -> int:
        """Number of predicted tokens."""
        return self.targets.size

    @property
    def n_tokens(self) -> int:
        """Number of tokens that are read."""
        return self.input_ids.size


@dataclass(frozen=True)
class Windows:
    """Windows of `context` predictions over a flat array of tokens.

    Raises:
        UserError: the array holds no whole window.
    """

    tokens: Tokens  # (N,)
    context: int
    name: str = "the corpus"  # in messages

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.context:
            raise UserError(
                f"corpus: {self.name} has {len(self.tokens)} tokens, too few for one window of "
                f"context: {self.context}"
            )

    @property
    def n_windows(self) -> int:
        """Training windows in an epoch; each token but at most context - 1 is predicted once."""
        return len(self.tokens) // self.context

    def train_batch(self, seed: int, start: int, count: int) -> TextBatch:
        """Windows number start .. start + count - 1 of the endless sequence of a seed."""
        epoch, place = np.divmod(np.arange(start, start + count), self.n_windows)
        first = np.empty(count, np.int64)
        for e in np.unique(epoch):
            order, shift = _epoch(seed, int(e), self.n_windows)
            now = epoch == e
            first[now] = order[place[now]] * self.context + shift % self.context
        return self._cut(first, start)

    def validation_batches(self, batch: int, limit: int) -> Iterator[TextBatch]:
        """The first windows of the file in order, at most `limit`, in batches of `batch`.

        Every token but the first is predicted exactly once, as far as the windows reach.
        """
        n = min(limit, (len(self.tokens) - 1) // self.context)
        for start in range(0, n, batch):
            yield self._cut(np.arange(start, min(start + batch, n)) * self.context, start)

    def _cut(self, first: Ints, number: int) -> TextBatch:
        index = (first[:, None] + np.arange(self.context + 1)) % len(self.tokens)
        return TextBatch(self.tokens[index].astype(np.int64), number)


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, n_windows: int) -> tuple[Ints, int]:
    """The order of the windows in one epoch, and a random number for their shift."""
    key = rng.keys(seed, "windows", np.array([epoch]))
    order = rng.permutations(key, n_windows)[0]
    order.flags.writeable = False
    shift = rng.bits(rng.keys(seed, "window shift", np.array([epoch])), 1)
    return order, int(shift[0, 0] >> np.uint64(1))


def token_bytes(tokenizer: Tokenizer) -> Ints:
    """UTF-8 bytes of text that each token stands for, (V,); special tokens stand for none.

    Raises:
        UserError: the tokenizer is not byte-level, so its tokens are no bytes.
    """
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        raise UserError("tokenizer.source: not a byte-level tokenizer, as GPT-2's is")
    vocab = tokenizer.get_vocab()
    lengths = np.zeros(max(vocab.values()) + 1, np.int64)
    for token, number in vocab.items():
        lengths[number] = len(token)  # one character for each byte
    for number, added in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = 0 if added.special else len(added.content.encode())
    return lengths
