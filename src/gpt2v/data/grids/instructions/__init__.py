"""The registry of instructions: every type of question. A new one is one class in one of these
files, and its name in `ALL`.
"""

from gpt2v.data.grids.instructions.base import Instruction
from gpt2v.data.grids.instructions.cells import Compare, Locate, Lookup, Neighbour
from gpt2v.data.grids.instructions.counting import Count, Exists, Majority
from gpt2v.data.grids.instructions.lines import Column, Row, Transcribe
from gpt2v.errors import UserError

ALL: tuple[Instruction, ...] = (
    Lookup(),
    Count(),
    Exists(),
    Locate(),
    Row(),
    Column(),
    Neighbour(),
    Compare(),
    Majority(),
    Transcribe(),
)
NAMES = tuple(instruction.name for instruction in ALL)


def number_of(name: str) -> int:
    """Index into ALL.

    Raises:
        UserError: there is no such instruction.
    """
    if name not in NAMES:
        raise UserError(f"instructions: {name}: no such instruction; there are {', '.join(NAMES)}")
    return NAMES.index(name)
