"""The hidden names beside a folder `NAME`, which only this package writes.

`.NAME.gpt2v-lock` and `.NAME.gpt2v-owner` are there while a process works in it.
`.NAME.XXXXXXXX.gpt2v-unfinished` is being written or removed. `.NAME.1.gpt2v-replaced` is what a
new folder is to replace (2, 3, ...: halves that were to replace it).
"""

import errno
import re
import secrets
import sys
from pathlib import Path, PurePath

from gpt2v.errors import UserError

_UNFINISHED, _REPLACED = ".gpt2v-unfinished", ".gpt2v-replaced"
_LOCK, _OWNER = ".gpt2v-lock", ".gpt2v-owner"
_OF_SYSTEM = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_TOKEN = "[a-z0-9_]{8}"
# What Windows reads as something else: streams of files and patterns, a name without its last
# character, devices. https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_NOT_ON_WINDOWS = re.compile(
    r"""(?i:.*[<>:"|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|(com|lpt)[0-9\xb9\xb2\xb3]) *(\..*)?)""",
    re.S,
)


def resolved(path: Path) -> Path:
    """The absolute path without symbolic links; the last parts need not exist.

    Raises:
        UserError: a link leads to itself; a name is not UTF-8, which some libraries need; or on
            Windows, it means something else there.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{str(path)!a}: this name is not in UTF-8; choose another") from None
    if sys.platform == "win32" and (name := not_on_windows(path)):
        raise UserError(f"{path}: Windows has no files named '{name}'; choose another name")
    try:
        whole = path.resolve()
        loops = _loops(whole)
    except (RuntimeError, OSError):  # before Python 3.13
        loops = True
    if loops:
        raise UserError(f"{path}: a symbolic link in it leads to itself")
    return whole


def not_on_windows(path: PurePath) -> str | None:
    """The first name in a path that Windows would read as something else; None: there is none."""
    names = path.parts[1:] if path.anchor else path.parts
    return next((n for n in names if n != ".." and _NOT_ON_WINDOWS.fullmatch(n)), None)


def _loops(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def lock_of(path: Path) -> Path:
    """The lock of a folder."""
    return path.with_name(f".{path.name}{_LOCK}")


def owner_of(path: Path) -> Path:
    """The file that tells who works in a folder."""
    return path.with_name(f".{path.name}{_OWNER}")


def new_unfinished(path: Path) -> str:
    """A name for the unfinished file or folder that will be at `path`; each call gives another."""
    return f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}"


def is_passing(name: str) -> bool:
    """Whether a file or folder with this name comes and goes: ours, or the operating system's."""
    ours = name.startswith(".") and name.endswith((_UNFINISHED, _LOCK, _OWNER))
    return ours or name in _OF_SYSTEM


def unfinished(folder: Path, name: str | None = None) -> list[Path]:
    """What is unfinished in a folder.

    Args:
        name: only of the file or folder that will have this name.
    """
    whose = ".+" if name is None else re.escape(name)
    if name is not None:  # or what it has replaced
        whose = rf"({whose}|\.{whose}\.\d+{re.escape(_REPLACED)})"
    pattern = re.compile(rf"\.{whose}\.{_TOKEN}{re.escape(_UNFINISHED)}", re.S)
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except OSError:
        return []


def replaced(path: Path) -> list[Path]:
    """What is set aside while another folder is made at `path`; the last one was there last."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+){re.escape(_REPLACED)}", re.S)
    try:
        found = [(pattern.fullmatch(other.name), other) for other in path.parent.iterdir()]
    except OSError:
        return []
    numbered = sorted((int(match[1]), other) for match, other in found if match)
    return [other for _, other in numbered]


def next_replaced(path: Path) -> Path:
    """Where to set aside the folder that is at `path`."""
    before = replaced(path)
    number = int(before[-1].name.split(".")[-2]) + 1 if before else 1
    return path.with_name(f".{path.name}.{number}{_REPLACED}")


def owned_by(lock: Path) -> Path:
    """The folder that a lock belongs to."""
    return lock.with_name(lock.name.removeprefix(".").removesuffix(_LOCK))
