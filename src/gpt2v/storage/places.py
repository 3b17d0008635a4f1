"""Folders that are more than one run's or one export's; these are never replaced."""

import os
from pathlib import Path

from gpt2v.errors import UserError
from gpt2v.storage.names import resolved


def check_place(path: Path, what: str) -> None:
    """Refuse a folder that is more than `what`, e.g. "a run".

    Raises:
        UserError: it is a symbolic link, a mount point, or holds the current or a home folder.
    """
    if path.is_symlink():
        raise UserError(f"{path}: is a symbolic link; name the folder that it leads to")
    whole = resolved(path)
    for name, folder in (("the current folder", Path.cwd().resolve()), ("a home folder", _home())):
        if folder is not None and (whole == folder or whole in folder.parents):
            raise UserError(f"{path}: is or holds {name}; {what} needs a folder of its own")
    if os.path.ismount(whole):  # Path.is_mount of Python 3.11 is not for Windows
        raise UserError(f"{path}: is a mount point; {what} needs a folder of its own")


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:  # no such user
        return None
