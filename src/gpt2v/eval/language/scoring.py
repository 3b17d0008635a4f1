"""Log-probabilities of whole texts, many of them in a batch; each token is scored exactly once.

A text begins after one token (<|endoftext|>, as in training). If it is longer than the model reads,
it is cut into windows. The first one predicts as many tokens as the model has positions; each
further one predicts the next `stride` tokens, and reads as many tokens before them as there is room
for. With the largest stride, the default, that is one token, but for the last window more: these
are the windows of lm-evaluation-harness (`loglikelihood_rolling`).

Shapes: B samples of a batch, T token positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2v.data.rng import Ints
from gpt2v.errors import UserError
from gpt2v.eval.language.models import LanguageModel
from gpt2v.hardware.memory import enough_memory
from gpt2v.stats.shared import Floats


@dataclass(frozen=True)
class Window:
    """A part of a text.

    Attributes:
        text: number of the text.
        start: the first token that is read; 0 is the one before the text.
        first, end: the tokens first + 1 to end are predicted, where 1 is the first of the text.
    """

    text: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """Number of tokens that are read."""
        return self.end - self.start


def windows_of(text: int, n_tokens: int, n_positions: int, stride: int) -> Iterator[Window]:
    """The windows of a text.

    Args:
        stride: number of tokens that each window but the first predicts, at most n_positions.
    """
    end = min(n_tokens, n_positions)
    yield Window(text, 0, 0, end)
    while end < n_tokens:
        first, end = end, min(end + stride, n_tokens)
        yield Window(text, end - n_positions, first, end)


def logprobs_of(
    model: LanguageModel,
    texts: Sequence[Ints],
    batch_tokens: int,
    stride: int | None = None,
    number: int = 0,
) -> Floats:
    """The log-probability of each text in nats, (n_texts,); 0 of a text without tokens.

    Args:
        texts: the tokens of each, (n_tokens,).
        batch_tokens: number of tokens that are read together, or those of one window.
        stride: see above; None: the largest.
        number: of the first text, for messages.

    Raises:
        UserError: a logit is NaN or infinite, or the memory is too small.
    """
    step = min(stride or model.n_positions, model.n_positions)
    total = np.zeros(len(texts))
    whole = [np.concatenate([[model.start], text]) for text in texts]
    cut = [
        window
        for i, tokens in enumerate(texts)
        for window in windows_of(i, len(tokens), model.n_positions, step)
        if len(tokens)
    ]
    for windows in _batches(sorted(cut, key=lambda one: -one.length), batch_tokens):
        longest = windows[0].length
        tokens = np.full((len(windows), longest + 1), model.start)  # (B, T + 1)
        read = np.zeros((len(windows), longest), bool)
        for row, window in enumerate(windows):
            tokens[row, : window.length + 1] = whole[window.text][window.start : window.end + 1]
            read[row, window.first - window.start : window.length] = True
        text = np.repeat([window.text for window in windows], read.sum(1))
        with enough_memory("batch_tokens", lambda: "choose a smaller --batch_tokens"):
            found = model.logprobs(tokens, read)
        if not np.isfinite(found).all():
            where = number + int(text[~np.isfinite(found)][0])
            raise UserError(f"model: {model.name}: its logits for text {where} are NaN or infinite")
        total += np.bincount(text, found, len(texts))
    return total


def _batches(windows: Sequence[Window], batch_tokens: int) -> Iterator[Sequence[Window]]:
    """Runs of windows, the longest first, that have at most `batch_tokens` tokens with padding."""
    while windows:
        count = max(1, batch_tokens // windows[0].length)
        yield windows[:count]
        windows = windows[count:]
