"""Agreement of a model with itself in several modalities, of planted answers."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from gpt2v.cli.main import main
from gpt2v.eval.agreement import agreement_of
from gpt2v.stats.delta import of_rates
from gpt2v.stats.intervals import Z
from gpt2v.stats.shared import Shared

K = 4  # possible answers
N, CELLS, TILES = 400, 9, 2000


def table(answers, truth, rng, modality, listed=True):
    """Records of N grids with these answers and truths, numbers of objects, (N * CELLS,)."""
    words = np.array([f"object {i}" for i in range(K)])
    sample = np.repeat(np.arange(N), CELLS)
    tiles = np.random.default_rng(5).integers(TILES, size=len(sample))
    said = words[answers].tolist()
    columns = {
        "instruction": ["lookup"] * len(sample),
        "modality": [modality] * len(sample),
        "sample": sample,
        "content": sample.astype(np.uint64),
        "tiles": pa.array([[tile] for tile in tiles], pa.list_(pa.int64())),
        "truth": words[truth].tolist(),
        "prediction": pa.array(said if listed else [None] * len(sample), pa.string()),
        "generated": said if not listed else ["else"] * len(sample),
    }
    return pa.table(columns)


def reader(rng, truth, accuracy):
    """Answers that are right independently of anything; wrong ones are even over the others."""
    wrong = (truth + rng.integers(1, K, size=len(truth))) % K
    return np.where(rng.random(len(truth)) < accuracy, truth, wrong)


def rows_of(answers, truth, rng, **options):
    names = ("text", "image", "text+image")
    tables = {
        ("gpt2v", None, name): table(own, truth, rng, name, **options)
        for name, own in zip(names, answers, strict=False)
    }
    return agreement_of(tables, {"lookup": 1 / K})


def test_independent_errors_agree_as_often_as_they_should():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(100):
        truth = rng.integers(K, size=N * CELLS)
        (row,) = rows_of([reader(rng, truth, 0.8), reader(rng, truth, 0.7)], truth, rng)
        held.append(row["beyond_ci95"][0] <= 0 <= row["beyond_ci95"][1])
        assert row["independent"] == pytest.approx(0.8 * 0.7 + 0.2 * 0.3 / 3, abs=0.02)
        assert row["beyond"] == pytest.approx(row["agreement"] - row["independent"])
    assert 90 <= sum(held) <= 100


def test_tiles_that_are_hard_for_both_are_found():
    """Planted: both err on the same tiles, and say the same there."""
    rng = np.random.default_rng(1)
    truth = rng.integers(K, size=N * CELLS)
    hard = np.random.default_rng(5).integers(TILES, size=N * CELLS) < 0.2 * TILES
    wrong = (truth + 1) % K
    one, other = (np.where(hard, wrong, reader(rng, truth, 0.95)) for _ in range(2))
    (row,) = rows_of([one, other], truth, rng)
    assert row["beyond_ci95"][0] > 0.1


@pytest.mark.parametrize("listed", [True, False])
def test_counts_are_those_of_a_plain_loop(listed):
    rng = np.random.default_rng(2)
    truth = rng.integers(K, size=N * CELLS)
    answers = [reader(rng, truth, rate) for rate in (0.9, 0.6, 0.5)]
    rows = rows_of(answers, truth, rng, listed=listed)
    assert [len(row["modalities"]) for row in rows] == [2, 2, 2, 3]
    names = ["text", "image", "text+image"]
    for row in rows:
        own = [answers[names.index(name)] for name in row["modalities"]]
        each = list(zip(*(x.tolist() for x in (truth, *own)), strict=True))
        kinds = Counter("".join("+-"[x != right] for x in said) for right, *said in each)
        assert row["outcomes"] == {**dict.fromkeys(row["outcomes"], 0), **kinds}
        assert len(row["outcomes"]) == 2 ** len(own)
        assert row["agreement"] == np.mean([len(set(said)) == 1 for _, *said in each])


def test_the_random_baseline_is_seams():
    """p^2 + (1 - p)^2 / 3 with four choices and the mean accuracy p of the two."""
    rng = np.random.default_rng(3)
    truth = rng.integers(K, size=N * CELLS)
    answers = [reader(rng, truth, rate) for rate in (0.9, 0.6)]
    (row,) = rows_of(answers, truth, rng)
    p = np.mean([own == truth for own in answers])
    assert row["random"] == pytest.approx(p**2 + (1 - p) ** 2 / 3)


def test_without_wrong_answers_agreement_tells_nothing_more():
    rng = np.random.default_rng(4)
    truth = rng.integers(K, size=N * CELLS)
    (row,) = rows_of([truth, reader(rng, truth, 0.8)], truth, rng)
    assert row["beyond"] is None
    assert row["beyond_ci95"] is None
    assert row["agreement"] == pytest.approx(row["independent"])


def test_the_delta_method_on_a_product_of_independent_rates():
    """Its variance is p^2 var(q) + q^2 var(p)."""
    rng = np.random.default_rng(0)
    outcomes = (rng.random((20_000, 2)) < [0.7, 0.4]).astype(float)
    value, (low, high) = of_rates(np.prod, outcomes, Shared(np.arange(20_000)))
    (p, q), (v, w) = outcomes.mean(0), outcomes.var(0) / 20_000
    assert value == pytest.approx(p * q)
    assert high - low == pytest.approx(2 * Z * np.sqrt(p**2 * w + q**2 * v), rel=0.03)


def test_an_evaluation_tells_it(mm_run, tmp_path, capsys):
    argv = ["eval", str(mm_run), "--n_images", "6", "--out", str(tmp_path / "run")]
    assert main([*argv, "--modalities", "[text, image, text+image]"]) == 0
    rows = json.loads((tmp_path / "run/results.json").read_text())["agreement"]
    assert [row["modalities"] for row in rows] == [
        ["text", "image"], ["text", "text+image"], ["image", "text+image"],
        ["text", "image", "text+image"],
    ]  # fmt: skip
    assert all(sum(row["outcomes"].values()) == row["n_questions"] == 12 for row in rows)
    assert "lookup: text, image, text+image" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run/report/index.html").read_text()
    assert "<h2>Does it answer the same?</h2>" in page
    counts = ", ".join(f"{kind} {n:,}" for kind, n in rows[0]["outcomes"].items())
    assert f"<td>{counts}</td>" in page
    assert main([*argv[:-1], str(tmp_path / "one"), "--modalities", "[text]"]) == 0
    assert "agreement" not in json.loads((tmp_path / "one/results.json").read_text())
