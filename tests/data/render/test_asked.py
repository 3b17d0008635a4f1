"""Questions as rows of a table: the words, read back, name what the columns say."""

import numpy as np
import pytest

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.instructions import ALL, NAMES
from gpt2v.data.grids.instructions.base import DIRECTIONS
from gpt2v.data.grids.questions import parse_question
from gpt2v.data.grids.samples import NOT_ASKED, draw_samples
from gpt2v.data.render.asked import question_columns
from gpt2v.data.text_pieces import Strings

FIELDS = ("row", "col", "other_row", "other_col", "direction", "object")


@pytest.mark.parametrize("paraphrase", [False, True])
@pytest.mark.parametrize("instruction", NAMES)
def test_the_words_name_what_the_columns_say(instruction, paraphrase, bank):
    spec = GridConfig(
        rows=3, cols=3, instructions={instruction: 1.0}, augment={"paraphrase": paraphrase}
    )
    samples = draw_samples(spec, bank, 0, "train", np.arange(20))
    columns = question_columns(samples, bank.class_names, Strings())
    n = (samples.instruction != NOT_ASKED).sum()
    assert {len(column) for column in columns.values()} == {n}
    grids = {int(index): b for b, index in enumerate(samples.index)}
    for k in range(n):
        base = int(samples.base[grids[columns["sample"][k]]])
        found = parse_question(columns["question"][k], bank.class_names, base)
        assert ALL[found.instruction].name == columns["instruction"][k] == instruction
        named = {name: columns[name][k] for name in FIELDS if columns[name][k] is not None}
        if "object" in named:
            named["object"] = bank.class_names.index(named["object"])
        if "direction" in named:
            named["direction"] = DIRECTIONS.index(f" {named['direction']}")
        assert named.items() <= found.fields.items()
        assert named.keys() == {
            f for f in FIELDS if f"{{{f}}}" in ALL[found.instruction].wordings[0]
        }


def test_questions_come_in_the_order_of_samples_and_slots(bank):
    spec = GridConfig(
        rows=2, cols=2, palette=3, questions=4, instructions={"count": 1, "lookup": 1}
    )
    samples = draw_samples(spec, bank, 0, "train", np.arange(5) + 7)
    columns = question_columns(samples, bank.class_names, Strings())
    assert columns["sample"] == [i for i in range(7, 12) for _ in range(4)]
    assert columns["slot"] == [0, 1, 2, 3] * 5
    kinds = [ALL[n].name for n in samples.instruction.ravel()]
    assert columns["instruction"] == kinds
    for kind, row, what in zip(kinds, columns["row"], columns["object"], strict=True):
        assert (row is None) == (kind == "count")
        assert (what is None) == (kind == "lookup")


def test_the_size_is_that_of_each_grid(bank):
    spec = GridConfig(rows=[1, 3], cols=[2, 4], palette=3, questions=2)
    samples = draw_samples(spec, bank, 0, "train", np.arange(40))
    columns = question_columns(samples, bank.class_names, Strings())
    asked = zip(*(columns[name] for name in ("sample", "rows", "cols")), strict=True)
    sizes = {sample: shape for sample, *shape in asked}
    assert len({tuple(shape) for shape in sizes.values()}) > 4
    for b, index in enumerate(samples.index.tolist()):
        inside = samples.classes[b] >= 0
        assert sizes[index] == [inside.any(1).sum(), inside.any(0).sum()]
