"""Baselines of chained questions: what earlier answers tell, and where that is not known."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from gpt2v.config.grids import GridConfig
from gpt2v.data.grids.baselines import baselines, tally
from gpt2v.data.grids.instructions import number_of
from gpt2v.data.grids.samples import Samples, draw_samples


def drawn(bank, n=300, **spec):
    return draw_samples(GridConfig.model_validate(spec), bank, 0, "test", np.arange(n))


def every_grid(rows, cols, palette):
    """All grids, each with a look-up of every cell in raster order."""
    cells = np.array(list(itertools.product(range(palette), repeat=rows * cols)))
    n = len(cells)
    row, col = np.divmod(np.arange(rows * cols), cols)
    return Samples(
        index=np.arange(n),
        split=np.zeros(n, np.int64),
        key=np.zeros(n, np.uint64),
        classes=cells.reshape(n, rows, cols),
        tiles=np.zeros((n, rows, cols), np.int64),
        palette=np.tile(np.arange(palette), (n, 1)),
        row=np.tile(row, (n, 1)),
        col=np.tile(col, (n, 1)),
        instruction=np.full((n, rows * cols), number_of("lookup")),
    )


def best_guesses(grids, told):
    """Share of right answers of who knows `told(cells, number of the question)`, counted."""
    answers = defaultdict(Counter)
    for cells, i in itertools.product(grids, range(len(grids[0]))):
        answers[i, told(cells, i)][cells[i]] += 1
    right = sum(max(counter.values()) for counter in answers.values())
    return right / (len(grids) * len(grids[0]))


@pytest.mark.parametrize(("rows", "cols", "palette"), [(2, 2, 2), (2, 2, 3), (1, 3, 4), (2, 3, 2)])
def test_lookups_against_adding_up_every_grid(rows, cols, palette):
    rates = baselines(every_grid(rows, cols, palette), mode="chained")
    grids = [tuple(g) for g in itertools.product(range(palette), repeat=rows * cols)]
    assert rates.blind == pytest.approx(best_guesses(grids, lambda cells, i: cells[:i]))
    bag = best_guesses(grids, lambda cells, i: (cells[:i], tuple(sorted(cells))))
    assert rates.bag == pytest.approx(bag)


def test_the_bag_of_the_task_is_56_percent(bank):
    samples = drawn(bank, 3000)
    assert baselines(samples, mode="chained").bag == pytest.approx(0.56, abs=0.01)
    assert baselines(samples, mode="chained").blind == 0.25


def test_a_question_without_earlier_ones_is_an_independent_one(bank):
    for spec in ({"questions": 1}, {"instructions": {"row": 1}, "questions": 1}):
        samples = drawn(bank, **spec)
        assert baselines(samples, mode="chained") == baselines(samples)


@pytest.mark.parametrize("name", ["count", "exists", "row", "compare"])
def test_what_other_instructions_tell_is_not_known(bank, name):
    rates = baselines(drawn(bank, instructions={name: 1}), mode="chained")
    assert rates.chance > 0
    assert np.isnan([rates.blind, rates.bag]).all()


def test_questions_of_another_instruction_tell_something_about_lookups(bank):
    samples = drawn(bank, instructions={"lookup": 1, "count": 1})
    for _, rates in tally(samples, "chained").values():
        assert np.isnan([rates.blind, rates.bag]).all()


def test_fields_of_other_instructions_are_no_cells(bank):
    """A user's instruction may use `row` for something else."""
    mixed = drawn(bank, instructions={"lookup": 1, "count": 1})
    other = mixed.instruction != number_of("lookup")
    odd = replace(mixed, row=np.where(other, 99, mixed.row))
    for one, same in zip(*(tally(s, "chained").values() for s in (mixed, odd)), strict=True):
        assert np.array_equal(one[1], same[1], equal_nan=True)


def test_few_contents_tell_of_each_other(bank):
    rates = baselines(drawn(bank, palette=2), mode="chained")
    assert np.isnan(rates.blind)
    assert 0.5 < rates.bag < 1
