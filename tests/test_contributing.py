"""The recipes of CONTRIBUTING.md: each file is imported, and its commands run, made small."""

import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gpt2v import extensions
from gpt2v.cli.main import main
from gpt2v.data.export.shards import ExportJob
from gpt2v.errors import UserError
from helpers import REPO, TINY_MM, TINY_TILES, forget_imports, write_yaml

PAGE = (REPO / "CONTRIBUTING.md").read_text()
RECIPE = r"^### (.*?)\n.*?^```python\n# (\w+\.py)\n(.*?)^```\n\n```\n(.*?)^```"
RECIPES = {title: rest for title, *rest in re.findall(RECIPE, PAGE, re.M | re.S)}
GRID = {"rows": 1, "cols": 2}


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Runs a recipe's commands on its file.

    The names and runs of the page are replaced by small ones.
    """
    monkeypatch.chdir(tmp_path)

    def run(title, small):
        file, code, commands = RECIPES[title]
        Path(file).write_text(code)
        for line in commands.splitlines():
            argv = [str(small.get(word, word)) for word in shlex.split(line)[1:]]
            assert f"--import {file}" in line
            assert main(argv) == 0

    with forget_imports():
        extensions._imported = {}
        yield run


def test_there_are_five_recipes():
    assert list(RECIPES) == [
        "A projector",
        "An instruction",
        "A rung",
        "A metric, with its section of the report",
        "An executor",
    ]


def test_the_places_that_the_page_names_exist():
    paths = re.findall(r"`((?:model|config|data|ablate|eval|report|execute|tests)/[\w/.]*)`", PAGE)
    assert len(paths) > 7
    for path in paths:
        assert (REPO / path).exists() or (REPO / "src" / "gpt2v" / path).exists(), path


def test_the_projector(follow, lm_run):
    config = write_yaml(Path("mm.yaml"), {**TINY_MM, "lm": str(lm_run)})
    follow("A projector", {"gpt2v:mm/tiny": config})
    saved = Path("runs/norm-linear/checkpoints/step-000003/config.json").read_text()
    assert json.loads(saved)["projector"] == "norm-linear"


def test_the_instruction(follow, capsys):
    content = {"tiles": TINY_TILES, "grid": {"rows": 3, "cols": 3, "palette": 2}}
    config = write_yaml(Path("eval.yaml"), content)
    follow("An instruction", {"gpt2v:eval/grid-3x3": config})
    samples = capsys.readouterr().out.split("--- test sample ")[1:]
    answers = []
    for sample in samples:
        table = [re.findall(r"\w+", line) for line in re.findall(r"^\|(.*)\|$", sample, re.M)]
        for row, answer in re.findall(r"Does row (\d) begin and end alike\? A: (\w+)", sample):
            assert answer == ("yes" if table[int(row)][0] == table[int(row)][-1] else "no")
            answers.append(answer)
    assert len(answers) == 6
    assert set(answers) == {"yes", "no"}


def test_the_rung(follow, mm_run):
    content = {"tiles": TINY_TILES, "grid": GRID, "n_images": 4, "model": str(mm_run)}
    config = write_yaml(Path("ladder.yaml"), content)
    follow("A rung", {"gpt2v:ablate/tokens-short": config})
    rows = json.loads(Path("runs/noisy-ladder/results.json").read_text())["results"]
    assert [(row["rung"], row["parent"]) for row in rows][2] == ("noisy", "R3")


def test_the_metric(follow, mm_run):
    config = write_yaml(Path("eval.yaml"), {"tiles": TINY_TILES, "grid": GRID, "n_images": 8})
    small = {"gpt2v:eval/grid-3x3": config, "runs/tiny": mm_run}
    follow("A metric, with its section of the report", small)
    results = json.loads(Path("runs/tiny-brier/results.json").read_text())["results"]
    rows = pq.read_table("runs/tiny-brier/records.parquet").to_pandas()
    assert all(0 < row["brier"] < 2 for row in results)
    assert len(results) == rows.modality.nunique() == 2
    page = Path("runs/tiny-brier/report/index.html").read_text()
    assert f"<th scope='row'>lookup, image</th><td>{results[1]['brier']:.3f}</td>" in page


def test_the_executor(follow, monkeypatch):
    content = {"tiles": TINY_TILES, "grid": GRID, "n_images": 4, "shard_size": 2}
    config = write_yaml(Path("export.yaml"), content)
    do, fails = ExportJob.do, [True, True, False, False]

    def sometimes(job, piece):
        if fails.pop(0):
            raise UserError("the disk is not there")
        do(job, piece)

    monkeypatch.setattr(ExportJob, "do", sometimes)
    option = "{name: patient, tries: 5}"
    small = {"gpt2v:data/export-3x3": config, option: "{name: patient, tries: 3, wait: 0}"}
    follow("An executor", small)
    assert fails == []
    assert len(list(Path("runs/export-patient/data").glob("*.parquet"))) == 2
