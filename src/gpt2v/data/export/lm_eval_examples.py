"""Examples for `lm_eval --num_fewshot K`: solved questions about grids that are never asked about.

They come from another split than the questions. Grids of fewer than nine cells occur in every
split, so a grid that is asked about is left out, too. Each example of an instruction is about a
grid of its own, and the examples are in words: lm_eval gives a model no pictures but those of the
last question.
"""

import json
from collections.abc import Collection
from dataclasses import replace

from gpt2v.data.export.plan import Part
from gpt2v.data.render.examples import Example, Question, examples_of
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.image_files import digest

MOST = 32  # examples of each instruction
_PORTION = 64  # grids that are drawn at once
_LAST = 64 * _PORTION  # grids that are drawn at most, for instructions that are rarely asked

Solved = dict[str, list[tuple[Example, Question]]]  # by instruction


def split_of(part: Part) -> str:
    """The split that the examples of a part come from."""
    return "val" if part.split == "train" else "train"


def content_of(item: Example) -> int:
    """64 bits that tell grids of different cells apart, whatever their palettes are."""
    return digest(json.dumps(item.classes).encode())


def solved(part: Part, bank: TileBank, asked: Collection[str], shown: set[int]) -> Solved:
    """Up to `MOST` examples of each instruction, always the same ones.

    Args:
        asked: the instructions.
        shown: `content_of` the grids that the part asks about.
    """
    data = replace(part.data(bank), split=split_of(part), n=None)
    found: Solved = {name: [] for name in asked}
    seen = set(shown)
    for index in data.portions(_PORTION):
        if index[0] >= _LAST or all(len(examples) == MOST for examples in found.values()):
            break
        for item in examples_of(data.samples(index), part.grid, bank, pictured=False):
            if content_of(item) not in seen:
                seen.add(content_of(item))
                _add(found, item)
    return found


def _add(found: Solved, item: Example) -> None:
    """Add at most one question of each instruction about a grid.

    It is another one from grid to grid, because the first one may be about the same cell always.
    """
    for name, examples in found.items():
        questions = [question for question in item.asked if question.instruction == name]
        if questions and len(examples) < MOST:
            examples.append((item, questions[len(examples) % len(questions)]))
