"""Read a question back: which instruction it is, in which wording, and about what.

It is the inverse of `render.text.question_pieces`, and uses the same wordings.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from gpt2v.data.grids.instructions import ALL, number_of
from gpt2v.data.grids.instructions.base import DIRECTIONS, FIELDS
from gpt2v.data.grids.samples import Samples
from gpt2v.errors import UserError
from gpt2v.messages import shown

ANSWER = " A:"  # the end of every question


@dataclass(frozen=True)
class Parsed:
    """One question.

    Attributes:
        instruction: its number, the index into ALL.
        wording: index into the instruction's `every_wording`.
        fields: the fields that it names, see `FIELDS`; rows and columns are counted from 0.
    """

    instruction: int
    wording: int
    fields: dict[str, int]


def parse_question(text: str, class_names: Sequence[str], base: int = 0) -> Parsed | None:
    """The question with these words; None: no wording of any instruction has them.

    Args:
        text: with or without its `A:`; white space is not compared.
        class_names: the objects that a question may name, by class.
        base: number of the first row and column in words.
    """
    words = " ".join(text.split())
    words = words if words.endswith(ANSWER) else words + ANSWER
    for number, instruction in enumerate(ALL):
        for wording, template in enumerate(instruction.every_wording):
            if found := _pattern(template, tuple(class_names)).fullmatch(words):
                fields = {
                    name: _value(name, value, class_names, base)
                    for name, value in found.groupdict().items()
                }
                return Parsed(number, wording, instruction.completed(fields))
    return None


def asked(
    samples: Samples, texts: Sequence[str], class_names: Sequence[str], known: Iterable[str]
) -> Samples:
    """The same grid with these questions.

    Args:
        samples: one grid.
        class_names: of all objects.
        known: names of the instructions that a message lists.

    Raises:
        UserError: no instruction has these words, or the grid has no such row, column or object.
    """
    base = int(samples.base[0])
    parsed = []
    for text in texts:
        question = parse_question(text, class_names, base)
        if question is None:
            raise UserError(f"question: {shown(text)} is no question it knows; {forms(known)}")
        _check_cells(question, samples, base)
        parsed.append(question)
    values: dict[str, Any] = {
        name: np.array([[question.fields.get(name, 0) for question in parsed]], np.int64)
        for name in FIELDS
    }
    values["instruction"] = np.array([[question.instruction for question in parsed]], np.int64)
    values["question"] = np.array([[question.wording for question in parsed]], np.int64)
    return replace(samples, **values)


def forms(instructions: Iterable[str]) -> str:
    """All wordings of some instructions, in one line."""
    listed = [words for name in instructions for words in ALL[number_of(name)].every_wording]
    return "ask one of: " + " | ".join(words.removesuffix(ANSWER) for words in listed)


def _check_cells(question: Parsed, samples: Samples, base: int) -> None:
    for name, size in (("row", int(samples.rows[0])), ("col", int(samples.cols[0]))):
        for key in (name, f"other_{name}"):
            value = question.fields.get(key, 0)
            if not 0 <= value < size:
                kind = {"row": "row", "col": "column"}[name]
                raise UserError(
                    f"question: there is no {kind} {value + base}; the grid has {kind}s {base} to "
                    f"{size - 1 + base}"
                )


@lru_cache(maxsize=1024)
def _pattern(template: str, class_names: tuple[str, ...]) -> re.Pattern[str]:
    """A regular expression for a wording, with one group for each field."""
    kinds = {"object": class_names, "direction": tuple(d.strip() for d in DIRECTIONS)}
    parts = re.split(r"\{(\w+)\}", template)
    pattern = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            pattern += re.escape(part)
        elif part in kinds:
            longest_first = sorted(kinds[part], key=len, reverse=True)
            pattern += f"(?P<{part}>{'|'.join(map(re.escape, longest_first))})"
        else:
            pattern += f"(?P<{part}>[0-9]{{1,9}})"
    return re.compile(pattern)


def _value(name: str, text: str, class_names: Sequence[str], base: int) -> int:
    if name == "object":
        return list(class_names).index(text)
    if name == "direction":
        return [direction.strip() for direction in DIRECTIONS].index(text)
    return int(text) - base
