"""Wordings: the different ways to put one sample into words.

Wordings of questions belong to their instruction. The first wording of each list is the task's own,
and the only one without augmentation. Held-out wordings are never trained on. A sample stores the
numbers of its wordings, so the same words are used for its picture and its table. Every piece
between the fields of a template begins and ends where the tokenizer's pre-tokens do, whatever text
is next to it.

Shapes: B samples of a batch, Q questions about a grid.
"""

from typing import get_args

import numpy as np

from gpt2v.config.grids import AugmentConfig, Delimiter
from gpt2v.data import rng
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.instructions.base import FIELDS
from gpt2v.data.rng import Ints
from gpt2v.data.text_pieces import PieceTable

# Between the cells of a table. None is white space: a tab, the newline after it and the next line's
# tab are one pre-token, in which the border of a cell would be lost.
DELIMITERS: tuple[str, ...] = get_args(Delimiter)

# The line after the grid, up to the first name of the palette ...
PROMPTS = (
    "The grid above is size {rows} by {cols}. Each cell contains an object from ['",
    "Above is a grid of size {rows} by {cols}. Every cell holds one of ['",
    "Size of the grid: {rows} by {cols}. What its cells show is taken from ['",
)
HELD_OUT_PROMPTS = (
    "There is a grid with {rows} rows and {cols} columns. In its cells are some of ['",
)
# ... and after its last name: for rows and columns counted from 0, and counted from 1.
PALETTE_ENDS = ("'].\n", "']. Rows and columns are counted from 1.\n")


def draw_wording(augment: AugmentConfig, key: rng.U64, instruction: Ints) -> dict[str, Ints]:
    """Draw the fields of `Samples` that say how each of B samples is worded.

    Args:
        key: (B,) one random key per sample.
        instruction: (B, Q) instruction of each question, an index into ALL.

    Returns:
        base, delimiter and prompt (B,), question (B, Q).
    """
    words = rng.bits(key, 3 + instruction.shape[1])
    drawn = {"base": words[:, 0], "delimiter": words[:, 1], "prompt": words[:, 2]}
    choices = _choices(augment)
    wording = {k: choices[k][rng.below(drawn[k], len(choices[k]))] for k in drawn}
    first, count = (np.array(column)[instruction] for column in _question_choices(augment))
    return {**wording, "question": first + rng.below(words[:, 3:], count)}


def longest_wording(augment: AugmentConfig, table: PieceTable, number: int) -> dict[str, int]:
    """The fields of `draw_wording` that give the most tokens.

    Args:
        number: the one instruction of all questions, an index into ALL.
    """
    fill = dict.fromkeys(FIELDS, "1")
    spelled = {
        "base": list(PALETTE_ENDS),
        "delimiter": [f" {delimiter}" for delimiter in DELIMITERS],
        "prompt": [prompt.format(rows=1, cols=1) for prompt in PROMPTS + HELD_OUT_PROMPTS],
        "question": [question.format(**fill) for question in ALL[number].every_wording],
    }
    first, count = (column[number] for column in _question_choices(augment))
    choices = {**_choices(augment), "question": np.arange(first, first + count)}
    return {
        name: max(listed.tolist(), key=lambda i: len(table.tokens(spelled[name][i])))
        for name, listed in choices.items()
    }


def _choices(augment: AugmentConfig) -> dict[str, Ints]:
    """The values that each field of a sample is drawn from."""
    n = len(PROMPTS)
    prompts = range(n if augment.paraphrase else 1)
    if augment.held_out:
        prompts = range(n, n + len(HELD_OUT_PROMPTS))
    listed = {
        "base": augment.index_bases,
        "delimiter": [DELIMITERS.index(delimiter) for delimiter in augment.delimiters],
        "prompt": prompts,
    }
    return {name: np.array(choices, np.int64) for name, choices in listed.items()}


def _question_choices(augment: AugmentConfig) -> tuple[list[int], list[int]]:
    """For each instruction, the first wording that may be drawn, and the number of them."""
    if augment.held_out:
        return [len(i.wordings) for i in ALL], [len(i.held_out) for i in ALL]
    return [0] * len(ALL), [len(i.wordings) if augment.paraphrase else 1 for i in ALL]
