"""Where a measurement is written if the user names no directory: never into another run."""

import argparse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from gpt2v.cli.main import main
from gpt2v.cli.running import measuring_run
from gpt2v.errors import UserError
from gpt2v.runs import new_numbered_run, write_results
from helpers import TINY_LM, TINY_TILES, refusal, write_yaml

EVAL = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4, "examples": 0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def args(**changes):
    return argparse.Namespace(**{"out": None, "overwrite": False, **changes})


def finished(out):
    """A finished run in a numbered directory."""
    with new_numbered_run(Path(out)) as run:
        write_results(run, "eval", 0.0)
    return run


@pytest.mark.parametrize(
    ("kind", "model", "of", "name"),
    [
        ("eval", "runs/tiny", "palette-v1", "eval-tiny-palette-v1"),
        ("eval", "runs/tiny/", None, "eval-tiny"),
        ("eval", "runs/tiny", "gpt2v:eval/grid-3x3", "eval-tiny-grid-3x3"),
        ("eval", "runs/tiny", "runs/other/config.yaml", "eval-tiny"),
        ("eval", "runs/demo/mm", None, "eval-demo-mm"),
        ("eval", "runs/tiny/checkpoints/step-000400", None, "eval-tiny-step-000400"),
        ("eval", "/x/tiny/checkpoints/step-000400", None, "eval-tiny-step-000400"),
        ("eval", "../tiny", None, "eval-tiny"),
        ("eval", "openai-community/gpt2", None, "eval-gpt2"),
        ("eval", "runs/été d'or", None, "eval-été_d_or"),
        ("probe", "runs/tiny", "gpt2v:probe/grid-3x3", "probe-tiny-grid-3x3"),
    ],
)
def test_a_directory_is_named_after_what_is_measured(kind, model, of, name):
    with measuring_run(args(), kind, model, of) as run:
        assert run == Path("runs", name)


def test_the_second_run_has_a_number_and_says_why(capsys):
    names = [str(finished("runs/e")) for _ in range(3)]
    assert names == ["runs/e", "runs/e-2", "runs/e-3"]
    for said in ("", " (runs/eval-tiny exists; --out chooses another)"):
        with measuring_run(args(), "eval", "runs/tiny", None) as run:
            write_results(run, "eval", 0.0)
        assert capsys.readouterr().out == f"run: {run}{said}\n"
    with measuring_run(args(), "eval", "runs/tiny-2", None) as run:
        assert run == Path("runs/eval-tiny-2-2")  # that of tiny is there
    with measuring_run(args(), "eval", "runs/x-2", None):
        pass
    with measuring_run(args(out="runs/y"), "eval", "runs/x-2", None):
        pass
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == ["run: runs/eval-x-2", "run: runs/y"]


def test_what_is_there_already_stays():
    Path("runs").mkdir()
    Path("runs/e").write_text("a thesis")
    Path("runs/e-2").mkdir()
    Path("runs/e-2/notes.txt").touch()
    Path("runs/e-3").mkdir()  # empty
    assert finished("runs/e") == Path("runs/e-3")
    assert Path("runs/e").read_text() == "a thesis"
    assert Path("runs/e-2/notes.txt").exists()


def test_the_first_run_is_replaced_on_request():
    for _ in range(2):
        finished("runs/eval-tiny")
    with measuring_run(args(overwrite=True), "eval", "runs/tiny", None) as run:
        assert run == Path("runs/eval-tiny")


def test_commands_at_the_same_time_get_different_directories():
    together, n = Barrier(4), 4

    def work(_):
        together.wait()
        with new_numbered_run(Path("runs/e")) as run:
            together.wait()  # all of them are at work
            return run

    with ThreadPoolExecutor(n) as pool:
        found = set(pool.map(work, range(n)))
    assert found == {Path("runs/e"), *(Path(f"runs/e-{i}") for i in range(2, n + 1))}


def test_a_folder_in_which_nothing_can_be_written_is_no_reason_to_try_others():
    Path("runs").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"), ExitStack() as stack:
        stack.enter_context(new_numbered_run(Path("runs/e")))


def test_an_evaluation_says_where_it_is(lm_run, capsys):
    write_yaml(Path("c.yaml"), {**EVAL, "modalities": ["text"]})
    for name in (f"eval-{lm_run.name}-c", f"eval-{lm_run.name}-c-2"):
        assert main(["eval", str(lm_run), "--suite", "c.yaml"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith(f"run: runs/{name}")
        assert (" exists;" in last) == name.endswith("-2")
        assert Path("runs", name, "results.json").is_file()


def test_a_training_that_exists_says_what_to_do(capsys):
    write_yaml(Path("c.yaml"), TINY_LM)
    words = ["lm", "train", "c.yaml", "--data.stages.0.steps", "1", "--train.eval-grids", "2"]
    assert main(words) == 0
    capsys.readouterr()
    said = refusal(capsys, *words)
    assert "runs/c: already holds a run; " in said
    for option in ("--resume", "--overwrite", "--out"):
        assert option in said
