"""Write, replace and remove folders so that readers see a whole folder or none of it.

Only the owner of a folder (see `ownership`) replaces it or removes what is left of it.
"""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2v.storage.files import UNFINISHED, hidden, sync

_REPLACED = ".replaced"


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Write a folder atomically: it appears only when it is complete and on the disk.

    A folder that is at `path` already is replaced at the end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=hidden(path), suffix=UNFINISHED))
    in_place = False
    try:
        temporary.chmod(0o755)
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        if path.exists():
            set_aside(path)
        os.replace(temporary, path)
        in_place = True
        sync(path.parent)
        in_place = False
        remove_directory(replaced(path))
    except BaseException:
        if in_place:  # but perhaps not on the disk
            os.replace(path, temporary)
        put_back(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replaced(path: Path) -> Path:
    """Where a folder is while another one is made in its place."""
    return path.with_name(f".{path.name}{_REPLACED}")


def set_aside(path: Path) -> None:
    """Move a folder to `replaced(path)`; what is there already stays, and the folder is removed."""
    aside = replaced(path)
    if aside.exists():
        remove_directory(path)
    else:
        path.rename(aside)


def put_back(path: Path) -> bool:
    """Undo `set_aside` if nothing is at `path`; returns whether something was put back."""
    aside = replaced(path)
    if not aside.exists() or path.exists():
        return False
    aside.rename(path)
    return True


def remove_directory(path: Path) -> None:
    """Remove a folder, if it exists, so that readers see the whole folder or none of it."""
    if not path.exists():
        return
    aside = path.with_name(f"{hidden(path)}{secrets.token_hex(4)}{UNFINISHED}")
    path.rename(aside)
    shutil.rmtree(aside)


def settle(folder: Path, name: str = "*") -> None:
    """Undo what stopped processes left in a folder; only its owner may do it.

    What was being replaced is put back, or removed if its successor is whole. What is unfinished
    is removed.

    Args:
        name: only of files and folders with this name, which may hold wildcards.
    """
    for aside in sorted(folder.glob(f".{name}{_REPLACED}")):
        path = folder / aside.name.removeprefix(".").removesuffix(_REPLACED)
        if put_back(path):
            remark(path, "restored; a process was stopped while it replaced it")
        else:
            remove_directory(aside)
            remark(path, "removed what it has replaced; a process was stopped before it did so")
    remove_unfinished(folder, name)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what stopped processes left unfinished in a folder; only its owner may do it.

    Args:
        name: only of files and folders with this name, which may hold wildcards.
    """
    left = sorted(folder.glob(f".{name}.*{UNFINISHED}"))
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if left:
        names = ", ".join(path.name for path in left)
        remark(folder, f"removed what a stopped process left unfinished: {names}")


def remark(path: Path, text: str) -> None:
    """Tell the user on stderr what was found at `path`, and done."""
    print(f"gpt2v: {path}: {text}", file=sys.stderr, flush=True)
