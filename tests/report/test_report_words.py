"""Numbers in words, and how answers are counted."""

import numpy as np

from gpt2v.report.analysis import UNSPELT, confusion
from gpt2v.report.words import counted, counted_range, interval, points


def test_numbers_in_words():
    assert (counted(1, "grid"), counted(9000, "question")) == ("1 grid", "9,000 questions")
    assert counted_range([96, 1040, 100], "question") == "96 to 1,040 questions"
    assert counted_range([1], "grid") == "1 grid"
    assert (interval((0.95, 0.9999)), interval(None)) == ("95.0% to 99.99%", "")
    assert (points(-0.0171), points(-0.0001)) == ("\N{MINUS SIGN}1.7", "0.0")


def test_each_answer_is_counted_once():
    """Exact, another name, the right name that is not written, and none at all."""
    table = {
        "truth": np.array(["cat", "cat", "cat", "dog"], object),
        "prediction": np.array(["cat", "cow", "cat", None], object),
        "exact": np.array([True, False, False, False]),
    }
    found = confusion(table, ["cat", "cow", "dog"])
    assert (found.truths, found.answers) == (["cat", "dog"], ["cat", "cow", "dog", UNSPELT])
    assert found.counts.tolist() == [[1, 1, 0, 1], [0, 0, 0, 1]]
    assert found.wrong.tolist() == [[False, True, True, True], [True, True, False, True]]
