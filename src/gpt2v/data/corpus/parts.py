"""Long documents in parts that are tokenized one by one; their joined tokens are the document's.

A call of the tokenizer answers no signal before it returns, so it is given little text at once.
"""

import re
from collections.abc import Iterator
from itertools import islice

from tokenizers import Tokenizer

_PART = 1 << 18  # characters of a long document that are tokenized at once
# Where a long document may be cut, the best places first: before a line, a space, other characters
# than letters, and anywhere.
_PLACES = [
    re.compile(r, re.DOTALL) for r in (r"(?<=\S)(?=\n\S)", r"(?<=\S)(?=\s)", r"\b(?=.)", r"(?=.)")
]
_REACH, _TRIES = 1 << 16, 20  # characters that are searched for such a place, and places to try
# Characters on each side of a cut that its tokens may depend on. Both numbers must give the same:
# a tokenizer that groups, say, three digits each counts from the start of what it is given.
_CONTEXTS = (200, 199)


def parts_of(document: str, tokenizer: Tokenizer) -> Iterator[str]:
    """A long document in parts; their joined tokens are those of the document."""
    start, at = 0, _PART
    while at < len(document):
        cut = _cut(document, start, at, tokenizer)
        if cut is not None:
            yield document[start:cut]
            start = cut
        at = start + _PART if cut is not None else at + _REACH
    yield document[start:]


def _cut(document: str, start: int, at: int, tokenizer: Tokenizer) -> int | None:
    """The first good place near `at` to cut a document that was cut at `start`."""
    for places in _PLACES:
        found = places.finditer(document, at, at + _REACH)
        for place in (match.start() for match in islice(found, _TRIES)):
            if all(_splits(document, start, place, n, tokenizer) for n in _CONTEXTS):
                return place
    return None


def _splits(document: str, start: int, place: int, context: int, tokenizer: Tokenizer) -> bool:
    """Whether the tokens around a place stay the same if the document is cut there."""
    before = document[max(start, place - context) : place]
    after = document[place : place + context]
    whole, first, second = (
        encoding.ids
        for encoding in tokenizer.encode_batch_fast(
            [before + after, before, after], add_special_tokens=False
        )
    )
    return bool(whole == first + second)
