"""The one exception type for mistakes that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A user's mistake; the message is the one line that they see."""


@contextmanager
def within(place: str) -> Iterator[None]:
    """Put the file or key that a mistake lies in before its message."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}{error}") from None
