"""Progress display for work that takes longer than two seconds, with rate and time left.

On a terminal rich draws a bar; elsewhere a plain line is printed every ten seconds.

A call into C or Rust answers no signal before it returns. If it can take longer than a second,
give it less at once, or call it by `waited`.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, TypeVar, cast

from gpt2v.messages import show
from gpt2v.stopping import abandon

T = TypeVar("T")
_PLAIN_EVERY = 10.0  # seconds
_LISTEN_EVERY = 0.2  # seconds; where a signal does not wake a waiting thread


class Reporter(Protocol):
    """What `progress` yields; call it after each unit of work, with an optional remark."""

    def __call__(self, remark: str = "") -> None: ...


class _Terminal:
    """Standard error, which may be closed while the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class _Plain:
    """Prints plain lines."""

    def __init__(self, label: str, total: int, done: int) -> None:
        self.label, self.total, self.done = label, total, done
        self.before = done
        self.start = self.last = time.monotonic()

    def __call__(self, remark: str = "") -> None:
        self.done += 1
        now = time.monotonic()
        finished_late = self.done == self.total and now - self.start > 2
        if now - self.last >= _PLAIN_EVERY or finished_late:
            self.last = now
            rate = (self.done - self.before) / max(now - self.start, 1e-9)
            left = (self.total - self.done) / rate
            line = f"{self.label} {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left"
            show(f"{line}  {remark}".rstrip())


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Reporter]:
    """Show on stderr the progress of `total` units of work, of which `done` are done already.

    Args:
        label: the name of the work.
    """
    if not sys.stderr.isatty():
        yield _Plain(label, total, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    console = Console(file=cast(TextIO, _Terminal(sys.stderr)), force_terminal=True)
    with RichProgress(*columns, console=console) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="", remark="")

        def report(remark: str = "") -> None:
            speed = bar.tasks[task].speed
            bar.update(task, advance=1, rate=f"{speed:.1f}/s" if speed else "", remark=remark)

        yield report


def track(items: Sequence[T], label: str) -> Iterator[T]:
    """Iterate over `items` and show the progress."""
    with progress(label, len(items)) as report:
        for item in items:
            yield item
            report()


@contextmanager
def alive(line: Callable[[], str]) -> Iterator[None]:
    """Print `line()`, an amount, every ten seconds while the block works."""
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(_PLAIN_EVERY):
            show(f"{line()} so far")

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def waited(label: str, call: Callable[[], T]) -> T:
    """The result of a long call into C or Rust, e.g. of a library that trains or reads.

    The call runs in a thread. So the main thread can print that it works, and answer signals while
    it does. After a signal the call goes on, without use, until the process ends; the process then
    ends without waiting for it (`stopping.end_at_once`). What it writes must be in a folder that is
    not in place yet.

    Args:
        label: the name of the work.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    finished = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised again below
            errors.append(error)
        finally:
            finished.set()

    start = time.monotonic()
    with alive(lambda: f"{label}, {time.monotonic() - start:.0f} s"):
        try:
            threading.Thread(target=work, daemon=True).start()
            while not finished.wait(_LISTEN_EVERY):
                pass
        except BaseException as stop:
            abandon(stop)
            raise
    if errors:
        raise errors[0]
    return results[0]
