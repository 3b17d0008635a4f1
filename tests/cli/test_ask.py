"""`gpt2v ask`: what it prints, and its mistakes."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gpt2v.cli.main import main
from gpt2v.cli.terminal import picture_lines, shows_pictures
from helpers import refusal

WORDS = "What object is in row 0, column 1?"


@pytest.fixture
def picture(tmp_path):
    """A file of the size of a 1x2 grid."""
    Image.new("RGB", (32, 16), (10, 20, 30)).save(tmp_path / "own.png")
    return str(tmp_path / "own.png")


def printed(capsys, *argv):
    assert main(["ask", *map(str, argv)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_random_grid_is_asked_in_both_modalities(mm_run, capsys):
    content = json.loads(printed(capsys, mm_run, "--seed", 3, "--json"))
    assert [len(row) for row in content["grid"]] == [2]
    answers = content["answers"]
    assert [(a["modality"], a["question"]) for a in answers] == [
        (modality, f"What object is in row 0, column {col}? A:")
        for modality in ("text", "image")
        for col in (0, 1)
    ]
    assert [a["truth"] for a in answers] == content["grid"][0] * 2
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert max(answer["probabilities"], key=answer["probabilities"].get) == answer["answer"]
    assert content == json.loads(printed(capsys, mm_run, "--seed", 3, "--json"))
    assert content["grid"] != json.loads(printed(capsys, mm_run, "--seed", 4, "--json"))["grid"]


def test_the_table_holds_the_grid_the_answers_and_the_truth(mm_run, capsys):
    content = json.loads(printed(capsys, mm_run, "--question", WORDS, "--json"))
    text, image = content["answers"]
    lines = printed(capsys, mm_run, "--question", WORDS).splitlines()
    assert lines[0] == "picture: 32x16 pixels"
    assert lines[1] == f"| {' | '.join(content['grid'][0])} |"
    assert lines[2] == f"objects: {', '.join(content['palette'])}"
    assert lines[4] == WORDS
    assert lines[5].split() == ["text", "image"]
    for choice, share in text["probabilities"].items():
        if share >= 0.005:
            both = [f"{one['probabilities'][choice]:.1%}" for one in (text, image)]
            assert [choice, *both] in [line.split() for line in lines]
    end = ["answer", text["answer"], image["answer"], "right:", text["truth"]]
    assert lines[-1].split() == end
    assert "\x1b" not in "".join(lines)


def test_a_text_model_is_asked_about_own_words(lm_run, capsys, tmp_path):
    argv = [lm_run, "--question", WORDS, "--json"]
    (tmp_path / "grid.md").write_text("| cat | dog |\n")
    typed = printed(capsys, *argv, "--text", "| cat | dog |")
    assert json.loads(typed)["answers"][0]["truth"] == "dog"
    assert printed(capsys, *argv, "--text", tmp_path / "grid.md") == typed
    two = printed(capsys, lm_run, "--question", "What objects are in row 1?",
                  "--text", r"| cat |\n| dog |")  # fmt: skip
    assert two.splitlines()[:2] == ["| cat |", "| dog |"]
    assert two.rstrip().endswith("right: dog")


def test_an_own_picture(mm_run, picture, capsys):
    argv = ["--image", picture, "--question", WORDS, "--palette", "cat, dog,bird,frog"]
    lines = printed(capsys, mm_run, *argv).splitlines()
    assert lines[0] == "picture: 32x16 pixels"
    assert lines[-1].split()[0] == "answer"
    assert "right" not in lines[-1]


def test_a_free_question_is_answered_in_the_models_words(lm_run, capsys):
    argv = ["--text", "| cat | dog |", "--question", "Hello?", "--free", "--json"]
    (answer,) = json.loads(printed(capsys, lm_run, *argv))["answers"]
    assert (answer["instruction"], answer["probabilities"]) == (None, {})


def test_mistakes_are_one_line_that_names_the_option(mm_run, lm_run, picture, tmp_path, capsys):
    Image.new("RGB", (30, 16)).save(tmp_path / "other.png")
    image, other = ("--image", picture), ("--image", tmp_path / "other.png")
    asked = ("--question", WORDS)
    for argv, says in (
        ((lm_run, *image, *asked), f"--image: {lm_run} is a GPT-2 without vision tower"),
        ((mm_run, *other, *asked), "--image: 30x16 pixels; the model takes 32x16 (1x2 cells)"),
        ((mm_run, "--image", "none.png", *asked), "--image: none.png: cannot be read"),
        ((mm_run, *image), "--question: is missing; only a random grid has questions"),
        ((mm_run, "--free"), "--question: is missing"),
        ((mm_run, *image, "--question", "Why?"), "--question: 'Why?' is no question it knows"),
        ((mm_run, "--palette", "cat"), "--palette: needs --image or --text"),
        ((mm_run, *image, *asked, "--palette", "cow"), "--palette: no object 'cow'"),
        ((mm_run, "--text", "| cow |", *asked), "--text: no object 'cow'"),
        ((mm_run, "--seed", "-1"), "--seed: -1 must be at least 0"),
        ((mm_run, "--grid.rows", "2"), "--grid.rows: ask has no such option"),
        (("./none", *asked), "model: ./none: no such run or checkpoint"),
    ):
        assert says in refusal(capsys, "ask", *argv)


def test_a_picture_that_cannot_be_read_needs_no_torch():
    code = """
import sys
from gpt2v.cli.main import main
assert main(["ask", "./run", "--image", "./none.png", "--question", "Why?"]) == 2
assert "torch" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_terminal_shows_two_pixels_in_each_character(monkeypatch):
    pixels = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]], np.uint8)
    assert picture_lines(pixels, 80) == [
        "\x1b[38;2;1;2;3;48;2;7;8;9m\u2580\x1b[38;2;4;5;6;48;2;10;11;12m\u2580\x1b[0m"
    ]
    lines = picture_lines(np.zeros((96, 300, 3), np.uint8), 41)
    assert {line.count("\u2580") for line in lines} == {40}
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    for stream, colours, shown in (
        (terminal, "truecolor", True),
        (terminal, "", False),
        (io.StringIO(), "truecolor", False),
    ):
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLORTERM", colours)
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert shows_pictures() == shown


def test_a_table_in_a_file_as_editors_on_windows_write_it(mm_run, capsys, tmp_path):
    tables = []
    for name, content in (("plain", "| bird | cat |\n"), ("bom", "\ufeff| bird | cat |\r\n")):
        (tmp_path / name).write_bytes(content.encode())
        argv = [mm_run, "--text", tmp_path / name, "--question", WORDS, "--json"]
        tables.append(json.loads(printed(capsys, *argv)))
    assert tables[0] == tables[1]
