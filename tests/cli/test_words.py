"""The words of a command line, where it runs, and what it prints: nothing is silently wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gpt2v.cli.main import main
from helpers import TINY_LM, TINY_TILES, picture_folder, refusal, write_yaml

GRID = {"rows": 1, "cols": 2, "palette": 2}
CONTENT = {"tiles": TINY_TILES, "grid": GRID, "n_images": 2}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_yaml(tmp_path / "c.yaml", CONTENT)


def preview(config, *options):
    return ["data", "preview", str(config), "--n", "1", *options]


@pytest.mark.parametrize(
    "name", ["photos #2", "a: b", "[v1]", "*x", "null x", "123", "1e3", "é 😀"]
)
def test_a_folder_with_an_odd_name(config, capsys, name):
    """It is found, and written so that the file reproduces the run."""
    picture_folder(Path(name), names=("ant", "bee"), n=10)
    (Path("photos") / "ant").mkdir(parents=True)  # what is left of a comment
    write_yaml(config, {**CONTENT, "tiles": {"size": 16}})
    words = ["data", "export", str(config), "--format", "folder", "--tiles.source", "folder"]
    assert main([*words, "--to", "e", "--tiles.path", name, "--grid.palette", "2"]) == 0
    written = yaml.safe_load(Path("e/config.yaml").read_text("utf-8"))
    assert written["tiles"]["path"] == name
    again = ["data", "export", "e/config.yaml", "--format", "folder", "--to", "f"]
    assert main(again) == 0
    assert Path("f/config.yaml").read_bytes() == Path("e/config.yaml").read_bytes()


def test_null_is_none_where_that_is_possible(config, capsys):
    write_yaml(config, {**CONTENT, "tiles": {**TINY_TILES, "path": "x"}})
    words = ["data", "export", str(config), "--format", "folder", "--to", "e"]
    assert main([*words, "--tiles.path", "null"]) == 0
    assert yaml.safe_load(Path("e/config.yaml").read_text())["tiles"]["path"] is None
    said = refusal(capsys, *preview(config, "--tiles.source", "null"))
    assert "no such tile source: 'null'" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tiles.path", "--n_images", "2"], "--tiles.path: needs a value"),
        (["--tiles.path"], "--tiles.path: needs a value"),
        (["--seed", "1", "--seed", "2"], "--seed: given twice"),
        (["--grid.rows=1", "--grid.rows", "2"], "--grid.rows: given twice"),
        (["--png", "a", "--png=b"], "--png: given twice"),
        (["--tiles.per-class=1", "--tiles.per_class=2"], "--tiles.per_class: given twice"),
        (["--grid.augment.index-bases"], "--grid.augment.index-bases: needs a value"),
        (["--seed"], "--seed: expected one argument (see gpt2v data preview --help)"),
        (["--seed", "1_000"], "seed: Input should be a valid integer, not '1_000'"),
        (["--seed", "٣"], "seed: Input should be a valid integer, not '٣'"),
        (["--seed="], "seed: Input should be a valid integer, not ''"),
        (["--seed", "1:30"], "not '1:30'"),
        (["--seed=-1"], "seed: Input should be greater than or equal to 0, not -1"),
        (["--seed", "9" * 5000], "5000 characters is too long"),
        (["--seed", "9" * 30], "seed: must have at most 64 bits, not 9999"),
        (["--tiles.augment.blur", ".nan"], "tiles.augment.blur: must be a number, not nan"),
        (["--tiles.augment.blur", "1e999"], "is too large"),
        (["--grid.rows.²", "1"], "no key '²'"),
        (["--grid.augment.paraphrase", "yes"], "not 'yes'; write true or false"),
        (["--grid.form", "x" * 10**5], "no such text form: 'xxx"),
        (["--grid." + "x" * 10**5, "1"], "unknown key"),
        (["--grid.form", "a\nb\x1b[31m"], "no such text form: 'a\\nb\\x1b[31m'"),
        (["--tiles.path", "a\udcff"], "tiles.path: must be text in UTF-8, not 'a\\udcff'"),
        (["--a\udcff", "1"], "'a\\udcff': a key must be text in UTF-8"),
        (["--x" + "y" * 10**5], "needs a value"),
        (["x" * 10**5], "unexpected argument: xxx"),
    ],
)
def test_words_that_are_wrong_are_one_short_line(config, capsys, options, says):
    said = refusal(capsys, *preview(config, *options))
    assert says in said
    assert len(said) < 700
    assert said.isprintable()


@pytest.mark.parametrize("number", ["1_0", "٣", " 3", "1.0", "9" * 5000])
def test_numbers_of_options_that_are_no_fields(config, capsys, number):
    words = ["data", "preview", str(config), "--n", number]
    assert "--n: must be a whole number, not '" in refusal(capsys, *words)


@pytest.mark.parametrize(
    "words",
    [["lm", "sample", "m", "--prompt", "a\udcff"], ["eval", "\udcff"], ["report", "\udcff"]],
)
def test_words_that_are_not_in_utf_8(config, capsys, words):
    assert "\\udcff" in refusal(capsys, *words)


def test_numbers_are_those_of_yaml_1_2(config, tmp_path):
    words = ["data", "export", str(config), "--format", "folder", "--to", "e", "--seed", "010"]
    assert main(words) == 0
    assert yaml.safe_load(Path("e/config.yaml").read_text())["seed"] == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed: 1:30", "not '1:30'"),
        ("seed: 2024-02-30", "not '2024-02-30'"),
        ("grid: {rows: {{ rows }}}", "line 1: not valid YAML: a key must be"),
        ("seed: 99999999999999999999999", "seed: must have at most 64 bits"),
        ("grid: {noise: .nan}", "grid.noise: must be a number, not nan"),
        ("grid: {noise: .inf}", "grid.noise: Input should be a finite number, not inf"),
        ("null: 1", "None: a key must be a name"),
        ("true: 1", "True: a key must be a name"),
        ("grid: {1.5: 1}", "grid.1.5: a key must be a name"),
        ("1: 1", "1: Keys should be strings, not 1"),
        ("tiles: {path: 3}", "tiles.path: Input should be a valid string, not 3; put it in quotes"),
        ('tiles: {path: "a\\0b"}', "tiles.path: must not hold the character U+0000"),
        (
            f"tiles: {{path: [{'x' * 10**5}]}}",
            "be a valid string, not ['xx",
        ),
        (f"? {'k' * 10**5}\n: 1", "unknown key"),
        ("grid: {form: {name: csv, x: 1}}", "grid.form: x: the text form 'csv' has no options"),
        ("a: &a [x]\nb: &b [*a, *b]", "an alias of something that it is a part of"),
    ],
)
def test_a_file_that_is_wrong_is_one_short_line(config, capsys, text, says):
    config.write_text(text, encoding="utf-8")
    said = refusal(capsys, *preview(config))
    assert f"{config}: " in said
    assert says in said
    assert len(said) < 700
    assert said.isprintable()


def test_a_stage_that_is_given_twice_by_number(tmp_path, capsys):
    groups = "[{name: a, pattern: ''}]"
    text = yaml.safe_dump({k: v for k, v in TINY_LM.items() if k != "train"})
    file = tmp_path / "lm.yaml"
    file.write_text(f"{text}train: {{stage_groups: {{0: {groups}, '0': {groups}}}}}\n")
    said = refusal(capsys, "lm", "train", file, "--out", tmp_path / "r")
    assert "train.stage_groups: a stage is given twice" in said
    file.write_text(f"{text}train: {{stage_groups: {{0: {groups}}}}}\n")
    words = ["lm", "train", file, "--out", tmp_path / "r", "--train.stage_groups.0.0.lr", "-1"]
    assert "train.stage_groups.0.0.lr: " in refusal(capsys, *words)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_a_file_in_another_encoding(config, capsys, encoding):
    config.write_text("# é\nseed: 1\n", encoding=encoding)
    said = refusal(capsys, *preview(config))
    assert "not a text file in UTF-8" in said or "U+0000 is not allowed" in said


# ---- processes -------------------------------------------------------------------------------


def run(folder, *words, **env):
    return subprocess.run(
        [sys.executable, "-m", "gpt2v", *words],
        cwd=folder,
        capture_output=True,
        env={**os.environ, **env},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_is_not_in_utf_8(tmp_path, encoding):
    """What it cannot show is escaped; files are in UTF-8."""
    picture_folder(tmp_path / "中 😀", names=("ant中", "bee中"), n=10)
    tiles = {"source": "folder", "path": "中 😀", "size": 16}
    text = yaml.safe_dump({**CONTENT, "tiles": tiles}, allow_unicode=True)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    env = {"PYTHONIOENCODING": encoding}
    done = run(tmp_path, *preview("c.yaml"), **env)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)  # its font lacks a letter
    assert b"['bee\\u4e2d', 'ant\\u4e2d']" in done.stdout or b"['ant\\u4e2d'," in done.stdout
    export = ["data", "export", "c.yaml", "--format", "folder", "--to", "é"]
    assert run(tmp_path, *export, **env).returncode == 0
    assert "bee中" in (tmp_path / "é" / "README.md").read_text("utf-8")
    wrong = run(tmp_path, *preview("c.yaml", "--grid.form", "中"), **env)
    assert wrong.returncode == 2
    assert b"no such text form: '\\u4e2d'" in wrong.stderr


def test_a_machine_without_utf_8(tmp_path):
    """Names that are not ASCII are not known to Python there."""
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    write_yaml(tmp_path / "c.yaml", CONTENT)
    assert run(tmp_path, *preview("c.yaml"), **env).returncode == 0
    for option in ("--tiles.path", "--grid.form", "--out"):
        done = run(tmp_path, *preview("c.yaml", option, "中"), **env)
        (line,) = done.stderr.decode("ascii").splitlines()
        assert (done.returncode, line[:7]) == (2, "gpt2v: ")


def test_a_current_folder_that_was_removed(tmp_path):
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from gpt2v.__main__ import main; sys.exit(main())"
    )
    # -P: the current folder is no place of modules, as for the command `gpt2v`.
    words = [sys.executable, "-P", "-c", code, "data", "suites"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("gpt2v: the current folder has been removed; change to another one\n")


@pytest.mark.parametrize(
    "command", ["data export gpt2v:data/export-3x3 --format llava", "mm export model"]
)
@pytest.mark.parametrize("place", ["loop", "loop/x"])
def test_a_place_behind_a_link_to_itself(tmp_path, monkeypatch, capsys, command, place):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    said = refusal(capsys, *command.split(), "--to", place)
    assert said == f"gpt2v: --to: {place}: a symbolic link in it leads to itself"


# ---- dashes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--tiles-path", "--tiles_path"])
def test_dashes_and_underscores_are_the_same_in_every_option(config, capsys, option):
    said = refusal(capsys, "demo", "--tiles", "folder", option, "none", "--out", "d")
    assert said.startswith("gpt2v: --tiles-path: none: no such folder")


def test_two_dashes_alone_are_no_option(config, capsys):
    said = refusal(capsys, "data", "preview", "--", "--help")
    assert "--help: cannot read the configuration" in said
