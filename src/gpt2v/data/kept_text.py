"""Whether a tokenizer keeps a text: its tokens, decoded, must be the same text again.

Many tokenizers change text: they write it in lower case, normalise its Unicode, drop spaces, line
breaks or unknown characters, or put a space before it. A model would then read another text.
"""

import unicodedata
from itertools import zip_longest

from tokenizers import Tokenizer

_AROUND = 20  # characters shown on each side of a difference


def changed_text(
    tokenizer: Tokenizer, text: str, ids: list[int], special: bool = False
) -> str | None:
    """What a tokenizer changes in a text, in words; None: nothing.

    Args:
        ids: the tokens of the text.
        special: whether special tokens in the text are meant as such. If they are not, text that
            becomes one of them is changed.
    """
    back = tokenizer.decode(ids, skip_special_tokens=not special)
    if back == text:
        return None
    pairs = enumerate(zip_longest(text, back))
    at = next(i for i, (before, after) in pairs if before != after)
    shown = slice(max(0, at - _AROUND), at + _AROUND)
    return f"{quoted(text[shown])} becomes {quoted(back[shown])}"


def quoted(text: str) -> str:
    """A text in quotes; in ASCII if its characters can be mistaken for others."""
    is_plain = unicodedata.is_normalized("NFKC", text) and text.isprintable()
    return repr(text) if is_plain or text.isascii() else ascii(text)
