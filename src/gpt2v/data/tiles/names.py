"""Class names: the one rule for names of objects, wherever they come from.

A name is written in tables, lists and questions. So it must not contain what separates cells and
names there, and its ends must be borders for a tokenizer, whatever text is next to it. Letters,
digits and marks of every script, and spaces and other signs within a name, are allowed.
"""

import unicodedata
from collections.abc import Sequence
from typing import get_args

from gpt2v.config.grids import Delimiter
from gpt2v.data.text_pieces import SPECIAL_TOKENS
from gpt2v.errors import UserError
from gpt2v.messages import show

_SEPARATES = {
    **dict.fromkeys(get_args(Delimiter), "separates the cells of a table"),
    ",": "separates names in a list",
    ";": "separates rows in an answer",
    "\\": "ends the rows of a LaTeX table",
    "'": "quotes the names of the palette; ’ can be used instead",
}
_ANSWERS = ("tie", "none", "yes", "no")  # answers that are not objects
_JOINERS = "\u200c\u200d"  # scripts such as Persian and Hindi need them within words


def in_one_form(name: str) -> str:
    """A name in Unicode's composed form (NFC); macOS writes names of folders decomposed."""
    return unicodedata.normalize("NFC", name)


def class_names(given: Sequence[str], where: object) -> tuple[str, ...]:
    """The names of the classes as they are used: in Unicode's composed form (NFC).

    Names that differ only in upper and lower case are different classes, which is printed.

    Args:
        given: a name for each class.
        where: folder or data set, for messages.

    Raises:
        UserError: a name cannot be used in text, or two names are the same.
    """
    names = tuple(in_one_form(name) for name in given)
    for name in names:
        fault = _fault(name)
        if fault is not None:
            raise UserError(f"tiles.path: {where}: class name {name!r} {fault}")
    known: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name, was in zip(names, given, strict=True):
        if name in known:
            same = f"{known[name]!a} and {was!a}"
            raise UserError(f"tiles.path: {where}: class names {same} are both {name!r}")
        known[name] = was
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            show(
                f"tiles.path: {where}: class names {other!r} and {name!r} differ only in upper and "
                "lower case; they are two classes"
            )
    return names


def _fault(name: str) -> str | None:
    """Why a name cannot be used; None if it can."""
    if not name:
        return "is empty"
    if any("\ud800" <= char <= "\udfff" for char in name):
        return "is not in UTF-8"
    for char in name:
        if char in _SEPARATES:
            return f"contains {char!r}, which {_SEPARATES[char]}"
        if not char.isprintable() and char not in _JOINERS:
            return f"contains {_told(char)}"
    for token in SPECIAL_TOKENS:
        if token in name:
            return f"contains {token}, which has a meaning of its own"
    if name in _ANSWERS:
        return f"is also an answer; a name must not be any of {', '.join(_ANSWERS)}"
    for char, place in ((name[0], "begin"), (name[-1], "end")):
        is_mark = place == "end" and unicodedata.category(char).startswith("M")
        if not (char.isalnum() or is_mark):
            return f"must begin and end with a letter or a digit, but it {place}s with {char!r}"
    return None


def _told(char: str) -> str:
    """A character that is not shown, in words."""
    if char in "\n\r\v\f\x85\u2028\u2029":
        return "a line break"
    kind = unicodedata.name(char, "a control character" if ord(char) < 160 else "not assigned")
    return f"U+{ord(char):04X} ({kind}), which is not shown"
