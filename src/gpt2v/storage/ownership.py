"""One process at a time works in a folder: its owner.

The lock is beside the folder and not in it, because the folder itself is moved when it is replaced.
The operating system releases it when the process ends, however it ends.
"""

import errno
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2v.errors import Taken, UserError
from gpt2v.messages import say
from gpt2v.storage.files import check_writable, reason
from gpt2v.storage.folders import remove_unfinished
from gpt2v.storage.names import lock_of, owned_by, owner_of, resolved

if TYPE_CHECKING:  # imported where it is used: a command that ends with a mistake needs it not
    from filelock import FileLock


@contextmanager
def owned(path: Path, wait: bool = False) -> Iterator[None]:
    """Own a folder, which need not exist, in this block.

    The folders above it are made; those of them that are empty at the end are removed again. What
    stopped owners left unfinished beside it is removed.

    Args:
        wait: wait for another process that owns it, instead of an error.

    Raises:
        Taken: another process owns it.
        UserError: another process owns a folder above it, or that cannot be written.
    """
    whole = resolved(path)
    if not whole.name:
        raise UserError(f"{path}: is the root of a disk; choose a folder in it")
    from filelock import FileLock

    made = [folder for folder in whole.parents if not folder.exists()]
    lock = FileLock(lock_of(whole), timeout=0)
    try:
        try:
            whole.parent.mkdir(parents=True, exist_ok=True)
            check_writable(whole.parent)
            _acquire(lock, path, wait)
        except OSError as error:
            raise _cannot_write(path, error) from None
        try:
            for above in whole.parents:
                _check_free(above, path)
            try:
                owner_of(whole).write_text(json.dumps(_description()), encoding="utf-8")
            except OSError as error:
                raise _cannot_write(path, error) from None
            remove_unfinished(whole.parent, whole.name)
            yield
        finally:
            try:
                _forget(whole)
            finally:
                lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


def is_owner(path: Path) -> bool:
    """Whether this process owns a folder."""
    whole = resolved(path)
    return lock_of(whole).exists() and _is_own(_read_owner(whole))


def check_free_inside(path: Path) -> None:
    """Check, before a folder is moved or removed, that no other process works in a folder in it.

    Raises:
        UserError: another process owns such a folder.
    """
    for lock in path.rglob(".*.gpt2v-lock"):
        _check_free(owned_by(lock), path)


def _check_free(other: Path, path: Path) -> None:
    """Refuse if another process owns a folder; the lock of a process that was killed is removed."""
    if not other.name or not lock_of(other).exists():
        return
    from filelock import FileLock, Timeout

    for _ in range(5):  # others may be looking, too
        try:
            with FileLock(lock_of(other), timeout=0):
                _forget(other)
                return
        except Timeout:
            time.sleep(0.02)
        except OSError:  # a lock that cannot be opened is not ours
            return
    found = _read_owner(other)
    if not _is_own(found):
        raise UserError(f"{path}: {other} is in use by {_described(found)}")


def _forget(path: Path) -> None:
    """Remove the files about the owner of a folder, whose lock this process holds."""
    for file in (owner_of(path), lock_of(path)):
        with suppress(OSError):  # Windows: the lock is open; its release removes it there
            file.unlink()


def _acquire(lock: "FileLock", path: Path, wait: bool) -> None:
    from filelock import Timeout

    try:
        lock.acquire()
    except Timeout:
        who = _described(_read_owner(resolved(path)))
        if not wait:
            raise Taken(f"{path}: is in use by {who}") from None
        say(f"{path}: waiting for {who}")
        lock.acquire(timeout=-1, poll_interval=0.2)


def _cannot_write(path: Path, error: OSError) -> UserError:
    is_file = isinstance(error, FileExistsError)  # one of the folders above
    why = os.strerror(errno.ENOTDIR) if is_file else reason(error)
    return UserError(f"{path}: cannot be written: {why}")


def _description() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(["gpt2v", *sys.argv[1:]]),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _read_owner(path: Path) -> dict[str, Any]:
    """The description of the owner; one that has just begun writes it within moments."""
    for _ in range(10):
        try:
            found: dict[str, Any] = json.loads(owner_of(path).read_bytes())
            if _description().keys() <= found.keys():
                return found
        except (OSError, ValueError, AttributeError):
            pass
        time.sleep(0.05)
    return {}


def _is_own(found: dict[str, Any]) -> bool:
    """Whether this process is the owner; its folders in its own folders are its own affair."""
    return (found.get("pid"), found.get("host")) == (os.getpid(), socket.gethostname())


def _described(found: dict[str, Any]) -> str:
    if not found:
        return "another process"
    where = "" if found["host"] == socket.gethostname() else f" on {found['host']}"
    return f"process {found['pid']}{where} since {found['since']} ({found['command']})"
