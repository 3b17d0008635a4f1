"""Write and remove folders so that readers see a whole folder or none of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2v.messages import say
from gpt2v.storage.disk import move, remove_file, remove_tree, sync
from gpt2v.storage.files import reason
from gpt2v.storage.names import new_unfinished, unfinished


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Write a folder atomically: it appears only when it is complete and on the disk.

    At `path` there must be nothing, or an empty folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(new_unfinished(path))
    temporary.mkdir()
    in_place = False
    try:
        mode = temporary.stat().st_mode & 0o666  # what the umask gives to a file
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                os.chmod(Path(folder, name), mode)  # safetensors makes files for the owner only
                sync(Path(folder, name))
            sync(Path(folder))
        move(temporary, path)
        in_place = True
        sync(path.parent)
    except BaseException:
        if in_place:  # but perhaps not on the disk
            move(path, temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_directory(path: Path) -> None:
    """Remove a folder, if it exists, so that readers see the whole folder or none of it."""
    if not path.exists():
        return
    aside = path.with_name(new_unfinished(path))
    move(path, aside)
    remove_tree(aside)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove what stopped processes left unfinished in a folder; only its owner may do it.

    Args:
        name: only of the file or folder with this name.
    """
    removed = []
    for path in unfinished(folder, name):
        try:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                remove_file(path)
            removed.append(path.name)
        except OSError as error:
            say(f"{path}: was left unfinished by a stopped process: {reason(error)}")
    if removed:
        names = ", ".join(removed)
        say(f"{folder}: removed what a stopped process left unfinished: {names}")
