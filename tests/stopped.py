"""Stop some work at its n-th change on the disk: as SIGKILL does, or by a signal."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CHANGES = ("rename", "replace", "mkdir", "unlink", "rmdir", "fsync")


@contextmanager
def at_change(n: int, happens: Callable[[], object]) -> Iterator[list[int]]:
    """In this block, something happens before the n-th change on the disk.

    Yields a list with the number of changes left until then, below 0 if it has happened.
    """
    left = [n]

    def counted(real):
        def change(*args, **kwargs):
            left[0] -= 1
            if left[0] == -1:
                happens()
            return real(*args, **kwargs)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, counted(getattr(os, name)))
        yield left


def killed_at(n: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed at the n-th change; whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 3
        try:
            with at_change(n, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                work()
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0
