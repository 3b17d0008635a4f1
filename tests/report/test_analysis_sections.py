"""Sections on sizes, questions, reliability and renderings have the numbers of the files.

A suite has them about all its parts together, before the parts.
"""

import json
import re

import pyarrow.parquet as pq
import pytest

from gpt2v.cli.main import main
from gpt2v.eval.metrics import calibration
from gpt2v.eval.reliability import reliability
from gpt2v.report.words import percent, points
from helpers import TINY_TILES, write_yaml

TILES = [f"--tiles.{key}={value}" for key, value in TINY_TILES.items()]


def evaluated(model, out, monkeypatch, *argv, **suite):
    """The articles of the report on a suite of this content, and its results and records."""
    content = {"description": "A suite.", "tiles_per_class": 1, **suite}
    write_yaml(out.parent / "own.yaml", content)
    monkeypatch.setattr("gpt2v.data.suites.load._FOLDER", out.parent)
    words = ["eval", str(model), "--suite", "own", "--out", str(out), *argv, *TILES]
    assert main([*words, "--allow", "[trained-pictures]"]) == 0
    assert main(["report", str(out)]) == 0
    articles = (out / "report/index.html").read_text().split("<article id=")[1:]
    results = json.loads((out / "results.json").read_text())
    return articles, results, pq.read_table(out / "records.parquet")


def section_of(article, name):
    """The HTML of a section, or None."""
    found = re.search(rf'<section id="[rs]\d+-{name}">.*?</section>', article, re.DOTALL)
    return found and found[0]


def rows_of(section):
    """The rows of the tables of a section: its first cell, and the others."""
    return {
        head: tuple(re.findall(r"<td[^>]*>([^<]*)</td>", cells))
        for head, cells in re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', section)
    }


def test_a_suite_is_broken_down_over_its_parts(mm_run, tmp_path, monkeypatch):
    """Each part is of one size here, so that the rates by size are those of results.json."""
    grids = {"small": {"rows": 1, "cols": 1, "palette": 3}, "wide": {"rows": 1, "cols": 2}}
    parts = [{"name": name, "n_images": 6, "grid": grid} for name, grid in grids.items()]
    argv = ("--modalities", "[text,image]")
    articles, results, _ = evaluated(mm_run, tmp_path / "out", monkeypatch, *argv, parts=parts)
    whole, *of_parts = articles
    assert len(of_parts) == 2
    assert "All parts of out" in whole
    assert [section_of(article, "breakdown") for article in of_parts] == [None, None]
    assert all(section_of(article, "reliability") for article in of_parts)
    assert section_of(whole, "agreement")
    assert section_of(whole, "cells") is None
    section = section_of(whole, "breakdown")
    assert re.findall(r"<h4>(Accuracy by [^<]*)</h4>", section) == [
        "Accuracy by size of the grid",
        "Accuracy by number of listed objects",
    ]
    assert section.count("Made by <code>") == 2
    shown = rows_of(section)
    size, words = {"small": "1x1", "wide": "1x2"}, {"text": "text", "image": "picture"}
    for row in results["results"]:
        accuracy, interval, n = shown[f"{size[row['part']]}: GPT-2v, {words[row['modality']]}"]
        assert accuracy == percent(row["accuracy"])
        assert interval == " to ".join(map(percent, row["ci95"]))
        assert n == str(row["n_questions"])


@pytest.mark.parametrize("mode", ["independent", "chained"])
def test_earlier_questions_are_told_where_they_are_read(mm_run, tmp_path, mode):
    out = tmp_path / "out"
    argv = ["eval", mm_run, "--n_images", 6, "--mode", mode, "--out", out, "--modalities", "image"]
    argv += ["--grid.instructions", "{lookup: 1, count: 1}", "--grid.questions", 2]
    assert main([*map(str, argv)]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report/index.html").read_text()
    assert "Accuracy by type of question" in page
    assert ("Accuracy by earlier questions" in page) == (mode == "chained")


def test_the_reliability_is_that_of_the_records(mm_run, tmp_path):
    out = tmp_path / "out"
    argv = ["eval", mm_run, "--n_images", 20, "--out", out, "--modalities", "image"]
    argv += ["--grid.instructions", "{lookup: 1, transcribe: 1}", "--grid.questions", 1]
    argv += ["--metrics", "[accuracy, calibration]"]
    assert main([*map(str, argv)]) == 0
    assert main(["report", str(out)]) == 0
    page = (out / "report/index.html").read_text()
    records = pq.read_table(out / "records.parquet")
    found = reliability(records)
    assert found.n_left_out
    assert f"expected calibration error {percent(found.ece)}, Brier score {found.brier:.4f}" in page
    assert f"{found.n_left_out} without listed answers are left out" in page
    rows = {
        row["instruction"]: row for row in json.loads((out / "results.json").read_text())["results"]
    }
    lookups = records.filter(records["instruction"].to_numpy() == "lookup")
    assert rows["lookup"]["ece"] == calibration(lookups)["ece"] == pytest.approx(found.ece)
    assert (rows["transcribe"]["ece"], rows["transcribe"]["n_scored"]) == (None, 0)


def test_renderings_are_compared_with_the_first(mm_run, tmp_path, monkeypatch):
    forms = {"markdown": "markdown", "csv": "csv", "latex": "latex"}
    parts = [
        {
            "name": name,
            "n_images": 20,
            "grid": {"rows": 1, "cols": 2, "form": form},
            "modalities": ["text"],
        }
        for name, form in forms.items()
    ]
    articles, results, _ = evaluated(
        mm_run, tmp_path / "out", monkeypatch, parts=parts, renderings=True
    )
    (spread,) = results["renderings"]
    section = section_of(articles[0], "renderings")
    shown = rows_of(section)
    assert f"text: minus markdown ({percent(spread['accuracy'])})" in section
    for one in spread["differences"]:
        difference, interval = shown[f"{one['part']} ({percent(one['accuracy'])})"]
        assert difference == points(one["difference"])
        assert interval == " to ".join(map(points, one["ci95"]))
    low, high = (percent(spread[key]) for key in ("lowest", "highest"))
    assert f"From {low} ({spread['lowest_part']}) to {high}" in section
    assert all(section_of(article, "renderings") is None for article in articles[1:])
