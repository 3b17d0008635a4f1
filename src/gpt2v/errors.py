"""The exceptions that end a command with one line: a user's mistake, and a request to stop."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A user's mistake; the message is the one line that they see."""


class Stopped(Exception):
    """A signal asked a training to stop, and it has saved itself."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def within(place: str) -> Iterator[None]:
    """Put the file or key that a mistake lies in before its message."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}{error}") from None


def first_line(error: Exception) -> str:
    """What an exception of another library says, on one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
