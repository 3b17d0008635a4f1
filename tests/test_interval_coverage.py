"""bench/interval_coverage.py: outcomes are correlated as it says; narrow intervals show."""

import json
import sys

import numpy as np
import pytest

from gpt2v.stats.shared import Shared
from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

import interval_coverage as bench


def drawn(kind, correlation, n=400):
    """Outcomes of two questions, of the same picture and the same tile, in many worlds."""
    rng = np.random.default_rng(0)
    cell = bench.Cell(2, 1, 0.5, kind, correlation)
    shared = Shared(np.array([0, 0, 1]), np.array([[0], [1], [1]]))
    every = [bench.outcomes(rng, shared, 2, cell) for _ in range(n)]
    return np.array([one for one, _ in every]), np.array([other for _, other in every])


@pytest.mark.parametrize(
    ("kind", "correlation", "picture", "tile"),
    [
        ("latent picture", 0.0, 0, 0),
        ("latent picture", 1.0, 1, 0),
        ("latent tile", 1.0, 0, 1),
        ("binary picture", 0.5, 0.5, 0),
        ("binary tile", 0.5, 0, 0.5),
        ("latent both", 0.8, 2 / np.pi * np.arcsin(0.4), 2 / np.pi * np.arcsin(0.4)),
    ],
)
def test_outcomes_share_what_the_kind_says(kind, correlation, picture, tile):
    """Questions 0 and 1 share a picture, 1 and 2 a tile. Of normal variables with correlation r
    the signs have 2/pi asin(r)."""
    one, other = drawn(kind, correlation, 4000)
    assert one.mean() == pytest.approx(0.5, abs=0.04)
    assert other.mean() == pytest.approx(0.5, abs=0.04)
    if one[:, 0].std() and one[:, 1].std():
        found = np.corrcoef(one.T)
        assert found[0, 1] == pytest.approx(picture, abs=0.06)
        assert found[1, 2] == pytest.approx(tile, abs=0.06)


def test_intervals_that_are_too_narrow_show(monkeypatch):
    cell = bench.Cell(50, 100, 0.9, "latent both", 0.3)
    good = bench.simulate(cell, 200, 0)
    assert good.rate_coverage >= 0.91
    assert good.difference_coverage >= 0.91
    assert good == bench.simulate(cell, 200, 0)
    plain = bench.rate_interval
    monkeypatch.setattr(bench, "rate_interval", lambda right, shared: plain(right, shared, 1.0))
    narrow = bench.simulate(cell, 200, 0)
    assert narrow.rate_coverage <= 0.8
    assert narrow.rate_width < 0.7 * good.rate_width
    assert narrow.difference_coverage == good.difference_coverage


def test_parts_of_a_suite_that_share_tiles_are_no_new_ones(monkeypatch):
    cell = bench.Cell(50, 100, 0.9, bench.SUITE, 0.9)
    good = bench.simulate(cell, 200, 0)
    assert good.difference_coverage >= 0.91
    shared = bench.Shared
    monkeypatch.setattr(
        bench, "Shared", lambda picture, tiles, part: shared(np.arange(len(picture)), None, part)
    )
    narrow = bench.simulate(cell, 200, 0)  # as if all questions were independent
    assert narrow.difference_coverage <= 0.8
    assert narrow.difference_width < 0.7 * good.difference_width


def test_it_goes_on_with_the_cells_that_are_missing(tmp_path, monkeypatch, capsys):
    command = ["x", "--repetitions", "2", "--pictures", "3", "--tiles", "2", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path)])
    bench.main()
    whole = (tmp_path / "results.json").read_text()
    (lines,) = tmp_path.glob("*.jsonl")
    kept = lines.read_text().split("\n")[6:]  # the first one is empty
    lines.write_text("\n".join([*kept, '{"pictures": 3, "ti']))  # killed within a line
    capsys.readouterr()
    bench.main()
    assert capsys.readouterr().out.count("Cell(") == 5
    cells = [
        json.loads(text)["results"] for text in (whole, (tmp_path / "results.json").read_text())
    ]
    assert sorted(map(str, cells[0])) == sorted(map(str, cells[1]))


def test_the_table_has_the_least_of_each_kind():
    cells = [
        bench.Cell(50, 100, rate, kind, 0.3, held, 0.1, 0.97, 0.1)
        for kind in bench.KINDS
        for rate, held in ((0.5, 0.95), (0.9, 0.93))
    ]
    lines = bench.table(cells, "rate")
    assert lines[0].split()[-2:] == ["50,", "100"]
    assert len(lines) == 1 + len(bench.KINDS)
    assert all("93.0%" in line for line in lines[1:])
