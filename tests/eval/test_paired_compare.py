"""Comparison of evaluations: planted differences are found, and only the same samples compared."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import gpt2v
from gpt2v.cli.main import main
from gpt2v.report import write_report
from gpt2v.stats.intervals import Difference, holm
from gpt2v.stats.shared import Shared
from helpers import refusal
from invented_evaluation import CLASSES, N, drawn, evaluation, planted


def rows_of(found, by, **equal):
    equal = {"by": by, **equal}
    return [row for row in found.rows if equal.items() <= row.items()]


def clear(found, by):
    return {row["value"] for row in rows_of(found, by) if row["p_holm"] < 0.05}


@pytest.fixture
def first(tmp_path):
    return evaluation(tmp_path / "first", drawn()["right"])


# ---- what is found ---------------------------------------------------------------------------


def test_equal_answers_differ_nowhere(first, tmp_path):
    found = gpt2v.compare(first, evaluation(tmp_path / "b", drawn()["right"]))
    assert [len(rows_of(found, by)) for by in ("all", "cell", "class")] == [1, 9, 4]
    assert rows_of(found, "part") == rows_of(found, "instruction") == []
    for row in found.rows:
        assert (row["difference"], row["p"], row["p_holm"]) == (0, 1, 1)
        assert row["ci95"][0] < 0 < row["ci95"][1]
        assert 0 < row["smallest_difference"] < 0.2
    assert found.records is None


def test_an_object_that_one_model_cannot_see_is_named(first, tmp_path):
    spoilt = planted(drawn()["truth"] == "cat")
    found = gpt2v.compare(first, evaluation(tmp_path / "b", spoilt))
    assert clear(found, "class") == {"cat"}
    (row,) = rows_of(found, "class", value="cat")
    assert row["difference"] < -0.3
    assert all(r["difference"] == 0 for r in rows_of(found, "class") if r["value"] != "cat")
    assert rows_of(found, "all")[0]["p"] < 1e-6


def test_a_cell_that_one_model_cannot_read_is_named(first, tmp_path):
    asked = drawn()
    spoilt = planted((asked["row"] == 1) & (asked["col"] == 2))
    found = gpt2v.compare(first, evaluation(tmp_path / "b", spoilt))
    assert clear(found, "cell") == {"1, 2"}


def test_a_part_in_which_one_model_fails_is_named(tmp_path):
    parts = np.where(np.arange(9 * N) < 9 * N // 2, "easy", "hard")
    suite = {"suite": "s", "suite_hash": "1"}
    one = evaluation(tmp_path / "a", drawn()["right"], parts=parts, **suite)
    two = evaluation(tmp_path / "b", planted(parts == "hard", 0.1), parts=parts, **suite)
    found = gpt2v.compare(one, two)
    assert clear(found, "part") == {"hard"}


def test_noise_alone_is_rarely_named(tmp_path):
    """Pairs of readers with other mistakes, equally many: one in twenty, or less with Holm."""
    named = 0
    for seed in range(16):
        one, two = np.random.default_rng(seed).random((2, 9 * N)) < 0.9
        runs = [evaluation(tmp_path / f"{seed}-{i}", own) for i, own in enumerate((one, two))]
        found = gpt2v.compare(*runs, by=["class"])
        named += bool(clear(found, "all") or clear(found, "class"))
    assert named <= 4


def test_a_row_is_the_paired_difference_of_its_questions(first, tmp_path):
    asked, spoilt = drawn(), planted(drawn()["truth"] == "dog", 0.1)
    found = gpt2v.compare(first, evaluation(tmp_path / "b", spoilt), by=["class"])
    for value in (None, *CLASSES):
        chosen = np.ones(9 * N, bool) if value is None else asked["truth"] == value
        shared = Shared(asked["sample"][chosen], asked["tiles"][chosen, None])
        expected = Difference.between(spoilt[chosen], asked["right"][chosen], shared)
        (row,) = rows_of(found, "all" if value is None else "class", value=value)
        assert row["difference"] == pytest.approx(spoilt[chosen].mean() - row["first_accuracy"])
        assert row["other_accuracy"] == spoilt[chosen].mean()
        assert row["ci95"] == list(expected.interval())
        assert (row["p"], row["smallest_difference"]) == (expected.p, expected.smallest)
        assert row["n_questions"] == chosen.sum()
        assert row["n_images"] == len(np.unique(asked["sample"][chosen]))
        assert row["n_contents"] == row["n_images"]  # each is another one
        assert row["n_tiles"] == len(np.unique(asked["tiles"][chosen]))


def test_each_breakdown_is_a_family_over_all_evaluations(first, tmp_path):
    others = [
        evaluation(tmp_path / str(i), planted(np.ones(9 * N, bool), 0.01 * i, seed=i))
        for i in (1, 2)
    ]
    found = gpt2v.compare(first, *others)
    for by, n in (("all", 2), ("cell", 18), ("class", 8)):
        family = rows_of(found, by)
        assert len(family) == n
        adjusted = holm(np.array([row["p"] for row in family]))
        assert [row["p_holm"] for row in family] == adjusted.tolist()
    assert {row["first"] for row in found.rows} == {str(first)}
    assert {row["other"] for row in found.rows} == set(map(str, others))


def test_only_what_both_have_is_compared(tmp_path):
    """Modalities, models of other names, and parts."""
    right = drawn()["right"]
    suite = {"suite": "s", "suite_hash": "1"}
    parts = np.where(np.arange(9 * N) < 9 * N // 2, "p", "q")
    one = evaluation(tmp_path / "a", right, "text", "lm", parts, **suite)
    two = evaluation(tmp_path / "b", right, "text", "gpt2v", parts, **suite)
    path = two / "records.parquet"
    table = pq.read_table(path)
    pictures = table.set_column(1, "modality", pa.array(["image"] * len(table)))
    half = table.filter(pa.array(parts == "p"))
    pq.write_table(pa.concat_tables([half, pictures]), path)
    found = gpt2v.compare(one, two)
    assert {row["modality"] for row in found.rows} == {"text"}
    assert rows_of(found, "all")[0]["n_questions"] == 9 * N // 2
    assert "n_tiles" not in found.rows[0]  # of text


# ---- commands --------------------------------------------------------------------------------


def test_the_command_prints_what_is_clear_and_its_report_says_it(
    first, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    evaluation(tmp_path / "worse", planted(drawn()["truth"] == "cat"))
    assert main(["eval", "compare", "first", "worse"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "first: first; other: worse"
    assert [line.split()[0] for line in lines[1:5]] == ["first", "all", "cell", "cell"]
    assert any(line.split()[:3] == ["class", "cat", "image"] for line in lines)
    assert "  by class: 1 of 4 with p (Holm) below 0.05" in lines
    assert lines[-1] == "run: runs/compare-first-worse"
    page = write_report("runs/compare-first-worse").read_text()
    assert "On pictures, first is" in page
    assert "points ahead of worse (p after Holm below 0.001)" in page
    assert page.count("<svg") >= 3
    assert main(["eval", "compare", "first", "worse", "--by", "none", "--out", "x"]) == 0
    results = json.loads((tmp_path / "x" / "results.json").read_text())
    assert results["kind"] == "compare"
    assert results["compared"] == ["first", "worse"]
    assert (results["seed"], results["data_hash"]) == (1, "5f2c9a0e")
    assert len(results["results"]) == 1


def test_no_clear_difference_says_what_could_have_been_found(first, tmp_path):
    out = tmp_path / "x"
    gpt2v.compare(first, evaluation(tmp_path / "b", drawn()["right"]), out=out)
    page = write_report(out).read_text()
    assert "cannot be told apart (p after Holm 1.000); a difference of " in page
    assert "points would be found in four of five repetitions" in page


def test_evaluations_of_a_trained_model_are_compared(lm_run, tmp_path, capsys):
    for name, n in (("one", 20), ("two", 20), ("more", 30)):
        argv = ["eval", str(lm_run), "--modalities", "text", "--n_images", str(n)]
        assert main([*argv, "--out", str(tmp_path / name)]) == 0
    one, two, more = (tmp_path / name for name in ("one", "two", "more"))
    found = gpt2v.compare(one, two)
    assert rows_of(found, "all")[0]["difference"] == 0
    capsys.readouterr()
    line = refusal(capsys, "eval", "compare", one, more, "--out", tmp_path / "x")
    assert f"{more}: other samples than those of {one}: n_images is 30, not 20; measure" in line


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "config", "says"),
    [
        ({"data_hash": "1"}, {"seed": 2}, "seed is 2, not 1"),
        ({"data_hash": "1"}, {"grid": {"rows": 4}}, "grid.rows is 4, not 3"),
        ({"data_hash": "1", "tiles_files": "ab"}, {}, "tiles_files is ab, not None"),
        ({"data_hash": "1"}, {}, "data_hash is 1, not 5f2c9a0e"),
        ({"suite": "s", "suite_hash": "1"}, {}, "suite is s, not None"),
        ({"versions": {"gpt2v": "0.0.1"}}, {}, "version of gpt2v is 0.0.1, not"),
    ],
)
def test_other_samples_are_refused_with_the_first_difference(
    changed, config, says, first, tmp_path, capsys
):
    other = evaluation(tmp_path / "b", drawn()["right"], **changed)
    whole = yaml.safe_load((other / "config.yaml").read_text())
    for key, value in config.items():
        whole[key] = {**whole[key], **value} if isinstance(value, dict) else value
    (other / "config.yaml").write_text(yaml.safe_dump(whole))
    line = refusal(capsys, "eval", "compare", first, other, "--out", tmp_path / "x")
    assert f"{other}: other samples than those of {first}: {says}" in line
    assert "measure both on the same samples" in line
    assert not (tmp_path / "x").exists()


def test_another_question_is_refused_with_both(first, tmp_path, capsys):
    other = evaluation(tmp_path / "b", drawn()["right"])
    table = pq.read_table(other / "records.parquet")
    truth = table["truth"].to_pylist()
    before, truth[10] = truth[10], "horse"
    at = table.column_names.index("truth")
    pq.write_table(table.set_column(at, "truth", pa.array(truth)), other / "records.parquet")
    line = refusal(capsys, "eval", "compare", first, other, "--out", tmp_path / "x")
    asked = "sample 1, mode independent, question What object is in row 0, column 1? A:, truth"
    assert f"question 10 is [{asked} horse], not [sample 1" in line
    assert f"truth {before}]" in line


def test_what_is_no_evaluation_is_refused(first, tmp_path, capsys):
    training = evaluation(tmp_path / "t", drawn()["right"], kind="lm")
    old = evaluation(tmp_path / "old", drawn()["right"])
    (old / "run.json").write_text(json.dumps({"format": 1, "gpt2v": "0.0.1"}))
    text = evaluation(tmp_path / "text", drawn()["right"], "text")
    bare = evaluation(tmp_path / "bare", drawn()["right"])
    table = pq.read_table(bare / "records.parquet")
    pq.write_table(table.drop_columns("question"), bare / "records.parquet")
    lost = evaluation(tmp_path / "lost", drawn()["right"], data_hash="1")
    (lost / "config.yaml").unlink()
    empty = shutil.copytree(first, tmp_path / "empty")
    (empty / "results.json").unlink()
    for other, says in {
        tmp_path / "none": "no such run directory",
        training: "holds results of kind lm; an evaluation is needed",
        old: "was measured by another version of gpt2v; measure it again",
        text: f"was measured on text, and {first} on image",
        bare: "records.parquet: has no column 'question'",
        lost: "config.yaml: cannot be read, so its samples are not known",
        empty: "no finished run",
        first: "is given twice",
    }.items():
        line = refusal(capsys, "eval", "compare", first, other, "--out", tmp_path / "x")
        assert says in line
        assert str(other) in line
        assert not (tmp_path / "x").exists()


def test_wrong_options_are_refused(first, tmp_path, capsys):
    other = evaluation(tmp_path / "b", drawn()["right"])
    for argv, says in (
        ([first], "eval compare: needs two or more evaluations"),
        ([first, other, "--by", "colour"], "--by: must be some of part, instruction, cell, class"),
        ([first, other, "--by", "cell,cell"], "--by: cell is given twice"),
        ([first, other, "--seed", "1"], "--seed: eval compare has no such option"),
    ):
        assert says in refusal(capsys, "eval", "compare", *argv, "--out", tmp_path / "x")
        assert not (tmp_path / "x").exists()
