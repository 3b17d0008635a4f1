"""Executors: this process, several processes of this machine, or Ray's on many machines.

An executor is a function registered in `EXECUTORS`, called as `executor(work, numbers, workers)`.
It calls `work.write(number)` for every number, in any process, and yields each number once its
shard is written, in any order. A `Work` can be pickled; the process that unpickles it imports the
user's own files (`--import`) first.
"""

import importlib.util
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from gpt2v.config.choice import OneOf
from gpt2v.data.export.shards import Work
from gpt2v.errors import UserError
from gpt2v.registry import EXECUTORS

Executor = Callable[[Work, Sequence[int], int | None], Iterator[int]]


@EXECUTORS.register("serial")
def serial(work: Work, numbers: Sequence[int], workers: int | None) -> Iterator[int]:
    """One after another, in this process."""
    yield from map(work.write, numbers)


@EXECUTORS.register("processes")
def processes(work: Work, numbers: Sequence[int], workers: int | None) -> Iterator[int]:
    """By processes of this machine, as many as it has cores unless told."""
    count = min(workers or os.cpu_count() or 1, len(numbers))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin) as pool:
        futures = [pool.submit(work.write, number) for number in numbers]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "--executor processes: a worker was killed; rerun the same command to continue"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker is quiet, and does not outlive the process that it works for."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@EXECUTORS.register("ray")
def with_ray(work: Work, numbers: Sequence[int], workers: int | None) -> Iterator[int]:
    """By Ray's workers, on every machine of the cluster that RAY_ADDRESS names or on this one.

    All of them write into the one folder, which must be shared by the machines.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    here = ray.is_initialized()
    if not here:
        cores = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **cores)
    try:
        write = ray.remote(_write).remote
        known = ray.put(work)
        limit = workers or len(numbers)
        running = [write(known, number) for number in numbers[:limit]]
        later = iter(numbers[limit:])
        while running:
            done, running = ray.wait(running)
            running += [write(known, number) for number in islice(later, len(done))]
            for number in done:
                yield ray.get(number)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"--executor ray: {type(error).__name__}; rerun the same command to continue"
        ) from None
    finally:
        if not here:
            ray.shutdown()


def _write(work: Work, number: int) -> int:
    return work.write(number)


def executor_of(name: Any, workers: int | None) -> Executor:
    """The executor with this name, or of a mapping of a name and options.

    Raises:
        UserError: no such executor, it is not installed, or it cannot have so many workers.
    """
    try:
        choice = OneOf(EXECUTORS).validate(name)
    except ValueError as error:
        raise UserError(f"--executor: {error}") from None
    if workers is not None and choice == "serial":
        raise UserError("--workers: serial has one; choose another --executor")
    if workers is not None and workers < 1:
        raise UserError(f"--workers: {workers} must be at least 1")
    if choice == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray: ray is not installed; pip install 'gpt2v[ray]'")
    executor: Executor = choice.load()
    return executor
