"""Data that are computed once and kept: opened if they are there and whole, else made."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.paths import user_cache
from gpt2v.storage.folders import remove_directory
from gpt2v.storage.ownership import owned

T = TypeVar("T")


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, for data that can be computed again.

    Raises:
        UserError: there is no home folder.
    """
    return user_cache() / "gpt2v" / name


def open_or_make(entry: Path, open_entry: Callable[[], T], make: Callable[[], None]) -> T:
    """Open a cache entry; if it is missing or damaged, make it first.

    One process makes it; others that want it wait, and then open it.

    Args:
        entry: its folder.
        open_entry: checks and opens it; raises UserError if it cannot be used.
        make: writes the entry whole or not at all.

    Raises:
        UserError: the cache cannot be written, or what was made cannot be opened.
    """
    if entry.exists() and not entry.is_dir():
        raise UserError(f"{entry}: is a file; a cache entry is a folder")
    if entry.exists():
        with suppress(UserError):
            return open_entry()
    with owned(entry, wait=True):
        if entry.exists():
            try:
                return open_entry()  # another process has made it meanwhile
            except UserError as error:  # only the process that makes it says so
                say(f"{error}; making it again")
                remove_directory(entry)
        make()
        return open_entry()
