"""What is said of grids with few contents, against a count by hand."""

import numpy as np
import pytest

from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.baselines import tally
from gpt2v.eval.facts import Facts, lines_about


def facts(bank, n=300, **grid):
    data = GridDataset(HeldOutGridConfig.model_validate(grid), bank, 1, "test", n)
    return Facts.of(data), data.samples()


def test_two_objects_have_few_contents_but_new_ones(bank):
    found, samples = facts(bank, palette=2)
    palettes, cells = np.sort(samples.palette), samples.classes.reshape(300, -1)
    by_hand = np.unique(np.concatenate([palettes, cells], axis=1), axis=0)
    assert found.n_contents == len(by_hand)
    assert found.is_new
    ((n, rates),) = found.baselines.values()
    assert (found.n_images, n) == (300, 2700)
    assert rates == pytest.approx(tally(samples)["lookup"][1])


@pytest.mark.parametrize(("rows", "cols", "is_new"), [(1, 2, False), (2, 4, False), (3, 3, True)])
def test_small_grids_are_not_held_out_as_text(bank, rows, cols, is_new):
    assert facts(bank, 20, rows=rows, cols=cols)[0].is_new == is_new


def test_sizes_are_new_only_if_all_are(bank):
    assert not facts(bank, 20, rows=[2, 3], cols=3)[0].is_new


def test_nothing_is_said_of_many_contents(bank):
    assert lines_about({None: facts(bank)[0]}) == []


def test_what_is_said_of_few(bank):
    few = Facts({}, 1000, 52, True)
    small = Facts({}, 1000, 840, False)
    assert lines_about({None: few}) == ["text: the 1,000 grids have 52 contents"]
    assert lines_about({"1x1": small, "2": few, "2x2": small}) == [
        "text: too few contents for a split, so not held out: 1x1, 2x2",
        "text: the 1,000 grids of 2 have 52 contents",
    ]
    assert lines_about({None: small}) == [
        "text: too few contents for a split, so not held out: grids"
    ]
