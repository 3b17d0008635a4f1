"""A report of any runs: of each kind, of several, and of what is no run of this version."""

import json
import re
import shutil
from pathlib import Path

import pytest

from gpt2v.cli.main import main
from gpt2v.registry import SECTIONS
from gpt2v.report.section import Section
from gpt2v.run_layout import mark
from helpers import TINY_TILES, forget_imports, refusal, write_yaml

MEASURED = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
COUNTS = {"n_train": 120, "n_val": 60, "n_test": 60, "decoders": ["ridge"]}  # of each class
OF_PROBE = {
    *("probe", "attribution", "cell-patches", "learning-curves", "leakage", "selectivity"),
    *("routing", "use"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, lm_run, mm_run):
    """A run of each kind that is quickly made, by its kind."""
    root = tmp_path_factory.mktemp("runs")
    suite = write_yaml(root / "suite.yaml", {**MEASURED, "n_images": 8})
    counts = {**MEASURED, "n_images": 8, "modalities": ["text"]}
    counts["grid"] = {**counts["grid"], "instructions": {"count": 1.0}}
    counted = write_yaml(root / "counted.yaml", counts)
    probe = write_yaml(root / "probe.yaml", {**MEASURED, "model": str(mm_run), **COUNTS})
    ladder = write_yaml(root / "ladder.yaml", {**MEASURED, "model": str(mm_run), "n_images": 4})
    text = root / "text.txt"
    text.write_text("| bird | frog |<|endoftext|>| cat | dog |")
    commands = {
        "corpus": ("eval", lm_run, "--corpus", text),
        "pairs": ("eval", lm_run, "--pairs", "reference", "--n-pairs", 4),
        "eval": ("eval", mm_run, "--suite", suite),
        "counted": ("eval", mm_run, "--suite", counted),
        "probe": ("probe", probe),
        "ladder": ("ablate", "tokens", ladder),
    }
    for name, argv in commands.items():
        assert main([*map(str, argv), "--out", str(root / name)]) == 0
    for name, run in (("lm", lm_run), ("mm", mm_run)):  # nothing may be written into those
        shutil.copytree(run, root / name)
    return root


SHOWN = {
    "eval": {"baselines", "agreement", "samples", "cells", "objects", "reliability", "again"},
    "counted": {"reliability", "again"},
    "probe": {*OF_PROBE, "again"},
    "ladder": {"ladder", "again"},
    "corpus": {"language", "again"},
    "pairs": {"language", "again"},
    "lm": {"learning", "again"},
    "mm": {"learning", "again"},
}


def sections_of(page):
    return set(re.findall(r'<section id="([^"]+)"', page))


def check_page(page):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert set(links) <= set(ids)


@pytest.mark.parametrize("name", SHOWN)
def test_a_run_of_each_kind_has_its_sections(runs, name, capsys):
    assert main(["report", str(runs / name)]) == 0
    assert capsys.readouterr().out == f"report: {runs / name / 'report' / 'index.html'}\n"
    page = (runs / name / "report/index.html").read_text()
    check_page(page)
    assert sections_of(page) == SHOWN[name]
    results = json.loads((runs / name / "results.json").read_text())
    assert results["command"].split()[0] in page
    if name == "mm":
        score = results["results"][0]["image 1x2_accuracy"]
        assert f"Accuracy on held-out grids: {score:.1%} image 1x2." in page
    if name == "corpus":
        (row,) = results["results"]
        assert f"{row['bits_per_byte']:.3f} bits per byte of text.txt." in page
        assert f'<td class="n">{row["perplexity"]:.4f}</td>' in page
    if name == "pairs":
        assert f"{results['results'][1]['accuracy']:.1%} reference." in page
        assert page.count("reference-reflexive-gender") >= 2  # in the chart and in the table
    if name == "counted":
        assert f"{results['results'][0]['accuracy']:.1%} count, text" in page


def test_the_parts_of_a_suite_are_not_mixed(mm_run, tmp_path, monkeypatch):
    """Each part has grids that are counted from 0, and baselines of its own."""
    parts = [
        {"name": name, "n_images": n, "grid": {"rows": 1, "cols": 2, "palette": palette}, **more}
        for name, n, palette, more in (
            ("two", 8, 2, {}),
            ("seen", 6, 4, {"modalities": ["image"]}),
            ("read", 6, 5, {"modalities": ["text"]}),
        )
    ]
    suite = {"description": "Three parts.", "tiles_per_class": 1, "parts": parts}
    write_yaml(tmp_path / "three.yaml", suite)
    monkeypatch.setattr("gpt2v.data.suites.load._FOLDER", tmp_path)
    out = tmp_path / "out"
    argv = ["eval", mm_run, "--suite", "three", "--out", out, "--allow", "[trained-pictures]"]
    assert main([*map(str, argv), *(f"--tiles.{k}={v}" for k, v in TINY_TILES.items())]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report/index.html").read_text()
    check_page(page)
    assert "the records say" not in page
    two, seen, read = page.split('<p class="eyebrow">')[1:]
    rows = json.loads((out / "results.json").read_text())["results"]
    blind = {row["part"]: f"Blind <span>{row['blind_accuracy']:.1%}</span>" for row in rows}
    for part, name in ((two, "two"), (seen, "seen"), (read, "read")):
        assert blind[name] in part
    rates = {(row["part"], row["modality"]): f"{row['accuracy']:.1%}" for row in rows}
    assert f"GPT-2v names {rates['two', 'text']} of the cells from text" in two
    assert f"Cells named correctly: {rates['seen', 'image']} from pictures." in seen
    assert f"Cells named correctly: {rates['read', 'text']} from text." in read
    assert "the same grids" not in seen + read
    assert '<h2 id="r2-title">Grids as pictures: seen</h2>' in seen
    assert two.count("<img ") == 6
    assert "<img " not in seen + read  # only the pictures of the first part are saved


def test_several_runs_are_one_page(runs, tmp_path):
    names = ["eval", "probe", "counted", "eval"]
    argv = ["report", *(str(runs / name) for name in names), "--out", str(tmp_path)]
    assert main(argv) == 0
    page = (tmp_path / "index.html").read_text()
    check_page(page)
    expected = {f"r{i}-{s}" for i, name in enumerate(names, 1) for s in SHOWN[name]}
    assert sections_of(page) == expected


def test_a_section_s_text_is_escaped_and_none_is_left_out(runs, tmp_path):
    with forget_imports():

        @SECTIONS.register("plain")
        class Plain(Section):
            """Text that would be HTML."""

            nav, kinds = "Plain <b>", ("probe", "ladder")

            def body(self, run):
                return "<script>" if run.kind == "probe" else None

        for name in ("probe", "ladder", "eval"):
            assert main(["report", str(runs / name), "--out", str(tmp_path / name)]) == 0
            page = (tmp_path / name / "index.html").read_text()
            assert ('id="plain"' in page) == ("Plain &lt;b&gt;" in page) == (name == "probe")
            assert "<script>" not in page


@pytest.mark.parametrize(("name", "lost"), [("probe", "records.parquet"), ("lm", "metrics.jsonl")])
def test_files_that_a_run_lacks_are_said(runs, tmp_path, capsys, name, lost):
    run = shutil.copytree(runs / name, tmp_path / "r")
    (run / lost).unlink()
    assert main(["report", str(runs / "eval"), str(run), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == f"gpt2v: {run}: the report lacks what is not there: {lost}\n"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: (run / "results.json").unlink(), "results.json: not found"),
        (lambda run: (run / "run.json").unlink(), "was written by another version of gpt2v"),
        (lambda run: (run / "run.json").write_text('{"format": 1}'), "another version"),
        (lambda run: (run / "results.json").write_text('{"results": []}'), "another version"),
        (lambda run: shutil.rmtree(run), "no such run directory"),
        (lambda run: (run / "records.parquet").unlink(), "records.parquet: not found"),
    ],
    ids=["no results", "no mark", "older", "no kind", "nothing", "no records"],
)
def test_what_is_no_run_is_one_line(runs, tmp_path, capsys, spoil, says):
    run = shutil.copytree(runs / "eval", tmp_path / "r")
    shutil.rmtree(run / "report", ignore_errors=True)
    spoil(run)
    assert says in refusal(capsys, "report", runs / "probe", run, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert says in refusal(capsys, "report", run)
    assert not (run / "report").exists()
    assert "no such run directory" in refusal(capsys, "report", Path(__file__))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seconds", "long"),
        ("seconds", ["a"]),
        ("seconds", {"eval": None}),
        ("n_images", "many"),
        ("results.0.n_questions", [1]),
        ("results.0.instruction", ["lookup"]),
        ("results.0.modality", {"text": 1}),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path, capsys, key, value):
    row = {"modality": "text", "accuracy": 0.5, "n_questions": 9}
    results = {"kind": "probe", "seconds": 1.5, "results": [row]}
    node, *parts = results, *key.split(".")
    for part in parts[:-1]:
        node = node[int(part) if part.isdigit() else part]
    node[parts[-1]] = value
    run = tmp_path / "run"
    run.mkdir()
    mark(run)
    (run / "results.json").write_text(json.dumps(results))
    line = refusal(capsys, "report", run, "--out", tmp_path / "page")
    shown = key.replace("results.0", "results[0]")
    assert f"{run}/results.json: {shown}: must be" in line
    assert not (tmp_path / "page").exists()
