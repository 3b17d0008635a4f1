"""Run directories: they have one owner, and are kept until their successor is finished."""

import importlib.metadata
import itertools
import math
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from gpt2v import __version__
from gpt2v.config.base import Config
from gpt2v.config.load import difference, dump
from gpt2v.errors import Taken, UserError
from gpt2v.extensions import check_imports
from gpt2v.messages import say
from gpt2v.run_layout import CONFIG, FINISHED, RUNS, has_log, has_this_format, mark
from gpt2v.storage.files import check_writable, write_json, write_text, writing
from gpt2v.storage.folders import remove_unfinished
from gpt2v.storage.names import replaced, resolved
from gpt2v.storage.ownership import check_free_inside, is_owner, owned
from gpt2v.storage.places import check_place


@contextmanager
def new_run(out: str | Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Own a new directory for a run, or with `resume` an existing run, if there is one.

    What is replaced is kept beside it until the new run is finished, and put back if the new one
    ends before it has a checkpoint or results. If it is ended so by a mistake or by a signal, it is
    removed. What a killed process left is put back, removed or reported.

    Args:
        out: the directory.
        overwrite: replace an existing run.
        resume: continue an existing run.

    Raises:
        UserError: the run shall be both replaced and resumed; another process works there; the
            directory holds something that must not be replaced, or cannot be written to; or the run
            to resume is from another version or needs files that were not imported.
    """
    if overwrite and resume:
        raise UserError("--overwrite: starts again, but --resume continues; give one of them")
    path = Path(out)
    check_place(path, "a run")
    with owned(path):
        check_free_inside(path)
        RUNS.restore(path)
        if not resume:
            _remove_worthless(path)
        there = path.exists() and (not path.is_dir() or _holds_something(path))
        begun = (path / CONFIG).is_file() or RUNS.has_value(path) or has_log(path)
        if there and resume and begun:
            _check_resumable(path)
            remove_unfinished(path)
            with RUNS.continuing(path):
                yield path
            return
        if there:
            advice = (
                "add --resume to continue a training, --overwrite to replace it, or choose another "
                "--out"
            )
            RUNS.check_replaceable(path, overwrite or resume, advice)
        with RUNS.replacing(path, there):
            with writing(path):
                path.mkdir(exist_ok=True)
                check_writable(path)
            mark(path)
            yield path


@contextmanager
def new_numbered_run(out: Path) -> Iterator[Path]:
    """Own a new directory for a run: `out`, or if that is taken `out`-2, or -3, ...

    Two processes at once get two directories.

    Raises:
        UserError: as `new_run`.
    """
    with ExitStack() as stack:
        for number in itertools.count(1):
            path = out if number == 1 else out.with_name(f"{out.name}-{number}")
            with suppress(Taken):
                stack.enter_context(new_run(path))
                break
        yield path


def _remove_worthless(path: Path) -> None:
    """Remove the half run of a killed process if it has nothing that a user could miss."""
    ours = RUNS.is_ours(path) and not any(RUNS.foreign(path))
    if ours and not (RUNS.has_value(path) or has_log(path)):
        RUNS.remove(path)
        say(f"{path}: removed; a stopped process left neither a checkpoint nor results")


def restored(run: Path) -> Path:
    """A run that is to be read, or something in one; what a killed process replaced is put back."""
    whole = resolved(run)
    for path in (whole, *list(whole.parents)[:3]):
        if path.name and replaced(path) and not is_owner(path):
            try:
                with owned(path):
                    RUNS.restore(path)
            except UserError as error:
                say(f"{error}; the earlier run is in {replaced(path)[0]}")
    return run


def check_there(run: Path) -> None:
    """Raise UserError if there is no directory of a run."""
    if not restored(run).is_dir():
        raise UserError(f"{run}: no such run directory")


def _check_resumable(run: Path) -> None:
    if not RUNS.is_ours(run):
        raise UserError(f"{run}: has no run.json of gpt2v; it cannot be continued")
    if not has_this_format(run):
        raise UserError(
            f"{run}: was begun by another version of gpt2v and cannot be continued by this one; "
            "its checkpoints can be opened; choose another --out, or add --overwrite"
        )
    if not (run / CONFIG).is_file():
        raise UserError(f"{run}: has no {CONFIG}; it cannot be continued")
    check_imports(run)
    with writing(run):
        check_writable(run)


def _holds_something(path: Path) -> bool:
    """Whether a folder has entries, except hidden ones."""
    return any(not entry.name.startswith(".") for entry in path.iterdir())


def write_config(run: Path, config: Config) -> None:
    """Write config.yaml; if the run is resumed, check that it has the same configuration.

    Raises:
        UserError: the run was begun with another configuration.
    """
    path, text = run / CONFIG, dump(config)
    if path.is_file():
        changed = difference(path, config)
        if changed:
            raise UserError(f"{path}: {changed}; --resume needs the same configuration")
    else:
        write_text(path, text)
        mark(run)


def write_results(run: Path, kind: str, started: float, **content: Any) -> dict[str, Any]:
    """Write results.json: `content`, with versions, command and wall time in seconds.

    Raises:
        UserError: a number is NaN or infinite.
    """
    _check_numbers(content, "")
    results = {
        "kind": kind,
        "versions": versions(),
        "command": command_line(),
        "seconds": round(time.monotonic() - started, 2),
        **content,  # may replace `seconds`, e.g. by the times of sub-runs
    }
    write_json(run / FINISHED, results)
    return results


def _check_numbers(value: Any, key: str) -> None:
    """JSON has neither NaN nor infinity, and neither is a result."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"results: {key} is {value}, which is no result")
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for name, part in parts:
        _check_numbers(part, f"{key}.{name}" if key else str(name))


def versions() -> dict[str, str]:
    """Versions of the packages that results may depend on."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "pillow")
    installed = {name: importlib.metadata.version(name) for name in packages}
    return {"gpt2v": __version__, "python": platform.python_version(), **installed}


_call: ContextVar[str | None] = ContextVar("_call", default=None)  # of a function, no command


@contextmanager
def called_as(call: str) -> Iterator[None]:
    """In this block `command_line` is a call of a Python function."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


def command_line() -> str:
    """The command of this process, as the user would type it, or the function that was called."""
    return _call.get() or shlex.join(["gpt2v", *sys.argv[1:]])
