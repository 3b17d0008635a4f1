"""Planted faults are named and nothing else is; a sound model gets no name."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.probing.answered import Answered
from gpt2v.probing.attribution import attribute
from gpt2v.probing.diagnoses import NAMES, attributed, diagnose
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

import diagnoses as bench


@pytest.mark.parametrize("fault", bench.SOUND)
@pytest.mark.parametrize("error", bench.ERRORS)
def test_a_sound_model_is_not_blamed(fault, error):
    """`bench/diagnoses.py` has more repetitions."""
    assert bench.measured(bench.Cell(fault, 0.0, error, 300), 60).found >= 0.95


@pytest.mark.parametrize("fault", bench.EXPECTED)
@pytest.mark.parametrize(("size", "grids"), [(0.1, 1000), (0.3, 300), (1.0, 300)])
def test_a_planted_fault_is_named_and_nothing_else(fault, size, grids):
    cell = bench.measured(bench.Cell(fault, size, 0.02, grids), 8)
    assert cell.found == 1.0
    assert cell.other <= 1 / 8


def test_weak_faults_of_a_class_are_no_others():
    """Too small to be found, they may have no name, but not a wrong one."""
    for fault in ("swap", "reading", "encoder"):
        cell = bench.measured(bench.Cell(fault, 0.03, 0.02, 300), 12)
        assert cell.found < 0.5
        assert cell.other <= 1 / 12


def mirrored(seed=0):
    """A model that reads each row from the right."""
    answered, family = bench.simulated(bench.Cell("none", 0.0, 0.02, 300), seed)
    return replace(answered, said=answered.truth[:, :, ::-1]), family


def test_two_neighbours_of_a_row_are_no_ignored_columns():
    rows = diagnose(*mirrored())
    assert {(row["down"], row["right"]) for row in rows} == {(0, 2), (0, -2)}
    assert {row["diagnosis"] for row in rows} == {"reads-neighbour"}
    for row in rows:
        low, high = row["ci95"]
        assert 0 < low <= row["excess"] <= high
        assert row["excess"] == pytest.approx(2 / 3)


def test_every_neighbour_of_a_turned_grid_is_named():
    answered, family = mirrored()
    turned = replace(answered, said=answered.truth.swapaxes(1, 2))
    rows = diagnose(turned, family)
    places = {(row["down"], row["right"]) for row in rows}
    assert places == {(1, -1), (2, -2), (-1, 1), (-2, 2)}


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3))
def test_few_grids_of_any_shape_are_diagnosed(seed, n, rows, cols):
    rng = np.random.default_rng(seed)
    shape, listed = (n, rows, cols), np.zeros((n, 4), bool)
    listed[:, : rng.integers(1, 5)] = True
    n_listed = int(listed[0].sum())
    truth, read = rng.integers(0, n_listed, shape), rng.integers(-1, 4, shape)
    tiles = rng.integers(0, 5, shape)
    answered = Answered(truth, read, read, truth, listed, np.arange(n), tiles, "abcd")
    found = attributed(answered, {"ridge": rng.integers(0, n_listed, shape)})
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = [row["diagnosis"] for row in found["diagnoses"]]
    assert names
    assert ("none" not in names) or names == ["none"]


def test_wrong_cells_are_counted_where_a_neighbour_is_read():
    answered, family = bench.simulated(bench.Cell("left", 0.5, 0.02, 300), 1)
    rows = {
        (row["of"], row["category"]): row
        for row in attribute(answered, family)["shares"]
        if row["by"] == "what"
    }
    assert rows["wrong", "wrong-cell"]["share"] > 0.9
    assert rows["misread", "wrong-cell"]["share"] > 0.9
    sound = attribute(*bench.simulated(bench.Cell("none", 0.0, 0.1, 300), 1))["shares"]
    (none,) = (r for r in sound if (r["of"], r["category"]) == ("wrong", "wrong-cell"))
    assert none["n"] == 0


def test_both_lines_ignored_are_not_named_by_neighbours():
    names = [row["diagnosis"] for row in diagnose(*bench.simulated(
        bench.Cell("bag", 1.0, 0.0, 300), 2
    ))]  # fmt: skip
    assert names == ["ignores-rows", "ignores-columns"]


def test_a_model_without_errors_and_one_decoder_or_none():
    answered, family = bench.simulated(bench.Cell("none", 0.0, 0.0, 20), 0)
    assert answered.right.all()
    assert attributed(answered, family)["diagnoses"] == [{"diagnosis": "none", "n_questions": 0}]
    blurred, family = bench.simulated(bench.Cell("encoder", 1.0, 0.02, 300), 0)
    one = {"ridge": family["ridge"]}
    assert [row["where"] for row in diagnose(blurred, one)] == ["encoder"]
    assert [row["where"] for row in diagnose(blurred, {})] == ["not told"]
    half = {"ridge": family["ridge"], "perfect": blurred.truth}
    assert [row["where"] for row in diagnose(blurred, half)] == ["not told"]


def test_a_class_read_worse_than_decoders_that_are_worse_too_is_both():
    answered, family = bench.simulated(bench.Cell("reading", 1.0, 0.02, 1000), 0)
    rng = np.random.default_rng(0)
    missed = (answered.truth == 0) & (rng.random(answered.truth.shape) < 0.3)
    family = {name: np.where(missed, 1, own) for name, own in family.items()}
    assert [row["where"] for row in diagnose(answered, family)] == ["both"]


def test_confusions_that_explain_every_answer_are_all_that_is_named():
    """Each of three listed classes is taken for the next one, always."""
    answered, _ = bench.simulated(bench.Cell("none", 0.0, 0.02, 200), 0)
    truth = answered.truth % 3
    listed = np.arange(bench.CLASSES) < np.full((200, 1), 3)
    said = (truth + 1) % 3
    turned = replace(answered, truth=truth, said=said, likeliest=said, listed=listed)
    rows = diagnose(turned, {})
    assert {tuple(row["classes"]) for row in rows} == {("0", "1"), ("1", "2"), ("2", "0")}


def test_every_name_is_known():
    for fault in bench.EXPECTED:
        for row in diagnose(*bench.simulated(bench.Cell(fault, 1.0, 0.02, 100), 3)):
            assert row["diagnosis"] in NAMES
