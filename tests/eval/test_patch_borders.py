"""Patch borders: planted readers who lose cut cells, and readers who err anywhere."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from gpt2v.cli.main import main
from gpt2v.config.grids import HeldOutGridConfig
from gpt2v.data.render.edges import cell_edges
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.eval.patch_borders import borders_of, patch_borders
from gpt2v.model.found import find_checkpoint, read_config
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.shared import Shared
from helpers import write_yaml

N, SIDE = 300, 6
GEOMETRY = PictureGeometry(224, 16)  # 14 patches: 6 cells of 37.3 pixels
GRID = HeldOutGridConfig(
    rows=SIDE, cols=SIDE, picture={"resize": True}, instructions={"matrix": 1.0}
)
EDGES = cell_edges(SIDE, SIDE, 16, GRID.picture, GEOMETRY)
# By hand: the middle cell of each three has one whole patch between its edges, the others have two.
ALONG = np.array([32, 16, 32, 32, 16, 32]) / (224 / 6)


def records_of(right, instruction="matrix", modality="image", seed=0):
    """Records in which the cells (n, R, C) are right or wrong as planted."""
    rng = np.random.default_rng(seed)
    n = len(right)
    truth = rng.integers(4, size=right.shape)
    said = np.where(right, truth, (truth + rng.integers(1, 4, size=right.shape)) % 4)
    words = [["; ".join(" ".join(map(str, r)) for r in m) for m in ms] for ms in (truth, said)]
    tiles = rng.integers(4000, size=(n, right[0].size)).tolist()
    return pa.table(
        {
            "instruction": [instruction] * n,
            "modality": [modality] * n,
            "sample": np.arange(n),
            "content": np.arange(n).astype(np.uint64),
            "truth": words[0],
            "generated": words[1],
            "exact": right.reshape(n, -1).all(1),
            "tiles": pa.array(tiles, pa.list_(pa.int64())),
        }
    )


def planted(rates, seed=0, pictures=0.0):
    """Outcomes (N, R, C) with these rates of right cells; some pictures are all wrong."""
    rng = np.random.default_rng(seed)
    right = rng.random((N, SIDE, SIDE)) < rates
    return right & (rng.random(N) >= pictures)[:, None, None]


def test_errors_in_cut_cells_are_found():
    pure = ALONG[:, None] * ALONG
    right = planted(np.where(pure > 0.7, 0.95, 0.8))
    found = patch_borders(records_of(right), EDGES, GEOMETRY)
    np.testing.assert_allclose(found["pure"], pure)
    np.testing.assert_allclose(found["accuracy"], right.mean(0))
    kinds = [(one["pure"], one["n_cells"]) for one in found["by_pure"]]
    expected = [((6 / 7) ** 2, 16), (6 * 3 / 49, 16), ((3 / 7) ** 2, 4)]
    np.testing.assert_allclose(kinds, expected)
    rates = [right[:, np.isclose(pure, share)].mean() for share, _ in expected]
    assert [one["accuracy"] for one in found["by_pure"]] == pytest.approx(rates)
    best = np.isclose(pure, pure.max())
    assert found["difference"] == pytest.approx(right[:, best].mean() - right[:, ~best].mean())
    low, high = found["difference_ci95"]
    assert 0.1 < low < 0.15 < high < 0.2


@pytest.mark.parametrize("seed", range(5))
def test_errors_anywhere_show_no_relation(seed):
    """Nor do pictures of which no cell is read."""
    right = planted(0.85, seed, pictures=0.2 * (seed % 2))
    low, high = patch_borders(records_of(right), EDGES, GEOMETRY)["difference_ci95"]
    assert low < 0 < high
    assert high - low < 0.05


def test_the_interval_covers_what_is_planted():
    """95% intervals of 200 readers with clustered errors miss the difference about ten times."""
    pure = np.isclose(ALONG[:, None] * ALONG, (6 / 7) ** 2)
    missed = 0
    for seed in range(200):
        right = planted(np.where(pure, 0.9, 0.7), seed, pictures=0.1)
        low, high = patch_borders(records_of(right, seed=seed), EDGES, GEOMETRY)["difference_ci95"]
        missed += not low <= 0.9 * 0.2 <= high
    assert 1 <= missed <= 22


def test_few_errors_anywhere_show_no_relation():
    """Of readers who are nearly always right, no more intervals leave 0 out than should."""
    named = 0
    for seed in range(100):
        right = planted(0.997, seed)[:60]
        low, high = patch_borders(records_of(right, seed=seed), EDGES, GEOMETRY)["difference_ci95"]
        named += not low <= 0 <= high
    assert named <= 11


def test_a_single_grid_has_a_finite_interval():
    found = patch_borders(records_of(planted(0.8)[:1]), EDGES, GEOMETRY)
    low, high = found["difference_ci95"]
    assert -1 <= low < 0 < high <= 1


def test_intervals_of_groups_know_that_cells_share_pictures():
    right = planted(0.9, pictures=0.3)
    records = records_of(right)
    found = patch_borders(records, EDGES, GEOMETRY)
    best = np.isclose(ALONG[:, None] * ALONG, (6 / 7) ** 2)
    tiles = np.array(records["tiles"].to_pylist()).reshape(right.shape)[:, best]
    expected = rate_interval(
        right[:, best].reshape(-1), Shared(np.repeat(np.arange(N), 16), tiles.reshape(-1, 1))
    )
    assert found["by_pure"][0]["ci95"] == pytest.approx(expected)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_without_any_difference_in_answers_there_is_no_relation(rate):
    found = patch_borders(records_of(planted(rate)), EDGES, GEOMETRY)
    assert (found["difference"], found["difference_ci95"]) == (None, None)


def test_cells_that_are_cut_alike_have_one_group():
    geometry = PictureGeometry(224, 28)
    right = planted(0.8)[:, :4, :4]
    edges = cell_edges(4, 4, 16, GRID.picture, geometry)
    found = patch_borders(records_of(right), edges, geometry)
    assert [one["pure"] for one in found["by_pure"]] == [1.0]
    assert found["difference"] is None


def series_of(grid=GRID, modality="image", geometry=GEOMETRY, fills=None, part="p"):
    data = SimpleNamespace(spec=grid, bank=SimpleNamespace(size=16))
    names = {"model": "gpt2v", "modality": modality, "part": part}
    model = SimpleNamespace(name="gpt2v", geometry=geometry, fills=fills)
    return SimpleNamespace(
        model=model, part=SimpleNamespace(data=data, name=part), modality=modality, names=names
    )


def test_only_pictures_of_one_size_with_known_patches_have_rows():
    records = records_of(planted(0.9))
    for text, change in (
        ("pictures", {}),
        ("no pictures", {"modality": "text"}),
        ("no patches", {"geometry": None}),
        ("sizes", {"grid": GRID.model_copy(update={"rows": [2, 6]})}),
        ("multi", {"grid": GRID.model_copy(update={"picture": GRID.picture.model_copy(
            update={"layout": "multi"})})}),
        ("not square", {"grid": GRID.model_copy(update={"rows": 5}), "fills": lambda data: True}),
        ("cut into tiles", {"fills": lambda data: False}),
    ):  # fmt: skip
        found = borders_of([series_of(**change)], [records])
        assert ("patch_borders" in found) == (text == "pictures"), text
        assert ("vision" in found) == (text not in ("no pictures", "no patches")), text
    (row,) = borders_of([series_of()], [records])["patch_borders"]
    assert (row["part"], row["instruction"], row["n_images"]) == ("p", "matrix", N)
    text = records_of(planted(0.9), modality="text")
    both = [series_of(), series_of(modality="text"), series_of(modality="text", part="q")]
    rows = borders_of(both, [records, text, text])["patch_borders"]
    assert [row["modality"] for row in rows] == ["image", "text"]  # text of the same grids
    assert rows[0]["pure"] == rows[1]["pure"]
    named = records.set_column(0, "instruction", [["lookup"] * N])
    assert "patch_borders" not in borders_of([series_of()], [named])


def test_an_evaluation_of_pictures_tells_patches_and_borders(mm_run, tmp_path, capsys):
    content = {
        "grid": {"rows": 2, "cols": 2, "instructions": {"matrix": 1.0}},
        "n_images": 6,
        "modalities": ["text", "image"],
        "metrics": ["accuracy", "cell-accuracy"],
    }
    suite = write_yaml(tmp_path / "suite.yaml", content)
    argv = ["eval", str(mm_run), "--suite", str(suite), "--out", str(tmp_path / "run")]
    assert main(argv) == 0
    assert "cells right" in capsys.readouterr().out
    results = json.loads((tmp_path / "run/results.json").read_text())
    tower = read_config(find_checkpoint(str(mm_run), "model"), "model")["vision_config"]
    assert results["vision"] == {key: tower[key] for key in ("image_size", "patch_size")}
    text, row = results["patch_borders"]
    assert (text["modality"], row["modality"]) == ("text", "image")
    assert np.shape(row["accuracy"]) == np.shape(text["accuracy"]) == (2, 2)
    assert max(max(ends) for ends in row["rows"]) <= results["vision"]["image_size"]
    for kept in results["results"]:
        assert 0 <= kept["cell_accuracy"] <= 1
        assert kept["n_cells"] == 24
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run/report/index.html").read_text()
    assert '<section id="patch-borders"' in page
