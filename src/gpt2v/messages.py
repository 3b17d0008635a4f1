"""Lines for the user on standard error, which may be closed or full: no reason to stop."""

import multiprocessing
import os
import sys
from contextlib import suppress


def say(text: object) -> None:
    """Print one line that begins with the program's name."""
    line = str(text).replace("\n", "\\n")
    show(f"gpt2v: {line}")


def say_from_first(text: object) -> None:
    """`say`, but in only one of several processes that do the same."""
    if os.environ.get("LOCAL_RANK", "0") == "0" and multiprocessing.parent_process() is None:
        say(text)


def show(line: str) -> None:
    """Print a line as it is, e.g. of progress."""
    with suppress(OSError, ValueError):  # ValueError: it is closed
        print(line, file=sys.stderr, flush=True)
