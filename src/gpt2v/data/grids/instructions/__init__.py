"""Instructions: every type of question. Each is a class registered in `INSTRUCTIONS`.

Samples hold an instruction's number, its index in `ALL`.
"""

from gpt2v.data.grids.instructions import cells, counting, lines  # noqa: F401 (they register)
from gpt2v.data.grids.instructions.base import Instruction
from gpt2v.registry import INSTRUCTIONS, Choice, choose

ALL: list[Instruction] = []  # by number; grows where an instruction is first used
_NUMBERS: dict[Choice, int] = {}

# The built-in ones. Their order is part of what data are drawn; others come after them, by name.
NAMES = ("lookup", "count", "exists", "locate", "row", "column", "neighbour", "compare",
         "majority", "transcribe")  # fmt: skip


def number_of(instruction: str) -> int:
    """Index into ALL of an instruction's name, or of a choice with options.

    Raises:
        UserError: no such instruction.
    """
    choice = choose(INSTRUCTIONS, instruction)
    if choice not in _NUMBERS:
        made: Instruction = choice.load()()
        made.name = str(choice)
        _NUMBERS[choice] = len(ALL)
        ALL.append(made)
    return _NUMBERS[choice]


def drawing_order(number: int) -> tuple[int, str]:
    """Key that sorts instructions in the order in which they share out a grid's questions."""
    name = ALL[number].name
    return (NAMES.index(name) if name in NAMES else len(NAMES)), name


for _name in NAMES:
    number_of(_name)
