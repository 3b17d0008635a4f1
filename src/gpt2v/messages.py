"""Lines for the user on standard error, which may be closed or full: no reason to stop."""

import sys
from contextlib import suppress


def say(text: object) -> None:
    """Print one line that begins with the program's name."""
    line = str(text).replace("\n", "\\n")
    show(f"gpt2v: {line}")


def show(line: str) -> None:
    """Print a line as it is, e.g. of progress."""
    with suppress(OSError, ValueError):  # ValueError: it is closed
        print(line, file=sys.stderr, flush=True)
