"""Run directories: created once, never overwritten by accident, files written atomically."""

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
from typing import Any, BinaryIO

from gpt2v import __version__
from gpt2v.config.base import Config
from gpt2v.config.load import difference, dump
from gpt2v.errors import UserError
from gpt2v.extensions import check_imports, copies

FINISHED = "results.json"  # the file whose presence makes a run a finished one
_MARK, _FORMAT = "run.json", 2  # a new number where older runs cannot go on


@contextmanager
def new_run(out: str | Path, overwrite: bool = False, resume: bool = False) -> Iterator[Path]:
    """A fresh directory for a run, or with `resume` the run that is there, as it is.

    A run that ends with the user's mistake leaves nothing behind, and a run that was to be
    overwritten comes back whatever stops its successor; unless the new one holds a checkpoint.

    Raises:
        UserError: the directory holds something that may not be replaced, or cannot be made.
    """
    path = Path(out)
    aside: Path | None = None
    if path.exists() and (not path.is_dir() or _holds_something(path)):
        is_run = (path / "config.yaml").is_file()
        if resume and is_run:
            _check_format(path)
            check_imports(path)
            _check_writable(path)
            yield path
            return
        if not (overwrite or resume):
            raise UserError(
                f"{path}: already holds a run; choose another --out, --overwrite it, or (a "
                "training) --resume it"
            )
        if not is_run:
            raise UserError(f"{path}: is not empty and is no run; it will not be overwritten")
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")) / "replaced"
        path.rename(aside)
    try:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot make the run directory: {error.strerror}") from None
        _check_writable(path)
        yield path
    except BaseException as error:
        if any(path.glob("**/checkpoints/step-*")):  # hours of training, perhaps
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
    """Say which format of runs this one is in, and keep the user's own files that it uses."""
    write_json(run / _MARK, {"format": _FORMAT, "gpt2v": __version__})
    for name, content in copies().items():
        write_text(run / name, content.decode())


def has_this_format(run: Path) -> bool:
    """Whether a run was begun by a version of gpt2v whose runs this one understands."""
    try:
        return bool(json.loads((run / _MARK).read_text("utf-8"))["format"] == _FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_format(run: Path) -> None:
    if not has_this_format(run):
        raise UserError(
            f"{run}: was begun by another version of gpt2v, whose runs this one cannot continue; "
            "its checkpoints can be opened; choose another --out, or --overwrite it"
        )


def looks_local(source: str) -> bool:
    """Whether a name that is no file or folder was meant as one, not as a hub's `owner/name`."""
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        return True
    return "/" in source and Path(source).parent.is_dir()


def _holds_something(path: Path) -> bool:
    """Whether there is more than what an interrupted write leaves (its name begins with a dot)."""
    return any(not entry.name.startswith(".") for entry in path.iterdir())


def _check_writable(path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot write into the run: {error.strerror}") from None


def write_config(run: Path, config: Config) -> None:
    """Write the resolved config.yaml; a run that is resumed must have been begun with the same.

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
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, path.parent) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path, beside: Path) -> Iterator[BinaryIO]:
    """A file that appears complete, and on the disk, or not at all.

    Until it is renamed it lies in the folder `beside`, on the same disk.
    """
    handle, name = tempfile.mkstemp(dir=beside, prefix=f".{path.name}.")
    try:
        os.chmod(name, 0o644)  # mkstemp's files are private
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory that appears complete, and on the disk, or not at all."""
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
    """Wait until a file, or a directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder(name: str) -> Path:
    """Where the user's cache holds what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpt2v" / name


def remove_directory(path: Path) -> None:
    """Remove a directory, so that whoever looks sees all of it or nothing."""
    aside = path.with_name(f".{path.name}.removed")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_results(run: Path, kind: str, started: float, **content: Any) -> dict[str, Any]:
    """Write results.json: what was measured, with versions, command and wall time."""
    results = {
        "kind": kind,
        "versions": versions(),
        "command": command_line(),
        "seconds": round(time.monotonic() - started, 2),
        **content,  # may replace `seconds` by the time of each stage
    }
    write_json(run / FINISHED, results)
    return results


def versions() -> dict[str, str]:
    """Versions that a number may depend on."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "pillow")
    found = {name: importlib.metadata.version(name) for name in packages}
    return {"gpt2v": __version__, "python": platform.python_version(), **found}


def command_line() -> str:
    """The command as the user would type it again."""
    return shlex.join(["gpt2v", *sys.argv[1:]])
