"""Batches that are drawn while the device computes the step before."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """What `draw` gives for each step; a thread draws step + 1 while the caller works on step.

    `draw` must be a pure function of the step, so that this changes nothing but the time. What it
    raises is raised by `take`.

    Args:
        draw: called with a step.
        end: steps from here on are not drawn ahead.
        threads: whether to use a thread; else each step is drawn when it is taken.
    """

    def __init__(self, draw: Callable[[int], T], end: int, threads: bool) -> None:
        self._draw, self._end = draw, end
        self._pool = ThreadPoolExecutor(1, "draw") if threads else None
        self._next: tuple[int, Future[T]] | None = None

    def take(self, step: int) -> T:
        """What belongs to a step; steps are usually taken in order."""
        drawn, self._next = self._next, None
        is_drawn = drawn is not None and drawn[0] == step
        result = drawn[1].result() if drawn and is_drawn else self._draw(step)
        if self._pool is not None and step + 1 < self._end:
            self._next = step + 1, self._pool.submit(self._draw, step + 1)
        return result

    def close(self) -> None:
        """End the thread; what it is drawing is lost."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
