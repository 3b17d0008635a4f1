"""Tokens of texts, and whether a tokenizer keeps a text: its tokens, decoded, must be the text.

Many tokenizers change text: they write it in lower case, normalise its Unicode, drop spaces, line
breaks or unknown characters, or put a space before it. A model would then read another text.
"""

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from tokenizers import Tokenizer

from gpt2v.errors import UserError, first_line

_AROUND = 20  # characters shown on each side of a difference


def tokens_of(tokenizer: Tokenizer, texts: Sequence[str], where: str) -> list[list[int]]:
    """Token ids of each text, without special tokens around them.

    Args:
        where: the setting that names the tokenizer, for the message.

    Raises:
        UserError: a text has words or characters that the tokenizer neither has nor can replace.
    """
    try:
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    except Exception as error:  # the library raises bare Exception for every failure
        if len(texts) > 1:
            return [ids for text in texts for ids in tokens_of(tokenizer, [text], where)]
        shown = quoted(texts[0][: 2 * _AROUND])
        raise UserError(
            f"{where}: cannot read {shown}: {first_line(error)}; choose another tokenizer"
        ) from None
    return [encoding.ids for encoding in encoded]


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
