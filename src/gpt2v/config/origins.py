"""Where the value of a field comes from, for messages: a file, or an option of the command line.

A message about a file names the file and the key. A message about an option names the option, as it
was typed.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from gpt2v.errors import UserError


class Option(str):
    """The dotted key of a field that was given as an option; it knows how the option was typed."""

    typed: str  # with its dashes

    def __new__(cls, key: str, typed: str) -> "Option":
        option = super().__new__(cls, key)
        option.typed = typed
        return option


def with_origin(message: str, origin: str, keys: Iterable[str] = ()) -> str:
    """A message that also tells where the value comes from.

    Args:
        message: `KEY: what is wrong`; of an option of something registered, `KEY: OPTION: ...`.
        origin: name of the file; empty: there is none.
        keys: of the fields that were not read from the file; those that are an `Option` replace
            the KEY that they set.
    """
    key, colon, fault = message.partition(": ")
    options = [one for one in keys if isinstance(one, Option)]
    inner_key, inner_colon, inner_fault = fault.partition(": ")
    if inner_colon and f"{key}.{inner_key}" in options:  # `projector: hidden_size: ...`
        key, fault = f"{key}.{inner_key}", inner_fault
    setting = [option for option in options if f"{key}.".startswith(f"{option}.")]
    if not (colon and setting):
        return f"{origin}: {message}" if origin else message
    option = max(setting, key=len)
    below = key[len(option) + 1 :]
    inner = "" if not below or below.isdigit() else f"{below}: "  # a number: the value is quoted
    return f"{option.typed}: {inner}{fault}"


@contextmanager
def told(origin: str, keys: Iterable[str] = ()) -> Iterator[None]:
    """Messages of the block's UserErrors get `with_origin`."""
    try:
        yield
    except UserError as error:
        raise UserError(with_origin(str(error), origin, keys)) from None
