"""One process at a time works in a folder: its owner.

The lock of `runs/NAME` is the file `runs/.NAME.lock`. It is beside the folder and not in it,
because the folder itself is moved when it is replaced. `.NAME.owner` tells others whose it is. The
operating system releases the lock when the process ends, however it ends.
"""

import errno
import glob
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gpt2v.errors import UserError
from gpt2v.storage.files import check_writable, reason, write_json
from gpt2v.storage.folders import remark, remove_unfinished


@contextmanager
def owned(path: Path, wait: bool = False) -> Iterator[None]:
    """Own a folder, which need not exist, in this block.

    The folders above it are made; those of them that are empty at the end are removed again. What
    stopped processes left unfinished beside it is removed.

    Args:
        wait: wait for another process that owns it, instead of an error.

    Raises:
        UserError: another process owns it, or a folder above it; or the folder above it cannot be
            written.
    """
    whole = path.resolve()
    if not whole.name:
        raise UserError(f"{path}: is the root of a disk; choose a folder in it")
    made = [folder for folder in whole.parents if not folder.exists()]
    lock = FileLock(_lock_of(whole), timeout=0)
    try:
        try:
            whole.parent.mkdir(parents=True, exist_ok=True)
            check_writable(whole.parent)
            _acquire(lock, path, wait)
        except OSError as error:
            is_file = isinstance(error, FileExistsError)  # one of the folders above
            why = os.strerror(errno.ENOTDIR) if is_file else reason(error)
            raise UserError(f"{path}: cannot be written: {why}") from None
        try:
            for above in whole.parents:
                _check_free(above, path)
            write_json(_owner_of(whole), _description())
            remove_unfinished(whole.parent, glob.escape(whole.name))
            yield
        finally:
            try:
                for file in (_owner_of(whole), _lock_of(whole)):
                    with suppress(OSError):  # Windows: still open
                        file.unlink()
            finally:
                lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def check_free_inside(path: Path) -> None:
    """Check, before a folder is moved or removed, that no process works in a folder in it.

    Raises:
        UserError: another process owns such a folder.
    """
    for lock in path.rglob(".*.lock"):
        name = lock.name.removeprefix(".").removesuffix(".lock")
        _check_free(lock.with_name(name), path)


def _check_free(other: Path, path: Path) -> None:
    if not other.name or not _lock_of(other).exists():
        return
    try:
        with FileLock(_lock_of(other), timeout=0):
            return
    except Timeout:
        raise UserError(f"{path}: {other} is in use by {_described(other)}") from None
    except OSError:  # a lock that cannot be opened is not ours
        return


def _acquire(lock: FileLock, path: Path, wait: bool) -> None:
    try:
        lock.acquire()
    except Timeout:
        if not wait:
            raise UserError(f"{path}: is in use by {_described(path.resolve())}") from None
        remark(path, f"waiting for {_described(path.resolve())}")
        lock.acquire(timeout=-1, poll_interval=0.2)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _owner_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.owner")


def _description() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(["gpt2v", *sys.argv[1:]]),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _described(path: Path) -> str:
    """The owner, as far as it can be read; one that has just begun writes it within moments."""
    for _ in range(10):
        try:
            found = json.loads(_owner_of(path).read_bytes())
            where = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
            return f"process {found['pid']}{where} since {found['since']} ({found['command']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.05)
    return "another process"
