"""The help of a command's fields: a short block for each part of its configuration."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence

from gpt2v.config.base import Config
from gpt2v.config.describe import Block, Field, blocks_of
from gpt2v.errors import UserError

_NAMES = 26  # width of the column of options
_NARROWEST, _WIDEST = 50, 110  # in characters

WRITING = (
    "Text, such as a path or a name, is taken as it is: --tiles.path 'photos #2'. null means none, "
    "where that is possible (a file of this name: ./null). A list has commas: text,image. Every "
    "other value is YAML 1.2: true, 3e-4, '{name: mlp, hidden_size: 64}'. Each option is given "
    "once, or several times if it is a list of words. In names of options, - and _ are the same."
)


def width() -> int:
    """Width of the help in characters, as the terminal has it."""
    return min(_WIDEST, max(_NARROWEST, shutil.get_terminal_size().columns - 2))


def wrapped(text: str) -> str:
    """A text, each line of it wrapped to the terminal's width."""
    return "\n".join(_fill(line) for line in text.splitlines())


def blocks_of_all(kinds: Mapping[str, type[Config]], skip: Sequence[str] = ()) -> list[Block]:
    """The blocks of all classes of a command's configuration.

    Args:
        kinds: when a class is used -> the class. What is not in all classes has a block of its
            own, which says when.
        skip: dotted names of fields to leave out.
    """
    every = {when: blocks_of(kind, skip) for when, kind in kinds.items()}
    fields = [{f for block in blocks for f in block.fields} for blocks in every.values()]
    shared = set.intersection(*fields)
    found: dict[tuple[str, str], Block] = {}
    for when, blocks in every.items():
        for block in blocks:
            both = tuple(f for f in block.fields if f in shared)
            own = tuple(f for f in block.fields if f not in shared)
            if both:
                found.setdefault((block.key, block.title), Block(block.key, block.title, both))
            if own:
                title = f"{block.title} Only {when}.".lstrip()
                found[block.key, when] = Block(block.key, title, own)
    return list(found.values())


def fields_help(blocks: Sequence[Block], prefix: str | None = None) -> str:
    """The help of fields.

    Args:
        prefix: only of the fields whose names begin so.

    Raises:
        UserError: no field begins so.
    """
    if prefix is None:
        return "\n\n".join(_block(block) for block in blocks)
    begin = prefix.lstrip("-").replace("-", "_")
    few = [
        Block(block.key, block.title, tuple(f for f in block.fields if f.begins(begin)))
        for block in blocks
    ]
    shown = [_block(block) for block in few if block.fields]
    if not shown:
        parts = dict.fromkeys(f.key.partition(".")[0] for block in blocks for f in block.fields)
        raise UserError(f"--help: no field begins with '{prefix}', but {', '.join(parts)}")
    return "\n\n".join(shown)


def _block(block: Block) -> str:
    heading = f"{block.key or 'general'}: {block.title}".removesuffix(": ")
    return "\n".join([_fill(heading), *(line for field in block.fields for line in _field(field))])


def _field(field: Field) -> list[str]:
    name = f"  --{field.key}"
    text = f"{field.meaning} ({'; '.join(filter(None, (field.values, field.default)))})"
    lines = _fill(text, " " * _NAMES).splitlines()
    if len(name) + 2 > _NAMES:
        return [name, *lines]
    return [name + lines[0][len(name) :], *lines[1:]]


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
