"""Run directories: never overwritten by accident, with files that are written atomically."""

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gpt2v import __version__
from gpt2v.config.base import Config
from gpt2v.config.load import difference, dump
from gpt2v.errors import UserError, first_line
from gpt2v.extensions import check_imports, copies

if TYPE_CHECKING:
    import pyarrow as pa

FINISHED = "results.json"  # a run is finished if it has this file
_MARK = "run.json"
_FORMAT = 2  # increase it when older runs can no longer be continued


@contextmanager
def new_run(out: str | Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """Make a new directory for a run, or with `resume` open the existing run, if there is one.

    If a user's mistake ends the new run, its directory is removed. If any error ends a new run that
    replaces an old one, the old run is put back. But a new run that has a checkpoint always stays.

    Args:
        out: the directory.
        overwrite: replace an existing run.
        resume: continue an existing run.

    Raises:
        UserError: the directory holds something that must not be replaced, it cannot be made or
            written to, or the run to resume is from another version or needs files that were not
            imported.
    """
    path = Path(out)
    _check_directory(path)
    aside: Path | None = None
    if path.exists() and (not path.is_dir() or _holds_something(path)):
        if resume and (path / "config.yaml").is_file():
            _check_format(path)
            check_imports(path)
            _check_writable(path)
            yield path
            return
        if not _is_ours(path):
            raise UserError(f"{path}: is not empty and is not a run; choose another --out")
        if not (overwrite or resume):
            raise UserError(
                f"{path}: already holds a run; choose another --out, or add --overwrite, or "
                "(for a training) --resume"
            )
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")) / "replaced"
        path.rename(aside)
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot make the run directory: {error.strerror}") from None
        _check_writable(path)
        mark(path)
        yield path
    except BaseException as error:
        if any(path.glob("**/checkpoints/step-*")):  # this may be hours of training
            if aside is not None:
                shutil.rmtree(aside.parent)
        elif aside is not None:
            shutil.rmtree(path, ignore_errors=True)
            aside.rename(path)
            aside.parent.rmdir()
        elif isinstance(error, UserError):
            shutil.rmtree(path, ignore_errors=True)
        raise
    if aside is not None:
        shutil.rmtree(aside.parent)


def mark(run: Path) -> None:
    """Write the format of the run into it, and copies of the files that the user imported."""
    write_json(run / _MARK, {"format": _FORMAT, "gpt2v": __version__})
    for name, content in copies().items():
        write_bytes(run / name, content)


def has_this_format(run: Path) -> bool:
    """Whether the run was made by a version of gpt2v with the same format of runs."""
    return _format_of(run) == _FORMAT


def _format_of(run: Path) -> int | None:
    """The format in the mark that gpt2v writes into its runs; None: there is no such mark."""
    try:
        found = json.loads((run / _MARK).read_text("utf-8"))
        return int(found["format"]) if isinstance(found["gpt2v"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_ours(run: Path) -> bool:
    """Whether gpt2v made this directory, so that it may be replaced: by its mark alone, since
    other tools have files called config.yaml too.
    """
    return _format_of(run) is not None


def _check_directory(path: Path) -> None:
    """Refuse directories that are more than one run's.

    Raises:
        UserError: it is a symbolic link, the current folder, a home folder or a mount point.
    """
    if path.is_symlink():
        raise UserError(f"{path}: is a symbolic link; name the folder that it leads to")
    whole = path.resolve()
    for what, folder in (("the current folder", Path.cwd()), ("a home folder", _home())):
        if folder is not None and (whole == folder or whole in folder.parents):
            raise UserError(f"{path}: is or holds {what}; a run needs a folder of its own")
    if whole.is_mount():
        raise UserError(f"{path}: is a mount point; a run needs a folder of its own")


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # no such user
        return None


def _check_format(run: Path) -> None:
    if not has_this_format(run):
        advice = ", or add --overwrite" if _is_ours(run) else ""
        raise UserError(
            f"{run}: was begun by another version of gpt2v and cannot be continued by this one; "
            f"its checkpoints can be opened; choose another --out{advice}"
        )


def looks_local(name: str) -> bool:
    """Whether the name of something missing looks like a path, not like a hub's `owner/name`."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return True
    return "/" in name and Path(name).parent.is_dir()


def _holds_something(path: Path) -> bool:
    """Whether a folder has entries, except hidden ones, which interrupted writes leave."""
    return any(not entry.name.startswith(".") for entry in path.iterdir())


def _check_writable(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot write into the run: {error.strerror}") from None


def write_config(run: Path, config: Config) -> None:
    """Write config.yaml; if the run is resumed, check that it has the same configuration.

    Raises:
        UserError: the run was begun with another configuration.
    """
    path, text = run / "config.yaml", dump(config)
    if path.is_file():
        changed = difference(path, config)
        if changed:
            raise UserError(f"{path}: {changed}; --resume needs the same configuration")
    else:
        write_text(path, text)
        mark(run)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        UserError: it cannot be written: the disk is full, or the folder is read-only.
    """
    with _writing(path) as file:
        file.write(content)


def write_parquet(path: Path, table: "pa.Table") -> None:
    """Write a table atomically.

    Raises:
        UserError: it cannot be written.
    """
    import pyarrow.parquet as pq  # takes a moment

    with _writing(path) as file:
        pq.write_table(table, file)


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """A whole file; what keeps it from being written is one line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, path.parent) as file:
            yield file
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"{path}: cannot be written: {reason}") from None


@contextmanager
def whole_file(path: Path, beside: Path) -> Iterator[BinaryIO]:
    """Write a file atomically: it appears only when it is complete and on the disk.

    Args:
        path: the file.
        beside: folder on the same disk, for the temporary file that is renamed at the end.
    """
    handle, name = tempfile.mkstemp(dir=beside, prefix=f".{path.name}.")
    try:
        os.chmod(name, 0o644)  # mkstemp makes files that only the owner can read
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Write a directory atomically: it appears only when it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        temporary.chmod(0o755)
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or the list of names of a directory, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, for data that can be computed again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpt2v" / name


def remove_directory(path: Path) -> None:
    """Remove a directory so that readers see the whole directory or none of it."""
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


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
