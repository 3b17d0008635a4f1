"""Accuracy by key: equal to plain counts, and a planted weakness is found where it is."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.errors import UserError
from gpt2v.eval.breakdown import KEYS, accuracy_by, series_in
from gpt2v.eval.metrics import shared_in_parts
from gpt2v.stats.intervals import rate_interval

OBJECTS = [f"object {n}" for n in range(12)]


def table(n=400, seed=0, modality="image", wrong=lambda row: False, rate=1.0, **columns):
    """Records of grids of several sizes and palettes, with four questions about each."""
    rng = np.random.default_rng(seed)
    rows = []
    for sample in range(n):
        size = int(rng.choice([2, 3, 10]))
        palette = OBJECTS[: rng.integers(3, 11)]
        for slot in range(4):
            tile = int(rng.integers(500))
            row = {"rows": size, "cols": size + 1, "palette": palette, "slot": slot}
            row |= {"model": "gpt2v", "modality": modality, "sample": sample, "content": sample}
            row |= {"instruction": ["lookup", "count"][slot % 2], "row": 0, "col": 0}
            right = not wrong(row) and bool(rng.random() < rate)
            rows.append({**row, "tiles": [tile], "exact": right, **columns})
    schema = {"content": pa.uint64()}
    made = pa.Table.from_pylist(rows)
    for name, kind in schema.items():
        made = made.set_column(made.column_names.index(name), name, made[name].cast(kind))
    return made


VALUE = {  # written here without numpy
    "size": lambda row: f"{row['rows']}x{row['cols']}",
    "palette": lambda row: str(len(row["palette"])),
    "instruction": lambda row: row["instruction"],
    "question": lambda row: str(row["slot"]),
}


@given(seed=st.integers(0, 10_000), rate=st.floats(0, 1), key=st.sampled_from(sorted(KEYS)))
def test_rates_are_those_of_a_plain_count(seed, rate, key):
    records = table(20, seed, rate=rate)
    counted = {}
    for row in records.to_pylist():
        counted.setdefault(VALUE[key](row), []).append(row["exact"])
    groups = accuracy_by(records, key)
    assert {group.value: group.n_questions for group in groups} == {
        value: len(rights) for value, rights in counted.items()
    }
    for group in groups:
        rights = counted[group.value]
        assert group.accuracy == pytest.approx(sum(rights) / len(rights))
        assert group.ci[0] <= group.accuracy <= group.ci[1]


def test_values_are_in_the_order_of_their_size():
    records = table()
    assert [group.value for group in accuracy_by(records, "size")] == ["2x3", "3x4", "10x11"]
    assert [group.value for group in accuracy_by(records, "palette")] == list(
        map(str, range(3, 11))
    )


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_planted_weakness_is_found_where_it_is_and_nowhere_else(modality):
    rng = np.random.default_rng(3)
    records = table(
        rate=0.95,
        modality=modality,
        wrong=lambda row: row["slot"] == 2 and rng.random() < 0.3,
    )
    of = {group.value: group for group in accuracy_by(records, "question")}
    assert of["2"].ci[1] < min(of[slot].ci[0] for slot in "013")
    sizes = accuracy_by(records, "size")
    assert max(group.ci[0] for group in sizes) < min(group.ci[1] for group in sizes)


def test_the_same_grids_in_two_parts_are_no_new_grids():
    one = table(60, rate=0.9)
    two = pa.concat_tables(
        [one.append_column("part", pa.array([part] * len(one))) for part in ("a", "b")]
    )
    groups = accuracy_by(two, "instruction")
    for group in groups:
        here = one.filter(pa.array(one["instruction"].to_numpy() == group.value))
        right = np.tile(here["exact"].to_numpy(), 2)
        assert group.ci == pytest.approx(rate_interval(right, shared_in_parts([here, here])))
        (alone,) = (g for g in accuracy_by(one, "instruction") if g.value == group.value)
        assert group.ci[1] - group.ci[0] > 0.95 * (alone.ci[1] - alone.ci[0])


def test_series_are_taken_apart():
    both = pa.concat_tables([table(5), table(5, modality="text")])
    found = series_in(both)
    assert list(found) == [("gpt2v", "image"), ("gpt2v", "text")]
    assert found["gpt2v", "text"].equals(table(5, modality="text"))


def test_a_key_or_a_column_that_is_not_there_is_named():
    with pytest.raises(UserError, match="by: colour: no such key; there are size, palette"):
        accuracy_by(table(2), "colour")
    with pytest.raises(UserError, match="by: size: the records have no column 'cols'"):
        accuracy_by(table(2).drop_columns(["cols"]), "size")
