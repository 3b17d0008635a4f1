"""Questions are read back: every instruction, every wording, rows from 0 and from 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.grids import AugmentConfig, GridConfig
from gpt2v.data.grids.instructions import ALL, NAMES
from gpt2v.data.grids.instructions.base import FIELDS
from gpt2v.data.grids.questions import asked, forms, parse_question
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.text import answer_pieces, question_pieces
from gpt2v.data.text_pieces import Strings
from gpt2v.errors import UserError


def drawn(bank, name, seed=0, base=0, held_out=False, size=3):
    augment = AugmentConfig(paraphrase=True, held_out=held_out, index_bases=[base])
    spec = GridConfig(rows=size, cols=size, instructions={name: 1.0}, augment=augment)
    return draw_samples(spec, bank, seed, "test", np.arange(1))


def words_of(samples, bank):
    strings = Strings()
    pieces = question_pieces(samples, bank.class_names, strings)
    return [strings.text(row) for row in pieces[0]]


def answers_of(samples, bank):
    strings = Strings()
    return [strings.text(row) for row in answer_pieces(samples, bank.class_names, strings)[0]]


@given(
    st.sampled_from(NAMES), st.integers(0, 99), st.sampled_from([0, 1]), st.booleans(),
    st.integers(2, 5),
)  # fmt: skip
def test_a_question_is_read_back(bank, name, seed, base, held_out, size):
    samples = drawn(bank, name, seed, base, held_out, size)
    again = asked(samples, words_of(samples, bank), bank.class_names, NAMES)
    for field in ("instruction", "question", *FIELDS):
        np.testing.assert_array_equal(getattr(again, field), getattr(samples, field), field)
    assert answers_of(again, bank) == answers_of(samples, bank)


@pytest.mark.parametrize("name", NAMES)
def test_every_wording_is_read_back(bank, name):
    """Whatever the draws are: the wording is set by hand, of a name with several words, too."""
    names = ("sea otter", "otter", "sea", *bank.class_names[3:])
    fields = {
        "row": 1, "col": 2, "other_row": 0, "other_col": 2, "direction": "above",
        "object": "sea otter", "numbering": "sea = 1, sea otter = 2, otter = 0",
    }  # fmt: skip
    for wording, template in enumerate(ALL[NAMES.index(name)].every_wording):
        parsed = parse_question(template.format(**fields), names)
        assert parsed is not None, template
        assert (parsed.instruction, parsed.wording) == (NAMES.index(name), wording)
        plain = {**fields, "direction": 2, "object": 0}
        assert parsed.fields == {key: plain[key] for key in parsed.fields}, template
        assert parsed.numbers == (((2, 1), (0, 2), (1, 0)) if name == "matrix" else ())


def test_white_space_and_the_ending_do_not_matter(bank):
    names = bank.class_names
    whole = parse_question("What object is in row 0, column 1? A:", names)
    assert whole is not None
    assert parse_question("  What object is in\trow 0,  column 1?\n", names) == whole


@pytest.mark.parametrize(
    ("words", "base", "says"),
    [
        ("What is it?", 0, ["question: 'What is it?' is no question it knows; ask one of: "]),
        ("How many cells hold the object zebra?", 0, ["is no question it knows"]),
        ("What objects are in row 3?", 0, ["there is no row 3; the grid has rows 0 to 2"]),
        ("What objects are in column 0?", 1, ["no column 0; the grid has columns 1 to 3"]),
        ("What object is directly above row 0, column 1?", 0, ["there is no row -1"]),
        ("Read the whole grid as numbers with zebra = 0.", 0, ["is no question it knows"]),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(bank, words, base, says):
    with pytest.raises(UserError) as error:
        asked(drawn(bank, "lookup", base=base), [words], bank.class_names, ["lookup"])
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in says)


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_a_numbering_is_read_in_any_order(bank, order, numbers):
    """The words of the answer follow from it."""
    samples = drawn(bank, "matrix")
    names = [bank.class_names[label] for label in samples.palette[0]]
    said = ", ".join(f"{names[i]} = {numbers[i]}" for i in order)
    again = asked(samples, [f"Read the whole grid as numbers with {said}."], bank.class_names, [])
    grid = [[numbers[names.index(bank.class_names[c])] for c in row] for row in samples.classes[0]]
    said = "; ".join(" ".join(map(str, row)) for row in grid)
    assert answers_of(again, bank) == [f" {said}\n"]


@pytest.mark.parametrize("change", [(0, 4), (0, 1), ("again", 0), ("less", 0), ("another", 0)])
def test_a_numbering_of_other_objects_or_numbers_is_one_line(bank, change):
    samples = drawn(bank, "matrix")
    names = [bank.class_names[label] for label in samples.palette[0]]
    numbers = [[name, number] for number, name in enumerate(names)]
    what, number = change
    if what == 0:
        numbers[0][1] = number
    elif what == "again":
        numbers.append(numbers[0])
    elif what == "less":
        del numbers[-1]
    else:
        numbers[0][0] = next(name for name in bank.class_names if name not in names)
    said = ", ".join(f"{name} = {number}" for name, number in numbers)
    with pytest.raises(UserError, match=r"must give the objects of the grid \(.*\) the numbers"):
        asked(samples, [f"Read the whole grid as numbers with {said}."], bank.class_names, [])


def test_the_forms_hold_the_paraphrases():
    listed = forms(["lookup", "count"]).removeprefix("ask one of: ").split(" | ")
    wanted = [*ALL[0].every_wording, *ALL[1].every_wording]
    assert [f"{words} A:" for words in listed] == wanted
