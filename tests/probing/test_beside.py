"""Decoders beside the model: signed paired differences, and what the whole family agrees on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.config.sites import Site
from gpt2v.probing.answered import Answered
from gpt2v.probing.beside import agreed, at_site, beside

K, SITE = 4, Site("vision", 2)


def reader(truth, share, seed):
    rng = np.random.default_rng(seed)
    other = (truth + rng.integers(1, K, truth.shape)) % K
    return np.where(rng.random(truth.shape) < share, truth, other)


def answers(n=200, image=0.9, text=0.99):
    truth = np.random.default_rng(0).integers(0, K, (n, 2, 2))
    said, read = reader(truth, image, 1), reader(truth, text, 2)
    tiles = np.arange(truth.size).reshape(truth.shape)
    return Answered(truth, said, said, read, np.ones((n, K), bool), np.arange(n), tiles, "abcd")


def family(answered, *shares):
    return {f"d{i}": reader(answered.truth, s, 10 + i) for i, s in enumerate(shares)}


def test_rows_are_paired_differences_of_plain_rates():
    answered = answers()
    decoded = family(answered, 0.95, 0.8, 0.9)
    rows = {row["decoder"]: row for row in beside(answered, {SITE: decoded})}
    assert list(rows) == ["d0", "d1", "d2", "any", "majority"]
    for name, own in decoded.items():
        row, right = rows[name], own == answered.truth
        assert (row["site"], row["layer"]) == ("vision", 2)
        assert row["palette_accuracy"] == pytest.approx(right.mean())
        assert row["model_accuracy"] == pytest.approx((answered.said == answered.truth).mean())
        assert row["difference"] == pytest.approx(row["palette_accuracy"] - row["model_accuracy"])
        assert row["below_text"] == pytest.approx(row["text_accuracy"] - row["palette_accuracy"])
        assert row["ci95"][0] < row["difference"] < row["ci95"][1]
        assert (row["ci95"][0] <= 0 <= row["ci95"][1]) == (row["p"] > 0.05)
        assert row["p"] <= row["p_holm"] <= 5 * row["p"]
        assert (row["n_images"], row["n_questions"]) == (200, 800)
    assert rows["d0"]["ci95"][0] > 0 > rows["d1"]["ci95"][1]
    right = np.stack([own == answered.truth for own in decoded.values()])
    assert rows["any"]["palette_accuracy"] == pytest.approx(right.any(0).mean())
    assert rows["majority"]["palette_accuracy"] > 0.9


def test_a_majority_and_a_tie():
    answered = answers(n=1)
    truth = answered.truth
    wrong = (truth + 1) % K
    most = beside(answered, {SITE: {"a": wrong, "b": truth, "c": truth}})
    assert most[-1]["palette_accuracy"] == 1.0
    tied = beside(answered, {SITE: {"a": wrong, "b": truth}})
    assert tied[-1]["palette_accuracy"] == 0.0
    (alone,) = beside(answered, {SITE: {"a": wrong}})
    assert alone["decoder"] == "a"
    assert beside(answered, {}) == []


@pytest.mark.parametrize(
    ("shares", "reading", "encoder"),
    [
        ((0.97, 0.96), 1, 0),
        ((0.7, 0.75), -1, 1),
        ((0.97, 0.7), 0, 1),
        ((0.97, 0.9), 0, 1),
    ],
)
def test_a_sign_needs_every_decoder(shares, reading, encoder):
    answered = answers(text=0.97) if encoder == 0 else answers(text=0.999)
    rows = beside(
        answered, {SITE: family(answered, *shares), Site("pixels"): family(answered, 0.3)}
    )
    own = at_site(rows, SITE.name, SITE.layer)
    assert [row["decoder"] for row in own] == list(family(answered, *shares))
    each = [row["difference"] for row in own]
    after = agreed(each, [row["ci95"] for row in own])
    assert after == (min(each), max(each), reading)
    before = agreed([row["below_text"] for row in own], [row["below_text_ci95"] for row in own])
    assert before[2] == encoder
    assert len(at_site(rows, "pixels", None)) == 1
    assert at_site(rows, "vision", 99) == []


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 0.5)), min_size=1, max_size=5))
def test_one_interval_with_zero_is_enough_for_no_sign(pairs):
    values = [value for value, _ in pairs]
    intervals = [(value - half, value + half) for value, half in pairs]
    low, high, sign = agreed(values, intervals)
    assert low == min(values) <= max(values) == high
    holds_zero = any(a <= 0 <= b for a, b in intervals)
    both = any(a > 0 for a, _ in intervals) and any(b < 0 for _, b in intervals)
    assert (sign == 0) == (holds_zero or both)
    if sign:
        assert all(value * sign > 0 for value in values)
