"""Paths that a user names: `~` is a home folder everywhere, whether a shell has replaced it or not.

A file or folder that is really called `~` is `./~`.
"""

import os
from functools import cache
from pathlib import Path

from gpt2v.errors import UserError
from gpt2v.messages import say


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path in which `~` or `~USER` at the beginning is replaced by the home folder.

    Raises:
        UserError: it is empty, there is no such user, or this user has no home folder.
    """
    if path == "":  # else it would be the current folder
        raise UserError("the path is empty")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        why = "HOME is not set" if user == "~" else "no such user"
        raise UserError(f"{path}: the home folder {user} is not known: {why}") from None


def expanded_text(text: str) -> str:
    """`expanded` as text, for options that take a path or another name; these stay as they are.

    Raises:
        UserError: as `expanded`.
    """
    return str(expanded(text)) if text.startswith("~") else text


def user_cache() -> Path:
    """The folder for data that can be computed again, as the XDG Base Directory Specification says.

    Raises:
        UserError: there is no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base)
    if base:
        _say_once(f"XDG_CACHE_HOME: {base}: is no absolute path; ~/.cache is used instead")
    try:
        return expanded("~/.cache")
    except UserError as error:
        raise UserError(f"{error}; set HOME or XDG_CACHE_HOME") from None


@cache
def _say_once(line: str) -> None:
    say(line)
