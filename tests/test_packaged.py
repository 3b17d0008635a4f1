"""The files that come with gpt2v have names, in a checkout as in a wheel."""

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import gpt2v
from gpt2v.cli.main import main
from gpt2v.errors import UserError
from gpt2v.packaged import CONFIGS, EXAMPLES
from helpers import REPO, refusal

README = (REPO / "README.md").read_text()


def test_a_name_is_a_file_of_the_package():
    assert CONFIGS.path("gpt2v:lm/grid-tiny").is_file()
    assert CONFIGS.path(Path("gpt2v:lm/grid-tiny")) == CONFIGS.path("gpt2v:lm/grid-tiny")
    assert len(CONFIGS.names()) == len(list(CONFIGS.root.rglob("*.yaml")))
    assert EXAMPLES.names() == ["gpt2v:own_parts"]


@pytest.mark.parametrize("path", ["configs/a.yaml", "./gpt2v:lm/grid-tiny", "lm/grid-tiny", "~"])
def test_everything_else_is_a_path(path):
    assert CONFIGS.path(path) == Path(path)


def test_an_unknown_name_is_answered_with_those_beside_it():
    with pytest.raises(UserError, match=r"^gpt2v:mm/tin: no such .* gpt2v:mm/tiny, ") as caught:
        CONFIGS.path("gpt2v:mm/tin")
    assert "gpt2v:lm" not in str(caught.value)
    with pytest.raises(UserError, match=r"gpt2v:lm/grid-tiny, .*gpt2v:mm/tiny"):
        CONFIGS.path("gpt2v:../../x")


@pytest.mark.parametrize(
    "argv",
    [
        ("lm", "train", "gpt2v:lm/tin"),
        ("eval", "runs/x", "--suite", "gpt2v:eval/tin"),
        ("data", "export", "gpt2v:data/tin", "--to", "x", "--format", "parquet"),
        ("probe", "gpt2v:probe/tin"),
        ("configs", "gpt2v:lm/tin"),
        ("configs", "lm/tin"),
        ("data", "suites", "--import", "gpt2v:tin"),
    ],
)
def test_an_unknown_name_is_one_line(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, *argv)
    assert re.search(r"gpt2v:\S*tin: no such (configuration|example) in gpt2v; choose from", line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv", [("lm", "train"), ("eval", "runs/x", "--suite"), ("data", "preview")]
)
def test_a_path_that_is_missing_names_the_file_that_comes_with_gpt2v(
    argv, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = refusal(capsys, *argv, "configs/lm/grid-tiny.yaml")
    assert line.endswith("; gpt2v:lm/grid-tiny comes with gpt2v")
    assert "comes with gpt2v" not in refusal(capsys, *argv, "configs/lm/mine.yaml")


def test_a_mistake_in_an_option_names_the_configuration(capsys):
    line = refusal(capsys, "lm", "train", "gpt2v:lm/grid-tiny", "--data.stages.9.steps", "1")
    assert "9" in line
    assert "Traceback" not in line


def test_they_are_listed_and_printed(capsys):
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == CONFIGS.names()
    assert all(re.fullmatch(r"\S+ {2,}[A-Z0-9].{20,98}[^:. ]", line) for line in lines)
    for name in ("gpt2v:lm/grid-tiny", "lm/grid-tiny"):
        assert main(["configs", name]) == 0
        assert capsys.readouterr().out == CONFIGS.path("gpt2v:lm/grid-tiny").read_text()


def test_names_in_the_documents_are_names_of_files():
    names = {*CONFIGS.names(), *EXAMPLES.names()}
    pages = [REPO / "README.md", REPO / "CONTRIBUTING.md", *(REPO / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"gpt2v:[a-z][\w/-]*", page.read_text())}
    assert named <= names
    assert len(named) > 15


def test_the_package_says_what_it_is():
    about = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    pythons = {c.rpartition(" ")[2] for c in about["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert about["requires-python"] == f">={min(pythons)}"
    assert all(python in README for python in (min(pythons), max(pythons)))
    assert f"version: {gpt2v.__version__}\n" in (REPO / "CITATION.cff").read_text()


def test_the_page_of_the_package_without_an_address_is_the_readme(monkeypatch):
    monkeypatch.delenv("GPT2V_REPOSITORY", raising=False)
    about = ProjectMetadata(str(REPO), PluginManager()).core
    assert (about.urls, about.readme, about.readme_content_type) == ({}, README, "text/markdown")


def test_the_page_of_a_package_with_an_address_has_urls_and_absolute_links(monkeypatch):
    address = "https://code.example/someone/gpt2v"
    monkeypatch.setenv("GPT2V_REPOSITORY", address + "/")
    about = ProjectMetadata(str(REPO), PluginManager()).core
    assert about.urls["Repository"] == address
    assert f"]({address}/raw/main/docs/report.png)" in about.readme  # the picture itself
    links = re.findall(r"\]\(([^)]*)\)", about.readme)
    assert all(link.startswith("https://") for link in links)
    here = [link.removeprefix(f"{address}/") for link in [*about.urls.values(), *links]]
    files = [link.split("/", 2)[2] for link in here if link.startswith(("blob/main/", "raw/main/"))]
    assert len(files) > 15
    assert all((REPO / file.partition("#")[0]).exists() for file in files)
    back = re.sub(rf"{re.escape(address)}/(blob|raw)/main/", "", about.readme)
    assert back == README  # nothing else has changed


# ---- in a wheel --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel of this checkout holds, as a folder for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = ["pip", "wheel", str(REPO), "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([sys.executable, "-m", *argv, "-w", str(folder)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site"


@pytest.mark.e2e
def test_a_wheel_holds_every_file_of_the_package(installed):
    def files(root):
        return {p.relative_to(root) for p in root.rglob("*") if p.suffix not in ("", ".pyc")}

    beside = {Path(name) / file for name in ("configs", "examples") for file in files(REPO / name)}
    assert files(installed / "gpt2v") == files(REPO / "src" / "gpt2v") | beside
    assert Path("py.typed") in files(installed / "gpt2v")


@pytest.mark.e2e
def test_commands_run_from_a_wheel_outside_the_checkout(installed, tmp_path):
    def run(*argv):
        done = subprocess.run(
            [sys.executable, "-m", "gpt2v", *argv],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    names = [line.split()[0] for line in run("configs").splitlines()]
    assert set(re.findall(r"^gpt2v .*?(gpt2v:\w+/[\w-]+)", README, re.M)) <= set(names)
    small = ["--tiles.per_class", "20", "--n", "1"]
    assert "| " in run("data", "preview", "gpt2v:eval/grid-3x3", *small)
    export = ["--tiles.per_class", "20", "--n_images", "4", "--import", "gpt2v:own_parts"]
    run("data", "export", "gpt2v:data/export-3x3", "--to", "x", "--format", "llava", *export)
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["files"]
