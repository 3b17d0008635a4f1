"""The spread over renderings: planted readers of the same grids in several parts."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from gpt2v.cli.main import main
from gpt2v.eval.renderings import spread_of

N, CELLS = 300, 9


@dataclass
class Part:
    model: SimpleNamespace
    part: SimpleNamespace
    modality: str


def series(names, modality="image"):
    model = SimpleNamespace(name="gpt2v")
    return [Part(model, SimpleNamespace(name=name), modality) for name in names]


def table(right, modality="image", seed=0):
    rng = np.random.default_rng(seed)
    sample, cell = np.divmod(np.arange(N * CELLS), CELLS)
    tiles = rng.integers(2000, size=N * CELLS)
    return pa.table(
        {
            "instruction": ["lookup"] * len(right),
            "modality": [modality] * len(right),
            "sample": sample,
            "content": sample.astype(np.uint64),
            "row": cell // 3,
            "col": cell % 3,
            "tiles": pa.array([[tile] for tile in tiles], pa.list_(pa.int64())),
            "exact": right,
        }
    )


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_rendering_that_is_read_worse_is_found_and_no_other(modality):
    rng = np.random.default_rng(0)
    rates = {"plain": 0.9, "same": 0.9, "worse": 0.8, "better": 0.97}
    right = {name: rng.random(N * CELLS) < rate for name, rate in rates.items()}
    tables = [table(own, modality) for own in right.values()]
    (row,) = spread_of(series(right, modality), tables)
    assert (row["reference"], row["lowest_part"], row["highest_part"]) == (
        "plain",
        "worse",
        "better",
    )
    means = {name: own.mean() for name, own in right.items()}
    assert row["sd"] == pytest.approx(np.std(list(means.values())))
    found = {one["part"]: one for one in row["differences"]}
    assert list(found) == ["same", "worse", "better"]
    for name, one in found.items():
        assert one["difference"] == pytest.approx(means[name] - means["plain"])
        assert one["accuracy"] == means[name]
        assert one["p"] <= one["p_holm"]
    assert [name for name, one in found.items() if one["p_holm"] < 0.01] == ["worse", "better"]


def test_parts_with_other_grids_are_refused():
    """They are refused when the suite is loaded (test_suites.py), and here never taken for one."""
    right = np.ones(N * CELLS, bool)
    tables = [table(right), table(right, seed=1)]
    with pytest.raises(AssertionError, match=r"\('b', 'a'\)"):
        spread_of(series(["a", "b"]), tables)


def test_the_suite_tells_its_spread(mm_run, tmp_path, capsys):
    argv = ["eval", mm_run, "--suite", "render-v1", "--limit", "3", "--out", tmp_path / "run"]
    argv += ["--tiles.per_class", "100", "--tiles.size", "16"]
    assert main([str(word) for word in argv]) == 0
    rows = json.loads((tmp_path / "run/results.json").read_text())["renderings"]
    assert [(row["modality"], row["reference"]) for row in rows] == [
        ("text", "markdown"),
        ("image", "picture"),
    ]
    assert "text, 9 renderings: " in capsys.readouterr().out
