"""docs/architecture.md draws the floors of pyproject.toml; its walks name functions that exist."""

import ast
import re
import tomllib

import pytest

from helpers import REPO

PAGE = (REPO / "docs" / "architecture.md").read_text()
WALKS = dict(re.findall(r"^## (An? \w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SOURCE = REPO / "src" / "gpt2v"


def defined(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """Names of the functions and classes of a module, `Class.method` included."""
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            names |= defined(node.body, f"{prefix}{node.name}.")
    return names


def test_the_drawing_has_the_floors_of_the_linter():
    contracts = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["importlinter"]
    floors = [floor.split(" | ") for floor in contracts["contracts"][0]["layers"]]
    drawing = re.search(r"^```\n(.*?)^```", PAGE, re.M | re.S)[1]
    drawn = [line.split("|")[1].split() for line in drawing.splitlines()]
    assert [set(row) for row in drawn] == [set(floor) for floor in floors]


def test_there_are_five_walks():
    assert list(WALKS) == ["A training", "An evaluation", "A probe", "A ladder", "An export"]


@pytest.mark.parametrize("walk", WALKS)
def test_every_step_of_a_walk_exists(walk):
    steps = re.findall(r"^(\d+)\. `([\w/]+\.py)` (.+?): .+\.?$", WALKS[walk], re.M)
    assert [int(number) for number, *_ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == len(re.findall(r"^\d+\. ", WALKS[walk], re.M)) >= 10
    for _, file, names in steps:
        there = defined(ast.parse((SOURCE / file).read_text()).body)
        named = re.findall(r"`([\w.]+)`", names)
        assert named
        assert set(named) <= there, f"{file}: {set(named) - there}"
