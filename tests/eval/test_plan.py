"""Plans: what they say is enough finds a planted difference as often as they say."""

from math import inf

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from gpt2v.cli.main import main
from gpt2v.eval.paired import Pair
from gpt2v.eval.plan import TILES_PER_CLASS, Spread, needed_error, plan
from gpt2v.stats.intervals import Difference
from gpt2v.stats.shared import Shared
from helpers import refusal
from invented_evaluation import drawn, evaluation, planted

RATES = (0.93, 0.9)


def simulated(rng, grids, tiles, per_grid=9, in_picture=0.1, in_tile=0.2):
    """Two readers of the same questions, whose mistakes share pictures and tiles."""
    picture = np.repeat(np.arange(grids), per_grid)
    tile = rng.integers(tiles, size=grids * per_grid)
    right = []
    for rate in RATES:
        common = np.sqrt(in_picture) * rng.standard_normal(grids)[picture]
        common += np.sqrt(in_tile) * rng.standard_normal(tiles)[tile]
        own = np.sqrt(1 - in_picture - in_tile) * rng.standard_normal(len(tile))
        right.append(common + own < norm.ppf(rate))
    asked = pa.table({"sample": picture})
    return Pair("gpt2v", "image", asked, *right, Shared(picture, tile[:, None]))


@pytest.mark.parametrize("tiles", [200, 2000])
def test_a_planted_difference_is_found_as_often_as_planned(tiles):
    rng = np.random.default_rng(0)
    spread = Spread.measured(simulated(rng, 20_000, 20_000))
    grids = spread.grids(needed_error(RATES[0] - RATES[1], 0.8), tiles)
    found = 0
    for _ in range(300):
        pair = simulated(rng, int(grids), tiles)
        found += Difference.between(pair.first, pair.other, pair.shared).p < 0.05
    assert 0.7 <= found / 300 <= 0.88


def test_more_tiles_need_fewer_grids_until_grids_are_no_help():
    spread = Spread.supposed(0.05, 0.1, 0.3, 9)
    rows = plan(spread, 0.01, 0.8, 10)
    assert [tiles for tiles, _ in rows] == list(TILES_PER_CLASS)
    grids = [n for _, n in rows]
    assert grids == sorted(grids, reverse=True)
    assert grids[0] == inf
    alone = 0.05 * (1 + 8 * 0.1) / 9 / needed_error(0.01, 0.8) ** 2
    assert grids[-1] == pytest.approx(alone, rel=0.05)


def test_questions_that_share_nothing_need_the_textbooks_number():
    """McNemar: (z + z)^2 times the discordant share, by the squared difference."""
    spread = Spread.supposed(0.1, 0, 0, 1)
    expected = (norm.ppf(0.975) + norm.ppf(0.9)) ** 2 * 0.1 / 0.02**2
    assert spread.grids(needed_error(0.02, 0.9), 100) == pytest.approx(expected, abs=1)


def test_of_text_the_tiles_do_not_matter():
    pair = simulated(np.random.default_rng(0), 100, 100)
    text = Pair("lm", "text", pair.asked, pair.first, pair.other, Shared(pair.shared.picture))
    spread = Spread.measured(text)
    assert (spread.tile, spread.per_question, spread.per_grid) == (0, 0, 9)
    assert spread.grids(0.01, 1) == spread.grids(0.01, 10**6) < inf


def test_the_command_plans_like_two_evaluations(tmp_path, capsys):
    one = evaluation(tmp_path / "a", drawn()["right"])
    two = evaluation(tmp_path / "b", planted(np.ones(len(drawn()["right"]), bool), 0.1))
    assert main(["eval", "plan", str(one), str(two), "--difference", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("image: variance of a question 0.0")
    assert lines[0].endswith("9 questions")
    assert len(lines) == 2 + len(TILES_PER_CLASS)
    assert main(["eval", "plan", "--difference", "0.001", "--classes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["50", "none", "is", "enough"]


def test_wrong_options_are_refused(tmp_path, capsys):
    one = evaluation(tmp_path / "a", drawn()["right"])
    two = evaluation(tmp_path / "b", drawn()["right"])
    for argv, says in (
        ([], "the following arguments are required: --difference"),
        (["--difference", "2"], "--difference: must be a number above 0 and below 1, not 2"),
        (["--difference", "nan"], "--difference: must be a number above 0 and below 1, not nan"),
        (["--difference", "0.1", "--questions", "0"], "--questions: must be at least 1, not 0"),
        ([one, "--difference", "0.1"], "needs two evaluations of the same samples, or none"),
        (
            [one, two, "--difference", "0.1", "--in-tile", "0.2"],
            "--in-tile: has no effect with two evaluations, which tell it",
        ),
    ):
        assert says in refusal(capsys, "eval", "plan", *argv)
