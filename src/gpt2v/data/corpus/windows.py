"""Windows of a token file: runs of tokens, all of the same length, without padding.

Training window number n is a pure function of (seed, n): it is window n % n_windows in the order
of epoch n // n_windows. Each epoch has its own random order, and shifts all windows by a random
number of tokens, so that they begin at other tokens. The file is read as a ring: after the last
token comes the first one (an <|endoftext|>). So a shift loses no window.

Shapes: B samples of a batch, T token positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gpt2v.data import rng
from gpt2v.data.corpus.tokens import Tokens
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError


@dataclass(frozen=True)
class TextBatch:
    """Windows of text. Every token of a window is predicted, except the first."""

    tokens: Ints  # (B, T + 1)
    first: int = 0  # number of the first window; the numbers of the others follow

    @property
    def index(self) -> Ints:
        """Numbers of the windows, (B,)."""
        return np.arange(self.first, self.first + len(self.tokens))

    @property
    def input_ids(self) -> Ints:
        """Tokens that the model reads, (B, T)."""
        return self.tokens[:, :-1]

    @property
    def targets(self) -> Ints:
        """The token after each input token, (B, T)."""
        return self.tokens[:, 1:]

    @property
    def n_supervised(self) -> int:
        """Number of predicted tokens."""
        return self.targets.size

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the model reads."""
        return self.input_ids.size


@dataclass(frozen=True)
class Windows:
    """Windows of `context` predictions over a flat array of tokens.

    Attributes:
        tokens: (n_tokens,).
        context: number of predicted tokens in a window, T.
        name: name of the corpus, for error messages.

    Raises:
        UserError: the array is shorter than one window.
    """

    tokens: Tokens
    context: int
    name: str = "the corpus"

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.context:
            raise UserError(
                f"corpus: {self.name} has {len(self.tokens)} tokens, too few for one window of "
                f"context: {self.context}"
            )

    @property
    def n_windows(self) -> int:
        """Training windows in an epoch.

        Each token is predicted once in an epoch, except at most context - 1 of them.
        """
        return len(self.tokens) // self.context

    def train_batch(self, seed: int, start: int, count: int) -> TextBatch:
        """Training windows number start to start + count - 1; the sequence never ends."""
        epoch, rank = np.divmod(np.arange(start, start + count), self.n_windows)
        first = np.empty(count, np.int64)
        for e in np.unique(epoch):
            order, shift = _epoch(seed, int(e), self.n_windows)
            now = epoch == e
            first[now] = order[rank[now]] * self.context + shift % self.context
        return self._cut(first, start)

    def validation_batches(self, batch: int, limit: int) -> Iterator[TextBatch]:
        """The first windows of the file in order, at most `limit`, in batches of `batch`.

        Up to the end of the last window, each token except the first is predicted exactly once.
        """
        n = min(limit, (len(self.tokens) - 1) // self.context)
        for start in range(0, n, batch):
            yield self._cut(np.arange(start, min(start + batch, n)) * self.context, start)

    def _cut(self, first: Ints, number: int) -> TextBatch:
        """The windows that begin at the tokens `first` (B,); `number` is that of the first one."""
        index = (first[:, None] + np.arange(self.context + 1)) % len(self.tokens)
        return TextBatch(self.tokens[index].astype(np.int64), number)


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, n_windows: int) -> tuple[Ints, int]:
    """The order of the windows in one epoch, (n_windows,), and a random number for their shift."""
    key = rng.keys(seed, "windows", np.array([epoch]))
    order = rng.permutations(key, n_windows)[0]
    order.flags.writeable = False
    shift = rng.bits(rng.keys(seed, "window shift", np.array([epoch])), 1)
    return order, int(shift[0, 0] >> np.uint64(1))
