"""Documents as tokens, which have exactly the bytes of the text.

Text that looks like a special token is tokenized as text.

Shapes: V words of the vocabulary.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from tokenizers import Tokenizer, decoders

from gpt2v.data.corpus.parts import parts_of
from gpt2v.data.kept_text import changed_text
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError

BATCH = 1 << 19  # characters that are tokenized at once
_DECODED = 100_000  # characters of the first documents that are decoded again, as a check


class Encoder:
    """Tokenizes documents, and checks that their tokens keep the text.

    Args:
        where: the setting and the text, for messages.

    Attributes:
        n_bytes: of the text that was tokenized so far, in UTF-8.

    Raises:
        UserError: the tokenizer is not byte-level.
    """

    def __init__(self, tokenizer: Tokenizer, where: str) -> None:
        self.n_bytes = 0
        self._where = where
        self._lengths = token_bytes(tokenizer)
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.encode_special_tokens = True  # as ordinary text
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokens(self, documents: Sequence[str]) -> Iterator[Ints]:
        """The tokens of each document, (n_tokens,), without <|endoftext|> before them.

        Raises:
            UserError: the tokenizer changes the text.
        """
        return (np.concatenate([*parts]) for parts in self.in_parts(documents))

    def in_parts(self, documents: Sequence[str]) -> Iterator[Iterator[Ints]]:
        """The tokens of each document part by part, which must be read in this order."""
        parts = [list(parts_of(document, self._tokenizer)) for document in documents]
        encoded = self._encoded([part for document in parts for part in document])
        return (islice(encoded, len(document)) for document in parts)

    def _encoded(self, parts: list[str]) -> Iterator[Ints]:
        """The tokens of each part; so few are tokenized at once that signals are answered."""
        for first, after in _batches([len(part) for part in parts]):
            batch = parts[first:after]
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for part, encoding in zip(batch, encodings, strict=True):
                ids = np.array(encoding.ids, np.int64)
                self._check(part, ids)
                yield ids

    def _check(self, part: str, ids: Ints) -> None:
        """Raise UserError if tokens have other bytes than their text."""
        n_bytes = len(part.encode())
        is_first, self.n_bytes = self.n_bytes < _DECODED, self.n_bytes + n_bytes
        has = int(self._lengths[ids].sum())
        if not is_first and has == n_bytes:
            return
        change = changed_text(self._tokenizer, part, ids.tolist())
        if change is None and has != n_bytes:
            change = f"{n_bytes} bytes become tokens of {has} bytes"
        if change is not None:
            raise UserError(
                f"{self._where}: the tokenizer does not keep its text: {change}; choose "
                "another tokenizer"
            )


def _batches(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of parts, each as short as possible with BATCH characters: first part, and after."""
    first = held = 0
    for after, size in enumerate(sizes, 1):
        held += size
        if held >= BATCH or after == len(sizes):
            yield first, after
            first, held = after, 0


def token_bytes(tokenizer: Tokenizer, where: str = "tokenizer.source") -> Ints:
    """Number of UTF-8 bytes of text in each token, (V,); 0 for special tokens.

    Args:
        where: the setting that names the tokenizer, for the message.

    Raises:
        UserError: the tokenizer is not byte-level, so its tokens have no number of bytes.
    """
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        raise UserError(f"{where}: not a byte-level tokenizer like GPT-2's")
    vocab = tokenizer.get_vocab()
    lengths = np.zeros(max(vocab.values()) + 1, np.int64)
    for token, number in vocab.items():
        lengths[number] = len(token)  # one character for each byte
    for number, added in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = 0 if added.special else len(added.content.encode())
    return lengths
