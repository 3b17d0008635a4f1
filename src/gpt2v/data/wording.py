"""Wordings: the ways in which one sample may be put into words.

Of each list the first is the task's own, and the only one without augmentation. A sample holds
which of them it takes as numbers, so that its picture and its table are asked about in the same
words. Every piece between the fields of a template begins and ends where the tokenizer's pre-tokens
do, whatever number or name stands beside it.
"""

import numpy as np

from gpt2v.config import AugmentConfig
from gpt2v.data import rng
from gpt2v.data.pieces import PieceTable
from gpt2v.data.rng import Ints

# Between the cells of a table. No white space: a tab, the newline after it and the next line's tab
# are one pre-token, in which a cell's border would be lost.
DELIMITERS = ("|", ",", ";", "/", "&")

# The line after the grid, up to the first name of the palette ...
PROMPTS = (
    "The grid above is size {rows} by {cols}. Each cell contains an object from ['",
    "Above is a grid of size {rows} by {cols}. Every cell holds one of ['",
    "Size of the grid: {rows} by {cols}. What its cells show is taken from ['",
)
# ... and after its last name, for rows and columns that are counted from 0 and from 1.
PALETTE_ENDS = ("'].\n", "']. Rows and columns are counted from 1.\n")

QUESTIONS = (
    "What object is in row {row}, column {col}? A:",
    "Which object stands at row {row}, column {col}? A:",
    "Row {row}, column {col} holds what? A:",
    "Name the object in column {col} of row {row}. A:",
    "Column {col}, row {row}: which object is it? A:",
    "What do you find where row {row} meets column {col}? A:",
)


def draw_wording(augment: AugmentConfig, key: rng.U64, n_questions: int) -> dict[str, Ints]:
    """The fields of `Samples` that say how each of B samples is worded.

    Args:
        key: (B,) one random key per sample.

    Returns:
        base, delimiter and prompt (B,), question (B, n_questions).
    """
    words = rng.bits(key, 3 + n_questions)  # of each field, whatever the others are drawn from
    drawn = {
        "base": words[:, 0],
        "delimiter": words[:, 1],
        "prompt": words[:, 2],
        "question": words[:, 3:],
    }
    choices = _choices(augment)
    return {k: choices[k][rng.below(drawn[k], len(choices[k]))] for k in drawn}


def longest_wording(augment: AugmentConfig, table: PieceTable) -> dict[str, int]:
    """The same fields for the sample that takes the most tokens."""
    spelled = {
        "base": list(PALETTE_ENDS),
        "delimiter": [f" {delimiter}" for delimiter in DELIMITERS],
        "prompt": [prompt.format(rows=1, cols=1) for prompt in PROMPTS],
        "question": [question.format(row=1, col=1) for question in QUESTIONS],
    }
    return {
        name: max(choices.tolist(), key=lambda i: len(table.tokens(spelled[name][i])))
        for name, choices in _choices(augment).items()
    }


def _choices(augment: AugmentConfig) -> dict[str, Ints]:
    """What each field is drawn from."""
    listed = {
        "base": augment.index_bases,
        "delimiter": [DELIMITERS.index(delimiter) for delimiter in augment.delimiters],
        "prompt": range(len(PROMPTS) if augment.paraphrase else 1),
        "question": range(len(QUESTIONS) if augment.paraphrase else 1),
    }
    return {name: np.array(choices, np.int64) for name, choices in listed.items()}
