"""Stopping when a signal asks for it: Ctrl-C, SIGTERM, SIGHUP, and SIGUSR1, which Slurm can send.

On Windows these are Ctrl-C and Ctrl-Break (SIGBREAK). There SIGTERM from another process ends this
one at once, as SIGKILL does elsewhere.

During a command the signals are exceptions, so that every `with` and `finally` cleans up. A
training finishes its step and saves first. Signals that are ignored when the command starts, such
as SIGHUP under nohup, stay ignored.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from gpt2v.errors import Stopped
from gpt2v.messages import say_from_first

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
    if hasattr(signal, name)  # Windows has only SIGINT, SIGTERM and SIGBREAK
]
TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the environment of the processes that torchrun starts
_GRACE = 20.0  # seconds to finish a step and to save


class StopRequest:
    """A signal handler that stores the signal that asked to stop in `signum`; 0 if none has.

    A second Ctrl-C stops at once.
    """

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """In this block the signals are stored."""
    request = StopRequest()
    with _handled(request):
        yield request


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """In this block the first signal raises `Stopped`, or KeyboardInterrupt for Ctrl-C.

    Later ones do not disturb the clean-up, but for Ctrl-C.
    """
    asked = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if signum == signal.SIGINT:
            asked = True
            raise KeyboardInterrupt
        if not asked:
            asked = True
            raise Stopped(_stopped_by(signum), signum)

    with _handled(handle):
        yield


def let_signals_end_at_once() -> None:
    """From now on a signal ends the process; for work that has nothing to clean up.

    An exception would not do while modules are imported: Python wraps some of them.
    """

    def handle(signum: int, frame: FrameType | None) -> None:
        say_from_first(_stopped_by(signum))
        os._exit(128 + signum)

    _install(handle)


def stop_of(signum: int) -> Stopped | KeyboardInterrupt:
    """The exception of a signal."""
    return KeyboardInterrupt() if signum == signal.SIGINT else Stopped(_stopped_by(signum), signum)


def _stopped_by(signum: int) -> str:
    return "stopped" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"


def end_with_torchrun() -> None:
    """End this process, if torchrun started it, when torchrun was killed.

    Without it, processes can wait for each other for ever, and hold a run. A training saves first,
    if it can. Call it first of all: a parent that is gone by then is not known. On Windows, where
    the number of a parent never changes, this does nothing.
    """
    if TORCHRUN in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)


_abandoned: list[BaseException] = []


def abandon(error: BaseException) -> None:
    """Never free what the frames of an error hold, because that could block for ever.

    The process must then end by `end_at_once`.
    """
    _abandoned.append(error)


def end_at_once(status: int) -> None:
    """End the process without freeing anything, if an error was abandoned."""
    if _abandoned:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """In this block a handler of the signals is installed."""
    before = _install(handler)
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler of the signals; returns the earlier ones.

    Outside the main thread nothing is changed.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            if signal.getsignal(signum) != signal.SIG_IGN:
                before[signum] = signal.signal(signum, handler)
    return before
