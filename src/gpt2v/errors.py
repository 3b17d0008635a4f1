"""Exceptions that end a command with one line: a user's mistake, and a request to stop."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A user's mistake; its message is the one line that the user sees."""


class Taken(UserError):
    """A folder is in use or holds something that stays; another one may do."""


class Told(UserError):
    """This process has printed it already, because the others know nothing of it."""


class Stopped(BaseException):
    """A signal stopped the command; `signum` is the signal. No Exception, as KeyboardInterrupt."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def within(prefix: str) -> Iterator[None]:
    """Put `prefix`, a file or key, before the message of a UserError from the block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{prefix}{error}") from None


def first_line(error: Exception) -> str:
    """The first line of the message of another library's exception, or the name of its type.

    If the first line ends with a colon, the second one too.
    """
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
