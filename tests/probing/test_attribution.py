"""Every wrong answer has one category; displacements and confusions equal plain counts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.probing.answered import NO_CLASS, Answered, classes_said
from gpt2v.probing.attribution import WHAT, WHY, attribute, share_rows, what, why

K, LISTED = 5, 3


def drawn(seed, n=12, rows=2, cols=3, wrong=0.5):
    """Random answers of random readers, and two decoders."""
    rng = np.random.default_rng(seed)
    shape = (n, rows, cols)
    palette = rng.permuted(np.tile(np.arange(K), (n, 1)), axis=1)[:, :LISTED]
    listed = np.zeros((n, K), bool)
    np.put_along_axis(listed, palette, True, axis=1)
    truth = palette[np.arange(n)[:, None, None], rng.integers(0, LISTED, shape)]

    def read():
        return np.where(rng.random(shape) < wrong, rng.integers(NO_CLASS, K, shape), truth)

    tiles = truth * 4 + rng.integers(0, 4, shape)
    names = [f"class {k}" for k in range(K)]
    said = read()
    likeliest = np.where(said == NO_CLASS, truth, said)
    answered = Answered(truth, said, likeliest, read(), listed, np.arange(n), tiles, names)
    return answered, {"ridge": read(), "knn": read()}


cases = st.builds(
    drawn,
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
)


@given(cases)
def test_every_wrong_answer_is_in_one_category(case):
    answered, family = case
    places = list(answered.displacements())[:2]
    for numbers, names in ((why(answered, family), WHY), (what(answered, places), WHAT)):
        assert ((numbers == -1) == answered.right).all()
        assert set(numbers.tolist()) <= set(range(-1, len(names)))


@given(cases)
def test_shares_add_up_to_one_and_lie_in_their_intervals(case):
    answered, family = case
    sums = Counter()
    for row in share_rows(answered, family, []):
        sums[row["of"], row["by"]] += row["share"]
        low, high = row["ci95"]
        assert 0 <= low <= row["share"] <= high <= 1
        assert row["n"] == pytest.approx(row["share"] * row["n_of"])
    assert list(sums.values()) == pytest.approx([1.0] * len(sums))
    assert (("wrong", "why") in sums) == bool((~answered.right).any())


@given(cases, st.randoms(use_true_random=False))
def test_the_order_of_the_grids_changes_nothing(case, random):
    answered, family = case
    order = np.array(random.sample(range(answered.n_images), answered.n_images))
    arrays = ("truth", "said", "likeliest", "text", "listed", "index", "tiles")
    turned = replace(answered, **{name: getattr(answered, name)[order] for name in arrays})
    one = attribute(answered, family)
    other = attribute(turned, {name: own[order] for name, own in family.items()})
    for name, rows in one.items():
        assert len(rows) == len(other[name])
        for row, again in zip(rows, other[name], strict=True):
            for key, value in row.items():
                same = pytest.approx(value, abs=1e-9) if key[:2] != "of" else value
                assert again[key] == (value if isinstance(value, str) else same)


@pytest.mark.parametrize("seed", range(3))
def test_reasons_equal_a_plain_count(seed):
    answered, family = drawn(seed)
    counts = Counter()
    for place in np.ndindex(answered.truth.shape):
        true = answered.truth[place]
        if answered.said[place] == true:
            continue
        if answered.text[place] != true:
            counts["text-fails-too"] += 1
        elif any(own[place] == true for own in family.values()):
            counts["found-misread"] += 1
        else:
            counts["not-found"] += 1
    rows = share_rows(answered, family, [])
    found = {row["category"]: row["n"] for row in rows if row["by"] == "why"}
    assert found == dict(counts)


@pytest.mark.parametrize("seed", range(3))
def test_displacements_and_confusions_equal_plain_counts(seed):
    answered, family = drawn(seed)
    n, n_rows, n_cols = answered.truth.shape
    asked, hits, pairs, of_pair = Counter(), Counter(), Counter(), Counter()
    for g, r, c in np.ndindex(n, n_rows, n_cols):
        true, said = answered.truth[g, r, c], answered.said[g, r, c]
        if said in (true, NO_CLASS) or not answered.listed[g, said]:
            continue
        pairs[true, said] += 1
        for k in np.flatnonzero(answered.listed[g]):
            of_pair[true, k] += 1
        for y, x in np.ndindex(n_rows, n_cols):
            if (there := answered.truth[g, y, x]) != true:
                asked[y - r, x - c] += 1
                hits[y - r, x - c] += said == there
    found = attribute(answered, family)
    rows = {(row["down"], row["right"]): row for row in found["displacements"]}
    assert {place: row["n_questions"] for place, row in rows.items()} == dict(asked)
    for place, row in rows.items():
        assert row["share"] == pytest.approx(hits[place] / asked[place])
        assert row["expected"] == pytest.approx(1 / (LISTED - 1))
        assert row["excess"] == pytest.approx(row["share"] - row["expected"])
        assert row["p"] <= row["p_holm"] <= 1
    names = answered.names
    confused = {(row["truth"], row["said"]): row for row in found["confusions"]}
    assert len(confused) == len(pairs)
    for (true, said), count in pairs.items():
        row = confused[names[true], names[said]]
        assert row["n_questions"] == of_pair[true, said]
        assert row["share"] == pytest.approx(count / of_pair[true, said])


def test_what_is_not_listed_and_a_wrong_cell():
    truth = np.array([[[0, 1, 2]]])
    listed = np.array([[True, True, True, False]])
    said = np.array([[[3, 2, NO_CLASS]]])
    one = Answered(
        truth, said, truth, truth, listed, np.arange(1), np.arange(3).reshape(1, 1, 3), "abcd"
    )
    assert [WHAT[i] for i in what(one, [])] == ["not-listed", "wrong-object", "not-listed"]
    assert [WHAT[i] for i in what(one, [(0, 1)])] == ["not-listed", "wrong-cell", "not-listed"]
    assert [WHAT[i] for i in what(one, [(0, -1)])] == ["not-listed", "wrong-object", "not-listed"]
    rows = {row["category"]: row["share"] for row in share_rows(one, {"a": truth}, [])}
    assert rows["found-misread"] == rows["likeliest-right"] == 1.0


def test_words_become_classes():
    names = ["bird", "cat"]
    truth = np.array([0, 0, 0, 1, 1])
    words = ["bird", "bird", "cat", "cattle", " cat\n"]
    exact = np.array([True, False, False, False, False])
    expected = [0, NO_CLASS, 1, NO_CLASS, NO_CLASS]
    assert classes_said(words, exact, truth, names).tolist() == expected
