"""Baselines of all portions together, and which grids are held out as text."""

import pytest

from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import tally
from gpt2v.eval.facts import Facts


def facts(bank, n=300, **grid):
    data = GridDataset(HeldOutGridConfig.model_validate(grid), bank, 1, "test", n)
    return Facts.of(data), data.samples()


def test_baselines_are_those_of_all_grids(bank, monkeypatch):
    monkeypatch.setattr("gpt2v.eval.facts._PORTION", 70)
    found, samples = facts(bank, palette=2)
    assert found.held_out
    ((n, rates),) = found.baselines.values()
    assert n == 2700
    assert rates == pytest.approx(tally(samples)["lookup"][1])


@pytest.mark.parametrize(("rows", "cols", "held_out"), [(1, 2, False), (2, 4, False), (3, 3, True)])
def test_small_grids_are_not_held_out_as_text(bank, rows, cols, held_out):
    assert facts(bank, 20, rows=rows, cols=cols)[0].held_out == held_out


def test_training_grids_are_not_held_out(bank):
    spec = HeldOutGridConfig()
    for split, held_out in (("train", False), ("val", True)):
        assert Facts.of(GridDataset(spec, bank, 1, split, 20)).held_out == held_out


def test_sizes_are_new_only_if_all_are(bank):
    assert not facts(bank, 20, rows=[2, 3], cols=3)[0].held_out
