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
from gpt2v.data.grids.numbering import MOST, numbering_of
from gpt2v.data.grids.samples import Samples
from gpt2v.errors import UserError
from gpt2v.messages import shown

ANSWER = " A:"  # the end of every question
_IS, _NEXT = " = ", ", "  # in a numbering


@dataclass(frozen=True)
class Parsed:
    """One question.

    Attributes:
        instruction: its number, the index into ALL.
        wording: index into the instruction's `every_wording`.
        fields: the fields that it names, see `FIELDS`; rows and columns are counted from 0. Not
            `numbering`, which depends on the palette.
        numbers: the objects (classes) that it numbers, each with its number.
    """

    instruction: int
    wording: int
    fields: dict[str, int]
    numbers: tuple[tuple[int, int], ...] = ()


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
                named = found.groupdict()
                numbers = _numbers(named.pop("numbering", ""), class_names)
                fields = {
                    name: _value(name, value, class_names, base) for name, value in named.items()
                }
                return Parsed(number, wording, instruction.completed(fields), numbers)
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
    numberings = []
    for text in texts:
        question = parse_question(text, class_names, base)
        if question is None:
            raise UserError(f"question: {shown(text)} is no question it knows; {forms(known)}")
        _check_cells(question, samples, base)
        parsed.append(question)
        numberings.append(_numbering(question, samples, class_names))
    values: dict[str, Any] = {
        name: np.array([[question.fields.get(name, 0) for question in parsed]], np.int64)
        for name in FIELDS
    }
    values["numbering"] = np.array([numberings], np.int64)
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


def _numbering(question: Parsed, samples: Samples, class_names: Sequence[str]) -> int:
    """The numbering of a question; 0 if it has none."""
    if not question.numbers:
        return 0
    palette = [label for label in samples.palette[0].tolist() if label >= 0]
    given = dict(question.numbers)
    if (
        len(question.numbers) > min(len(palette), MOST)
        or set(given) != set(palette)
        or set(given.values()) != set(range(len(palette)))
    ):
        names = ", ".join(class_names[label] for label in palette)
        raise UserError(
            f"question: must give the objects of the grid ({names}) the numbers from 0 to "
            f"{len(palette) - 1}, one each; at most {MOST} objects can be numbered"
        )
    listed = np.array([palette])
    return int(numbering_of(np.array([[given[label] for label in palette]]), listed)[0])


def _numbers(text: str, class_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The classes and numbers in `bird = 1, cat = 0`; none in an empty text."""
    pairs = [part.rpartition(_IS) for part in text.split(_NEXT)] if text else []
    return tuple((list(class_names).index(name), int(number)) for name, _, number in pairs)


@lru_cache(maxsize=1024)
def _pattern(template: str, class_names: tuple[str, ...]) -> re.Pattern[str]:
    """A regular expression for a wording, with one group for each field."""
    longest_first = sorted(class_names, key=len, reverse=True)
    name = f"(?:{'|'.join(map(re.escape, longest_first))})"
    numbered = f"{name}{_IS}[0-9]{{1,9}}"
    kinds = {
        "object": name,
        "direction": "|".join(direction.strip() for direction in DIRECTIONS),
        "numbering": f"{numbered}(?:{_NEXT}{numbered})*",
    }
    parts = re.split(r"\{(\w+)\}", template)
    pattern = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P<{part}>{kinds.get(part, '[0-9]{1,9}')})"
    return re.compile(pattern)


def _value(name: str, text: str, class_names: Sequence[str], base: int) -> int:
    if name == "object":
        return list(class_names).index(text)
    if name == "direction":
        return [direction.strip() for direction in DIRECTIONS].index(text)
    return int(text) - base
