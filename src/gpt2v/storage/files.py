"""Write files whole or not at all; what keeps a file from being written is one line."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gpt2v.errors import UserError, first_line
from gpt2v.storage.disk import move, remove_file, sync, sync_handle
from gpt2v.storage.names import new_unfinished

if TYPE_CHECKING:
    import pyarrow as pa


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        UserError: as `writing`.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))  # a path may not be UTF-8


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        UserError: as `writing`.
    """
    with writing(path), whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file atomically.

    Raises:
        UserError: as `writing`.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_parquet(path: Path, parts: Iterable["pa.Table"]) -> None:
    """Write a table atomically, of which one part after another is in memory.

    Args:
        parts: of the table, at least one, all with its columns; each becomes a row group.

    Raises:
        UserError: as `writing`.
    """
    import pyarrow.parquet as pq  # takes a moment

    with writing(path), whole_file(path) as file:
        each = iter(parts)
        first = next(each)
        with pq.ParquetWriter(file, first.schema) as writer:
            for part in chain([first], each):
                writer.write_table(part)


@contextmanager
def writing(path: Path, verb: str = "written") -> Iterator[None]:
    """Turn what keeps the block from writing into one line that names `path`.

    Raises:
        UserError: the disk is full, the folder is read-only, ...
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be {verb}: {reason(error)}") from None


def check_writable(folder: Path) -> None:
    """Raise an OSError if no file can be made in a folder."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def reason(error: Exception) -> str:
    """Why files could not be written, in the words of the operating system."""
    return getattr(error, "strerror", None) or first_line(error)


@contextmanager
def whole_file(path: Path, beside: Path | None = None) -> Iterator[BinaryIO]:
    """Write a file atomically: it appears only when it is complete and on the disk.

    Its folder is made if it is missing, and removed again if the file cannot be written.

    Args:
        path: the file.
        beside: folder on the same disk for the unfinished file; None: the file's own.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    name = ""
    try:
        unfinished = (beside or path.parent) / new_unfinished(path)
        with unfinished.open("xb") as file:  # with the mode that the umask gives
            name = str(unfinished)
            yield file
            file.flush()
            sync_handle(file.fileno())
        move(Path(name), path)
        sync(path.parent)
    except BaseException:
        if name and not Path(name).exists() and is_new:  # in place, but perhaps not on the disk
            remove_file(path)
        if name:
            remove_file(Path(name))
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()
        raise
