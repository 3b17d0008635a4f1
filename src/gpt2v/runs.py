"""Run directories: they have one owner, and are kept until their successor is finished."""

import importlib.metadata
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpt2v import __version__
from gpt2v.config.base import Config
from gpt2v.config.load import difference, dump
from gpt2v.errors import Stopped, UserError
from gpt2v.extensions import check_imports
from gpt2v.run_layout import (
    CONFIG,
    FINISHED,
    foreign,
    has_checkpoint,
    has_this_format,
    has_value,
    is_finished,
    is_ours,
    mark,
    remove_run,
)
from gpt2v.storage.files import check_writable, write_json, write_text, writing
from gpt2v.storage.folders import put_back, remark, remove_unfinished, replaced, set_aside
from gpt2v.storage.ownership import check_free_inside, owned
from gpt2v.storage.places import check_place


@contextmanager
def new_run(out: str | Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Own a new directory for a run, or with `resume` an existing run, if there is one.

    A run that is replaced is kept as `.NAME.replaced` until the new one is finished. If the new one
    ends before it has a checkpoint, by a mistake or by a signal, it is removed, and the old one is
    put back. What a killed process left is found here: put back, removed or reported.

    Args:
        out: the directory.
        overwrite: replace an existing run.
        resume: continue an existing run.

    Raises:
        UserError: another process works there; the directory holds something that must not be
            replaced, or cannot be written to; or the run to resume is from another version or needs
            files that were not imported.
    """
    path = Path(out)
    check_place(path, "a run")
    with owned(path):
        _clean_up(path, resume)
        held = path.exists() and (not path.is_dir() or _holds_something(path))
        if held and resume and (path / CONFIG).is_file():
            _check_resumable(path)
            remove_unfinished(path)
            yield path
        else:
            if held:
                _check_replaceable(path, overwrite or resume)
            with _replacing(path, held):
                yield path
        if replaced(path).exists():
            remove_run(replaced(path))


@contextmanager
def _replacing(path: Path, held: bool) -> Iterator[None]:
    """Make a new directory; put back what is there (`held`) if the new run has no checkpoint."""
    existed = path.is_dir() and not held
    begun = False
    try:
        if held and replaced(path).exists():  # a finished run that the one here was to replace
            remove_run(path)
        elif held:
            set_aside(path)
        begun = True
        with writing(path):
            path.mkdir(exist_ok=True)
            check_writable(path)
        mark(path)
        yield
    except BaseException as error:
        expected = isinstance(error, UserError | OSError | Stopped | KeyboardInterrupt)
        if begun and has_checkpoint(path):
            if replaced(path).exists():
                remark(path, f"the run that it is to replace is kept in {replaced(path)}")
        elif begun and (expected or replaced(path).exists()):
            remove_run(path, keep_folder=existed)
        put_back(path)
        raise


def _clean_up(path: Path, resume: bool) -> None:
    """Find what killed processes left: a run that they were replacing, and their half run."""
    if replaced(path).exists():
        _restore(path)
    elif not resume and is_ours(path) and not has_value(path) and not any(foreign(path)):
        remove_run(path)
        remark(path, "removed; a stopped process left neither a checkpoint nor results")


def _restore(path: Path) -> None:
    """Put back a run that a killed process was replacing, unless its successor has a value."""
    if is_finished(path):
        remove_run(replaced(path))
        remark(path, "removed the run that it has replaced; a process was stopped before it did so")
    elif has_checkpoint(path) or any(foreign(path)):
        remark(path, f"the run that it is to replace is kept in {replaced(path)}")
    else:
        remove_run(path)
        if put_back(path):
            remark(path, "restored; a process was stopped while it replaced this run")


def restored(run: Path) -> Path:
    """A run that is to be read: one that a killed process was replacing is put back first."""
    if replaced(run).exists():
        try:
            with owned(run):
                _restore(run)
        except UserError:
            pass  # it is being replaced right now
    return run


def _check_replaceable(path: Path, allowed: bool) -> None:
    """Refuse to replace what is not a run of ours, or holds more than that.

    Args:
        allowed: whether the user asked for it.
    """
    if not is_ours(path):
        raise UserError(f"{path}: is not empty and is not a run; choose another --out")
    if not allowed:
        what = "a run" if is_finished(path) else "an unfinished run"
        raise UserError(
            f"{path}: already holds {what}; choose another --out, or add --overwrite, or "
            "(for a training) --resume"
        )
    check_free_inside(path)
    other = next(foreign(path), None)
    if other is not None:
        raise UserError(f"{other}: is no file of a run; move it, or choose another --out")


def _check_resumable(run: Path) -> None:
    if not has_this_format(run):
        advice = ", or add --overwrite" if is_ours(run) else ""
        raise UserError(
            f"{run}: was begun by another version of gpt2v and cannot be continued by this one; "
            f"its checkpoints can be opened; choose another --out{advice}"
        )
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
    """Write results.json: `content`, with versions, command and wall time in seconds."""
    results = {
        "kind": kind,
        "versions": versions(),
        "command": command_line(),
        "seconds": round(time.monotonic() - started, 2),
        **content,  # may replace `seconds`, e.g. by the times of sub-runs
    }
    write_json(run / FINISHED, results)
    return results


def versions() -> dict[str, str]:
    """Versions of the packages that results may depend on."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "pillow")
    installed = {name: importlib.metadata.version(name) for name in packages}
    return {"gpt2v": __version__, "python": platform.python_version(), **installed}


def command_line() -> str:
    """The command of this process, as the user would type it."""
    return shlex.join(["gpt2v", *sys.argv[1:]])
