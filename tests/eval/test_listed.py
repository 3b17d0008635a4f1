"""Cells of answers: which are right, by place; and their rate with its interval."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.eval.listed import listed_cells
from gpt2v.eval.metrics import METRICS, columns_read
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Shared


def table(instruction, truths, said, modality="image", tiles=None, exact=None):
    n = len(truths)
    own = tiles or [list(range(len(t.replace(",", "").replace(";", "").split()))) for t in truths]
    return pa.table(
        {
            "instruction": [instruction] * n,
            "modality": [modality] * n,
            "sample": np.arange(n),
            "content": np.arange(n).astype(np.uint64),
            "truth": truths,
            "generated": said,
            "exact": exact or [t == s for t, s in zip(truths, said, strict=True)],
            "tiles": pa.array(own, pa.list_(pa.int64())),
        }
    )


def right(instruction, truth, said, exact=False):
    cells = listed_cells(table(instruction, [truth], [said], exact=[exact]))
    return cells.right.tolist()


@pytest.mark.parametrize(
    ("instruction", "truth", "said", "expected"),
    [
        ("matrix", "2 0; 1 1", "2 0; 1 1", [1, 1, 1, 1]),
        ("matrix", "2 0; 1 1", "2 1; 1 0", [1, 0, 1, 0]),
        ("matrix", "2 0; 1 1", "2; 1 1", [1, 0, 1, 1]),  # a missing cell stays on its line
        ("matrix", "2 0; 1 1", "2 0 1; 1 1", [1, 1, 1, 1]),  # what is too much does not count
        ("matrix", "2 0; 1 1", "2 0; 1 1; 1 1", [1, 1, 1, 1]),
        ("matrix", "2 0; 1 1", "2 0 1 1", [1, 1, 0, 0]),
        ("matrix", "2 0; 1 1", "[2, 0]\n[1, 1]", [1, 1, 1, 1]),
        ("matrix", "12 0; 1 1", "1 2 0; 1 1", [0, 0, 1, 1]),
        ("matrix", "2 0; 1 1", "", [0, 0, 0, 0]),
        ("matrix", "2 0; 1 1", None, [0, 0, 0, 0]),
        ("transcribe", "cat, sea otter; cat, cat", "cat, otter; Cat, cat.", [1, 0, 1, 1]),
        ("row", "cat, dog, cat", "cat, cat, cat, dog", [1, 0, 1]),
        ("column", "cat, dog, cat", "cat dog, cat", [0, 0, 0]),
        ("column", "cat, dog, cat", "cat, dog, cat…", [1, 1, 1]),  # said, and then cut
        ("column", "cat, dog, cat", "cat, dog…", [1, 1, 0]),
        ("column", "cat, dog, cat", "cat, do…", [1, 0, 0]),
        ("column", "cat, dog, cat", "cat, dog, cat dog…", [1, 1, 0]),
        ("column", "cat, dog, cat", "cat, dog, cat.  …", [1, 1, 1]),
        ("transcribe", "cat, dog; cat, cat", "cat, dog, cat; cat, cat…", [1, 1, 1, 1]),
        ("matrix", "2 0; 1 1", "2 0 1; 1 1…", [1, 1, 1, 1]),
    ],
)  # fmt: skip
def test_a_cell_is_right_where_it_stands(instruction, truth, said, expected):
    assert right(instruction, truth, said) == [bool(one) for one in expected]
    assert all(right(instruction, truth, said, exact=True))


@given(
    st.integers(1, 5), st.integers(1, 5), st.randoms(use_true_random=False), st.floats(0, 1),
)  # fmt: skip
def test_it_counts_the_planted_errors(rows, cols, random, share):
    truth = np.array([[random.randrange(12) for _ in range(cols)] for _ in range(rows)])
    wrong = np.array([[random.random() < share for _ in range(cols)] for _ in range(rows)])
    texts = ["; ".join(" ".join(map(str, line)) for line in m) for m in (truth, truth + wrong)]
    assert right("matrix", *texts) == (~wrong).reshape(-1).tolist()


@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_rate_is_that_of_cells_in_their_pictures(modality):
    """The interval is wider than that of cells which have nothing in common."""
    rng = np.random.default_rng(0)
    n = 150
    good = rng.random(n) < 0.7  # pictures that are read well
    wrong = rng.random((n, 9)) > np.where(good, 0.99, 0.4)[:, None]
    truths = ["0 1 0; 1 0 1; 0 0 0"] * n
    said = []
    for own in wrong:
        cells = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0]) + 2 * own
        said.append("; ".join(" ".join(map(str, line)) for line in cells.reshape(3, 3)))
    tiles = rng.integers(1000, size=(n, 9))
    records = table("matrix", truths, said, modality, tiles.tolist())
    found = METRICS["cell-accuracy"].load()(records)
    assert found["cell_accuracy"] == pytest.approx(1 - wrong.mean())
    assert found["n_cells"] == 9 * n
    clustered = Shared(
        np.repeat(np.arange(n), 9), tiles.reshape(-1, 1) if modality == "image" else None
    )
    flat = ~wrong.reshape(-1)
    assert found["cell_ci95"] == pytest.approx(rate_interval(flat, clustered))
    low, high = rate_interval(flat, Shared(np.arange(9 * n)))
    assert found["cell_ci95"][1] - found["cell_ci95"][0] > 1.5 * (high - low)


def test_answers_that_are_no_lists_have_no_such_rate():
    records = table("lookup", ["cat", "dog"], ["cat", "cat"], tiles=[[1], [2]])
    assert METRICS["cell-accuracy"].load()(records) == {}
    assert {"truth", "generated"} <= set(columns_read(["accuracy", "cell-accuracy"]))


def test_the_end_of_the_text_is_no_part_of_the_last_cell():
    records = pa.table(
        {
            "instruction": ["row"],
            "truth": ["cat, dog"],
            "generated": ["cat, dog<|endoftext|>"],
            "exact": [False],
        }
    )
    assert listed_cells(records).right.tolist() == [True, True]
