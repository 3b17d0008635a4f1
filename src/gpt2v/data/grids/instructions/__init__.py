"""Instructions: every type of question. Each is a class registered in `INSTRUCTIONS`.

Samples store an instruction's number, which is its index in `ALL`.
"""

from gpt2v.config.choice import Choice, choose
from gpt2v.data.grids.instructions import cells, counting, lines  # noqa: F401 (registers them)
from gpt2v.data.grids.instructions.base import Instruction
from gpt2v.registry import INSTRUCTIONS

ALL: list[Instruction] = []  # by number; an instruction is added when it is first used
_NUMBERS: dict[Choice, int] = {}

# The built-in ones. The drawn data depend on this order; others come after them, by name.
NAMES = ("lookup", "count", "exists", "locate", "row", "column", "neighbour", "compare",
         "majority", "transcribe", "matrix")  # fmt: skip


def number_of(instruction: str) -> int:
    """The number (index into `ALL`) of an instruction, given by its name or a choice with options.

    Raises:
        UserError: no such instruction.
    """
    choice = choose(INSTRUCTIONS, instruction)
    if choice not in _NUMBERS:
        new: Instruction = choice.load()()
        new.name = str(choice)
        _NUMBERS[choice] = len(ALL)
        ALL.append(new)
    return _NUMBERS[choice]


def drawing_order(number: int) -> tuple[int, str]:
    """Sort key of an instruction: its turn when the questions of a grid are divided."""
    name = ALL[number].name
    return (NAMES.index(name) if name in NAMES else len(NAMES)), name


for _name in NAMES:
    number_of(_name)
