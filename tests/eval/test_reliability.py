"""Calibration: equal to a plain loop, and readers whose calibration is known."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.eval.metrics import calibration, columns_read
from gpt2v.eval.reliability import reliability

NAMES = [f"object {n}" for n in range(10)]
TYPES = {"choices": pa.list_(pa.string()), "logprobs": pa.list_(pa.float64())}


def table(rows):
    columns = {"truth": [], "choices": [], "logprobs": []}
    for row in rows:
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return pa.table(
        {name: pa.array(values, TYPES.get(name, pa.string())) for name, values in columns.items()}
    )


def by_hand(rows, n_bins):
    """(ECE, Brier score, questions per bin), question by question."""
    bins = [[] for _ in range(n_bins)]
    squares = []
    for truth, choices, logprobs in rows:
        if not choices:
            continue
        total = sum(math.exp(value) for value in logprobs)
        p = [math.exp(value) / total for value in logprobs]
        best = max(p)
        right = choices[p.index(best)] == truth
        for number in range(n_bins):
            if number / n_bins < best <= (number + 1) / n_bins or (number == 0 and best == 0):
                bins[number].append((best, right))
        squares.append(
            sum((q - (name == truth)) ** 2 for q, name in zip(p, choices, strict=True))
            + (truth not in choices)
        )
    n = sum(map(len, bins))
    ece = sum(
        len(own) / n * abs(sum(c for c, _ in own) / len(own) - sum(r for _, r in own) / len(own))
        for own in bins
        if own
    )
    return ece, sum(squares) / n, [len(own) for own in bins]


@given(seed=st.integers(0, 100_000), n=st.integers(1, 60), n_bins=st.sampled_from([1, 7, 15]))
def test_it_equals_a_plain_loop(seed, n, n_bins):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        size = int(rng.integers(0, 6)) if rows else 3
        choices = [str(name) for name in rng.permutation(NAMES)[:size]]
        logprobs = (rng.normal(-4, 3, size)).tolist()  # need not add up to 1
        pool = choices if choices and rng.random() < 0.9 else NAMES
        rows.append((str(rng.choice(pool)), choices, logprobs))
    found = reliability(table(rows), n_bins)
    ece, brier, n_each = by_hand(rows, n_bins)
    assert found.ece == pytest.approx(ece, abs=1e-12)
    assert found.brier == pytest.approx(brier, abs=1e-12)
    assert found.n.tolist() == n_each
    assert found.n_left_out == sum(not choices for _, choices, _ in rows)


def reader(n, honest, seed=0):
    """Answers of a reader that states a confidence, and is right as often as `honest(it)` says."""
    rng = np.random.default_rng(seed)
    rows = []
    for confidence in rng.uniform(0.5, 1, n):
        p = np.full(4, (1 - confidence) / 3)
        p[0] = confidence
        truth = 0 if rng.random() < honest(confidence) else rng.integers(1, 4)
        scale = rng.normal()  # what the choices have in common changes nothing
        rows.append((NAMES[truth], NAMES[:4], (np.log(p) + scale).tolist()))
    return table(rows)


def test_a_reader_that_is_as_right_as_it_is_sure_has_no_error():
    found = reliability(reader(40_000, lambda confidence: confidence))
    assert found.ece < 0.01
    shown = found.n > 0
    np.testing.assert_allclose(found.accuracy[shown], found.confidence[shown], atol=0.03)


def test_an_over_confident_reader_has_its_known_error():
    found = reliability(reader(40_000, lambda confidence: confidence - 0.2))
    assert found.ece == pytest.approx(0.2, abs=0.01)
    assert (found.confidence > found.accuracy)[found.n > 0].all()


def test_two_bins_by_hand():
    sure = ("a", ["a", "b"], [math.log(0.9), math.log(0.1)])
    wrong = ("b", ["a", "b"], [math.log(0.9), math.log(0.1)])
    unsure = ("a", ["a", "b"], [math.log(0.6), math.log(0.4)])
    found = reliability(table([sure, wrong, unsure]))
    assert found.ece == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.6)) / 3)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.81 + 2 * 0.16) / 3)


def test_questions_without_choices_are_left_out_and_counted():
    rows = [("a", ["a", "b"], [-0.1, -3.0]), ("a b | c", [], [])]
    assert reliability(table(rows)).n_left_out == 1
    assert calibration(table(rows))["n_scored"] == 1
    assert calibration(table(rows[1:])) == {"ece": None, "brier": None, "n_scored": 0}
    assert set(columns_read(["accuracy", "calibration"])) > {"truth", "choices", "logprobs"}


def test_of_equally_likely_choices_the_first_is_the_answer():
    equal = [(truth, ["a", "b"], [-1.0, -1.0]) for truth in ("a", "b", "b")]
    found = reliability(table(equal), 4)
    assert found.n.tolist() == [0, 3, 0, 0]
    assert found.accuracy[1] == pytest.approx(1 / 3)
