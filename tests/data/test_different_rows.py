"""The different rows of a table of numbers, against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gpt2v.data.text_pieces import Strings, different_rows


@given(st.data(), st.sampled_from([2, 40, 2**20, 2**40]))
def test_they_are_those_of_numpy(data, most):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=12))
    rows = data.draw(arrays(np.int64, shape, elements=st.integers(0, most)))
    different, which = different_rows(rows)
    theirs, where = np.unique(rows, axis=0, return_inverse=True)
    np.testing.assert_array_equal(different, theirs)
    np.testing.assert_array_equal(which, where.reshape(-1))
    np.testing.assert_array_equal(different[which], rows)


def test_no_rows_and_no_columns():
    for shape in ((0, 3), (0, 0), (4, 0)):
        different, which = different_rows(np.zeros(shape, np.int64))
        assert len(which) == shape[0]
        np.testing.assert_array_equal(different[which], np.zeros(shape))


def test_texts_of_rows_are_those_of_each_row():
    table = Strings()
    rows = np.array(
        [table.ids(["a", " b", ""]), table.ids(["", "c", "d"]), table.ids(["a", " b", ""])]
    )
    assert table.texts(rows) == [table.text(row) for row in rows] == ["a b", "cd", "a b"]
