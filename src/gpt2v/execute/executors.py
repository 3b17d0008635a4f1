"""Executors: they do the pieces of a job in this process, in several processes, or with Ray.

An executor is a function registered in `EXECUTORS`, called as `executor(job, pieces, workers)`. It
calls `job.do(piece)` for every piece, in any process, and yields each piece when it is done, in any
order. A job can be pickled; see `job`.
"""

import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

from gpt2v.config.choice import OneOf
from gpt2v.errors import UserError
from gpt2v.execute.job import Job
from gpt2v.registry import EXECUTORS
from gpt2v.stopping import stop_of, stop_signals

Executor = Callable[[Job, Sequence[int], int | None], Iterator[int]]


@EXECUTORS.register("serial")
def serial(job: Job, pieces: Sequence[int], workers: int | None) -> Iterator[int]:
    """One piece after another, in this process."""
    for piece in pieces:
        yield _do(job, piece)


@EXECUTORS.register("processes")
def processes(job: Job, pieces: Sequence[int], workers: int | None) -> Iterator[int]:
    """In processes on this machine; without `workers`, one process per core."""
    count = min(workers or os.cpu_count() or 1, len(pieces))
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    waiting, running = iter(pieces), set[Future[int]]()
    # An exception of a signal could leave a lock of the pool closed: signals are asked for instead.
    with (
        stop_signals() as request,
        ProcessPoolExecutor(count, mp_context=context, initializer=_begin) as pool,
    ):
        try:
            while True:
                with _without_ctrl_c():
                    for piece in islice(waiting, 2 * count - len(running)):
                        running.add(pool.submit(_do, job, piece))
                if not running:
                    return
                done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                if request.signum:
                    raise stop_of(request.signum)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            if request.signum:  # which a terminal of Windows sends to the workers, too
                raise stop_of(request.signum) from None
            raise UserError(
                "--executor processes: a worker was killed; rerun the same command to continue"
            ) from None
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()  # pieces are done whole or not at all
                worker.join(5)  # Windows moves no folder with files that it has open
            pool.shutdown(cancel_futures=True)  # else Python's end may meet a half-closed pool
            raise


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started here leave Ctrl-C, which a terminal sends to all, to this one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Start a worker: it prints nothing, leaves Ctrl-C to its parent process, and ends with it."""
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@EXECUTORS.register("ray")
def with_ray(job: Job, pieces: Sequence[int], workers: int | None) -> Iterator[int]:
    """With Ray, on all machines of the cluster at RAY_ADDRESS, or without it on this machine.

    All workers write into the same folder, so the machines must share it.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage statistics
    was_running = ray.is_initialized()
    if not was_running:
        cores = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **cores)
    try:
        do = ray.remote(_do).remote
        shared_job = ray.put(job)
        limit = workers or len(pieces)
        running = [do(shared_job, piece) for piece in pieces[:limit]]
        waiting = iter(pieces[limit:])
        while running:
            done, running = ray.wait(running)
            running += [do(shared_job, piece) for piece in islice(waiting, len(done))]
            for piece in done:
                yield ray.get(piece)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"--executor ray: {type(error).__name__}; rerun the same command to continue"
        ) from None
    finally:
        if not was_running:
            ray.shutdown()


def _do(job: Job, piece: int) -> int:
    job.do(piece)
    return piece


def executor_of(name: Any, workers: int | None) -> Executor:
    """The executor with this name.

    Args:
        name: a name, or a mapping with a name and options.
        workers: the number of workers that it will be called with.

    Raises:
        UserError: no such executor, it is not installed, or `workers` does not fit it.
    """
    try:
        choice = OneOf(EXECUTORS).validate(name)
    except ValueError as error:
        raise UserError(f"--executor: {error}") from None
    if workers is not None and choice == "serial":
        raise UserError("--workers: serial has only one worker; choose another --executor")
    if workers is not None and workers < 1:
        raise UserError(f"--workers: {workers} must be at least 1")
    if choice == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray: ray is not installed; pip install 'gpt2v[ray]'")
    executor: Executor = choice.load()
    return executor
