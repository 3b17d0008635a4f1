"""Who writes the shards: this process, several of this machine, or Ray's of many machines.

A new executor is one function and its place in EXECUTORS. Each yields the number of every shard
once it is written, in any order.
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

from gpt2v.data.export.shards import Work
from gpt2v.errors import UserError

Executor = Callable[[Work, Sequence[int], int | None], Iterator[int]]


def serial(work: Work, numbers: Sequence[int], workers: int | None) -> Iterator[int]:
    """One after another, in this process."""
    yield from map(work.write, numbers)


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
                "--executor processes: a worker was killed; the same command goes on"
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
        known = ray.put(work.elsewhere())
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
            f"--executor ray: {type(error).__name__}; the same command goes on"
        ) from None
    finally:
        if not here:
            ray.shutdown()


def _write(work: Work, number: int) -> int:
    return work.write(number)


EXECUTORS: dict[str, Executor] = {"serial": serial, "processes": processes, "ray": with_ray}


def executor_of(name: str, workers: int | None) -> Executor:
    """The executor with this name.

    Raises:
        UserError: there is none, it is not installed, or it cannot have so many workers.
    """
    if name not in EXECUTORS:
        raise UserError(f"--executor: {name}: no such executor; there are {', '.join(EXECUTORS)}")
    if workers is not None and name == "serial":
        raise UserError("--workers: needs --executor processes or ray")
    if workers is not None and workers < 1:
        raise UserError(f"--workers: {workers} must be at least 1")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray: ray is not installed; pip install 'gpt2v[ray]'")
    return EXECUTORS[name]
