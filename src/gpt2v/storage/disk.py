"""Sync, move and remove, where operating systems differ.

Windows moves and removes nothing that a program has open, and no folder with such a file in it;
Linux and macOS do. Virus scanners and indexers have every new file open for a moment, so that it is
tried again for about a second.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_DENIED = 5  # Windows
_HELD = (_DENIED, 32, 33)  # Windows: access denied, sharing violation, lock violation
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)  # seconds


def sync_handle(handle: int) -> None:
    """Wait until what was written into an open file is on the disk."""
    os.fsync(handle)
    if sys.platform == "darwin":  # there it may still be in the cache of the drive
        import fcntl

        full = getattr(fcntl, "F_FULLFSYNC", None)
        with suppress(OSError):  # a network folder, which cannot be asked for it
            if full is not None:
                fcntl.fcntl(handle, full)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk.

    Windows opens no folders; NTFS writes changes of names into its journal, in their order.
    """
    flags = os.O_RDWR  # Windows syncs nothing that is only read
    if path.is_dir():
        if not hasattr(os, "O_DIRECTORY"):
            return
        flags = os.O_RDONLY | os.O_DIRECTORY
    handle = os.open(path, flags)
    try:
        sync_handle(handle)
    finally:
        os.close(handle)


def move(source: Path, target: Path) -> None:
    """Move a file or a folder; a file or an empty folder at `target` gives way.

    Raises:
        OSError: as `os.replace`; on Windows also if a program has it, or a file in it, open.
    """
    _patiently(source, lambda: _moved(source, target))


def _moved(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except PermissionError as error:
        if not (_is_held(error) and source.is_dir() and target.is_dir()):
            raise
        target.rmdir()  # Windows replaces no folder, not even an empty one
        try:
            os.replace(source, target)
        except OSError:
            target.mkdir()
            raise


def remove_file(path: Path) -> None:
    """Remove a file, if it exists.

    Raises:
        OSError: as `os.unlink`; on Windows also if a program has it open.
    """
    _patiently(path, lambda: path.unlink(missing_ok=True))


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it.

    Raises:
        OSError: as `shutil.rmtree`; on Windows also if a program has a file in it open.
    """
    _patiently(path, lambda: shutil.rmtree(path))


def _patiently(path: Path, change: Callable[[], None]) -> None:
    """Make a change on the disk, again and again while Windows says that a file is held."""
    for pause in (*_PAUSES, None):
        try:
            return change()
        except PermissionError as error:
            if not _is_held(error):
                raise
            if pause is None:
                why = "a program has it, or a file in it, open; close it there"
                if getattr(error, "winerror", None) == _DENIED:
                    why += " (or it is read-only)"
                raise PermissionError(error.errno, why, str(path)) from None
        time.sleep(pause)


def _is_held(error: PermissionError) -> bool:
    return getattr(error, "winerror", None) in _HELD  # only Windows has such numbers
