"""Lines for the user on standard error, which may be closed or full: no reason to stop.

A line stays one line of a few hundred characters, whatever is quoted in it: a value of a
configuration, a file's name, another library's message.
"""

import multiprocessing
import os
import re
import reprlib
import sys
from collections.abc import Sequence
from contextlib import suppress

LONGEST = 600  # characters of a line
_LONGEST_VALUE = 100  # characters of a value that is quoted in a line
# Line breaks, what a terminal obeys, what changes the direction of text, halves of characters, and
# what looks like a space or like nothing. Words of some languages need U+200C and U+200D.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\xa0\xad\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u2064\u2066-\u2069"
    "\u3000\ufeff\ud800-\udfff]"
)
_values = reprlib.Repr()
_values.maxstring = _values.maxlong = _values.maxother = _LONGEST_VALUE
_values.maxlist = _values.maxtuple = _values.maxdict = 8
_values.maxlevel = 3


def say(text: object) -> None:
    """Print one line that begins with the program's name."""
    show(f"gpt2v: {one_line(str(text))}")


def say_from_first(text: object) -> None:
    """`say`, but in only one of several processes that do the same."""
    if os.environ.get("LOCAL_RANK", "0") == "0" and multiprocessing.parent_process() is None:
        say(text)


def show(line: str) -> None:
    """Print a line as it is, e.g. of progress."""
    with suppress(OSError, ValueError):  # ValueError: it is closed
        print(line, file=sys.stderr, flush=True)


def one_line(text: str, longest: int = LONGEST) -> str:
    """A text as one line: control characters are shown as escapes, and its middle is left out."""
    if len(text) > longest:
        text = _shortened(text, longest)  # first, because an escape is longer than its character
    text = _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
    return _shortened(text, longest)


def shown(value: object) -> str:
    """A value as Python writes it, shortened, for a message."""
    return one_line(_values.repr(value), _LONGEST_VALUE)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def aligned(rows: Sequence[Sequence[str]], right: int | None = None) -> list[str]:
    """One line of text for each row, with aligned columns.

    Columns are aligned on the left, those from number `right` on (None: no column) on the right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right is not None and i >= right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
