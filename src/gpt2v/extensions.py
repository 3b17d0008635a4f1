"""`--import FILE.py`: imports a user's own projectors, metrics, ..., and records the file in runs.

The file is executed once, before any configuration is read. A run has a copy and a hash of it in
`imports/`. The copy is never executed automatically: to open the run, the user imports the file
again.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from gpt2v.errors import UserError
from gpt2v.registry import REGISTRIES, registered_by

FOLDER = "imports"  # folder of a run with a copy of each file
RECORD = "imports.json"  # file in that folder with the names and hashes


class Imported(NamedTuple):
    """A user's file that this process has executed.

    Attributes:
        path: absolute path.
        sha256: hash of the content.
        content: the bytes of the file.
    """

    path: str
    sha256: str
    content: bytes

    @property
    def copy_name(self) -> str:
        """Name of the copy in a run."""
        return f"{self.sha256[:12]}-{Path(self.path).name}"


_imported: dict[str, Imported] = {}  # by sha256


def import_file(path: str | Path, expected: str | None = None) -> None:
    """Execute a user's file, unless a file with the same content was executed before.

    Args:
        path: the file.
        expected: sha256 that the file must have; none: any.

    Raises:
        UserError: the file cannot be read, has another hash, fails, or registers a name that is
            taken.
    """
    where = f"--import: {path}"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if expected is not None and sha256 != expected:
        raise UserError(f"{where}: has changed (sha256 {sha256[:12]}, expected {expected[:12]})")
    if sha256 in _imported:
        return
    name = f"gpt2v_import_{sha256[:12]}"
    module = ModuleType(name)
    module.__file__ = str(Path(path).absolute())
    sys.modules[name] = module  # dataclasses and pydantic look up the module of a class
    try:
        with registered_by(sha256):
            exec(compile(content, module.__file__, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        for registry in REGISTRIES:
            registry.forget(sha256)
        said = (str(error).strip() or "no message").splitlines()[0]
        if not isinstance(error, UserError):
            said = f"{_line(error, module.__file__)}{type(error).__name__}: {said}"
        raise UserError(f"{where}: {said}") from None
    _imported[sha256] = Imported(module.__file__, sha256, content)


def _line(error: BaseException, file: str) -> str:
    """The line of the file where the error occurred, e.g. `line 3: `; empty if unknown."""
    number = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            number = trace.tb_lineno
        trace = trace.tb_next
    return f"line {number}: " if number else ""


def imported() -> list[tuple[str, str]]:
    """Path and sha256 of every imported file, for worker processes."""
    return [(one.path, one.sha256) for one in _imported.values()]


def import_all(files: Iterable[Iterable[str]]) -> None:
    """Import the files that `imported` returned in another process.

    Raises:
        UserError: a file is missing, has changed or fails.
    """
    for path, sha256 in files:
        import_file(path, sha256)


def copies() -> dict[str, bytes]:
    """The files that record the imports in a run: path in the run -> content; empty if none."""
    if not _imported:
        return {}
    record = [
        {"file": Path(one.path).name, "copy": one.copy_name, "sha256": one.sha256}
        for one in _imported.values()
    ]
    files = {f"{FOLDER}/{one.copy_name}": one.content for one in _imported.values()}
    return {**files, f"{FOLDER}/{RECORD}": (json.dumps(record, indent=1) + "\n").encode()}


def check_imports(run: Path) -> None:
    """Check that this process has imported every file that a run was made with.

    Raises:
        UserError: a file was not imported, or has changed.
    """
    path = run / FOLDER / RECORD
    try:
        record = json.loads(path.read_bytes())
        needed = [(str(one["file"]), str(one["copy"]), str(one["sha256"])) for one in record]
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: cannot be read") from None
    for name, copy, sha256 in needed:
        if sha256 in _imported:
            continue
        for one in _imported.values():
            if Path(one.path).name == name:
                raise UserError(
                    f"{run}: was made with --import {name} (sha256 {sha256[:12]}), which has "
                    f"changed since (now {one.sha256[:12]}); the run's copy: {run / FOLDER / copy}"
                )
        raise UserError(
            f"{run}: was made with --import {name} (sha256 {sha256[:12]}); add --import with this "
            f"file; the run's copy: {run / FOLDER / copy}"
        )
