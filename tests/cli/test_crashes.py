"""An error that is no mistake of the user is one line, and a file to mend it by."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import helpers
from gpt2v.cli.main import main
from gpt2v.run_layout import FINISHED
from helpers import TINY_LM, TINY_TILES, write_yaml

PREVIEW = "gpt2v.data.preview.preview"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GPT2V_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "gpt2v" / "crashes"


@pytest.fixture
def words(tmp_path):
    content = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
    return ["data", "preview", str(write_yaml(tmp_path / "c.yaml", content)), "--n", "1"]


def fail(monkeypatch, error, where=PREVIEW):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(where, failing)


def crash(capsys, words, status=1):
    """Run a command that must crash; returns its one line."""
    assert main([str(word) for word in words]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gpt2v: ")
    assert len(line) < 700
    return line


def file_of(line):
    return Path(re.search(r"the traceback is in (\S+)$", line)[1])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero; this is a"),
        (KeyError("a\nb"), "KeyError: 'a\\nb'; this is a mistake in gpt2v"),
        (ValueError(), "ValueError; this is a mistake in gpt2v"),
        (ValueError("first\nsecond"), "ValueError: first; this"),
        (RuntimeError("x" * 10**6), "RuntimeError: xxx"),
        (RuntimeError("\x1b[31mred"), "RuntimeError: \\x1b[31mred; this"),
        (RecursionError("too deep"), "RecursionError: too deep; this"),
        (FileNotFoundError(2, "No such file", "x"), "FileNotFoundError: "),
        (AssertionError(), "AssertionError; this"),
        (MemoryError(), "out of memory (MemoryError); use a smaller batch (data.batch_size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "out of memory (RuntimeError: DefaultCPUAllocator: can't allocate memory",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else type(value).__name__,
)
def test_any_error_is_one_line_and_a_file(cache, words, capsys, monkeypatch, error, says):
    fail(monkeypatch, error)
    line = crash(capsys, words)
    assert says in line
    file = file_of(line)
    assert file.parent == cache
    text = file.read_text("utf-8")
    for part in ("command: gpt2v", "'torch': ", "Traceback (most recent call last)", "per_class: "):
        assert part in text
    assert type(error).__name__ in text


def test_memory_of_a_gpu(cache, words, capsys, monkeypatch):
    import torch

    fail(monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
    assert "gpt2v: out of memory (OutOfMemoryError: CUDA out of memory" in crash(capsys, words)


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory",
        "[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: not enough memory",
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)",
    ],
)
def test_memory_in_the_words_of_each_system(cache, words, capsys, monkeypatch, message):
    fail(monkeypatch, RuntimeError(message))
    assert "gpt2v: out of memory (RuntimeError: " in crash(capsys, words)


def test_an_error_that_is_no_exception(cache, words, capsys, monkeypatch):
    """As a panic of a library that is written in Rust."""

    class PanicException(BaseException):
        pass

    fail(monkeypatch, PanicException("index out of bounds"))
    assert "PanicException: index out of bounds" in crash(capsys, words)


def test_an_error_whose_message_cannot_be_shown(cache, words, capsys, monkeypatch):
    class Strange(Exception):
        def __str__(self):
            raise ValueError

    fail(monkeypatch, Strange())
    assert "Strange" in crash(capsys, words)


def test_an_earlier_file_is_never_replaced(cache, words, capsys, monkeypatch):
    fail(monkeypatch, ValueError("x"))
    assert len({file_of(crash(capsys, words)) for _ in range(3)}) == 3
    assert len(list(cache.iterdir())) == 3


def test_an_error_while_another_one_is_answered(cache, words, capsys, monkeypatch):
    def failing(*_):
        try:
            raise ValueError("the first")
        finally:
            raise KeyError("the second")

    monkeypatch.setattr(PREVIEW, failing)
    line = crash(capsys, words)
    assert "KeyError: 'the second'" in line
    assert "the first" in file_of(line).read_text()


def test_a_cache_that_cannot_be_written(cache, words, capsys, monkeypatch, tmp_path):
    cache.parents[1].write_text("a file")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    fail(monkeypatch, ValueError("x"))
    assert file_of(crash(capsys, words)).parent == tmp_path / "temporary"
    monkeypatch.setattr("tempfile.tempdir", "/dev/null/none")
    line = crash(capsys, words)
    assert "ValueError: x; " in line
    assert "no crash report could be written" in line
    monkeypatch.setattr("gpt2v.cli.crashes._report", lambda error: 1 / 0)
    assert "ValueError; no crash report could be written: ZeroDiv" in crash(capsys, words)


def test_what_cannot_be_told_leaves_the_rest(cache, words, capsys, monkeypatch):
    monkeypatch.setattr("gpt2v.cli.crashes.versions", lambda: 1 / 0)
    monkeypatch.setattr("gpt2v.cli.crashes.os.getcwd", lambda: [][0])  # it was removed meanwhile
    fail(monkeypatch, ValueError("x"), "gpt2v.cli.data.load")
    monkeypatch.setattr("gpt2v.cli.main._check_folder", lambda: None)
    text = file_of(crash(capsys, words)).read_text()
    assert "folder: cannot be told: IndexError" in text
    assert "versions: cannot be told: ZeroDivisionError" in text
    assert "ValueError: x" in text


@pytest.mark.parametrize("code", [None, 0, 3, "bye"])
def test_a_command_that_is_left_by_exit(cache, words, capsys, monkeypatch, code):
    """It would end without a word, with status 0."""
    fail(monkeypatch, SystemExit(code))
    assert f"RuntimeError: SystemExit: {code}; this is a mistake in" in crash(capsys, words)


def test_a_pipe_that_is_not_the_output(cache, words, capsys, monkeypatch):
    fail(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert "BrokenPipeError: [Errno 32] Broken pipe; this is" in crash(capsys, words)


@pytest.mark.parametrize("is_windows", [True, False])
def test_a_closed_pipe_of_windows(cache, words, capsys, monkeypatch, is_windows):
    """It is an invalid argument there, and nowhere else."""
    fail(monkeypatch, OSError(errno.EINVAL, "Invalid argument"))
    dropped = []
    monkeypatch.setattr("gpt2v.cli.main._drop_output", lambda: dropped.append(True))
    if is_windows:
        monkeypatch.delattr("select.poll")
        assert main(words) == 141
        assert capsys.readouterr().err == ""
    else:
        assert "OSError: [Errno 22] Invalid argument; this is a mistake" in crash(capsys, words)
    assert dropped == [True] * is_windows


def test_a_reader_that_has_gone_is_no_error(words, tmp_path):
    command = [sys.executable, "-m", "gpt2v", *words[:-1], "400", "--png", str(tmp_path / "p.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_traceback_can_be_hidden(cache, words, capsys, monkeypatch):
    fail(monkeypatch, ValueError("x"))
    monkeypatch.setenv("GPT2V_DEBUG", "0")
    crash(capsys, words)


def test_the_traceback_can_be_shown(cache, words, capsys, monkeypatch):
    fail(monkeypatch, ValueError("x"))
    monkeypatch.setenv("GPT2V_DEBUG", "1")
    assert main(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1].startswith("gpt2v: ValueError: x")


OWN = """
import multiprocessing

from gpt2v.data.render.forms import _csv
from gpt2v.registry import EXECUTORS, TEXT_FORMS

@EXECUTORS.register("broken")
def broken(job, pieces, workers):
    for piece in pieces:
        yield int("x")

@TEXT_FORMS.register("fragile")
def fragile(*words):
    if multiprocessing.parent_process() is not None:
        raise ValueError("in a worker")
    return _csv(*words)
"""


@pytest.mark.parametrize(
    ("options", "says", "number"),
    [
        (["--executor", "broken"], "invalid literal for int() with base 10: 'x'", 10),
        (
            ["--executor", "processes", "--workers", "1", "--grid.form", "fragile"],
            "in a worker",
            15,
        ),
    ],
    ids=["here", "in a worker"],
)
def test_a_mistake_in_a_file_of_the_user(cache, words, capsys, tmp_path, options, says, number):
    own = tmp_path / "own.py"
    own.write_text(OWN)
    export = ["data", "export", words[2], "--to", "e", "--format", "folder", "--n_images", "2"]
    with helpers.forget_imports():
        line = crash(capsys, [*export, *options, "--import", own])
    assert f"ValueError: {says}; this is a mistake in {own}, line {number}; " in line
    assert "ValueError: " + says in file_of(line).read_text()


def test_a_run_that_is_replaced_is_put_back(cache, tmp_path, capsys, monkeypatch):
    short = {"batch_size": 4, "stages": [{"steps": 1, "mix": [{"rows": 1, "cols": 2}]}]}
    config = write_yaml(tmp_path / "lm.yaml", {**TINY_LM, "data": short})
    argv = ["lm", "train", config, "--out", "r", "--train.eval_grids", "2"]
    assert main([str(word) for word in argv]) == 0
    before = Path("r", FINISHED).read_bytes()
    capsys.readouterr()
    fail(monkeypatch, ValueError("late"), "gpt2v.lm_train.train.load_bank")
    line = crash(capsys, [*argv, "--overwrite"])
    assert "ValueError: late" in line
    assert Path("r", FINISHED).read_bytes() == before
    assert "config.yaml:" in file_of(line).read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "r"))) == ["r"]


# ---- processes -------------------------------------------------------------------------------


def python(code, *words, **env):
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


HOOKS = """
import atexit, sys, threading
from gpt2v.__main__ import main
import gpt2v.cli.main as command

class Last:
    def __del__(self):
        raise ValueError("in a destructor")

def work(argv):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    del (one := [Last()])[0]
    atexit.register(lambda: {}["at the exit"])

command._command = work
sys.exit(main())
"""


def test_errors_in_threads_in_destructors_and_at_the_exit(cache):
    done = python(HOOKS)
    lines = done.stderr.splitlines()
    assert [line.split("; ")[0] for line in lines] == [
        "gpt2v: ZeroDivisionError: division by zero",
        "gpt2v: ValueError: in a destructor",
        "gpt2v: KeyError: 'at the exit'",
    ]
    assert all(file_of(line).is_file() for line in lines)


CTRL_C = """
import atexit, os, signal, sys
from gpt2v.__main__ import main
import gpt2v.cli.main as command

def work(argv):
    {work}

command._command = work
sys.exit(main())
"""


@pytest.mark.parametrize(
    "work",
    [
        "exec('os.kill(os.getpid(), signal.SIGINT); [i for i in range(10**6)]')",
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)",
    ],
    ids=["while Python runs text", "at the exit"],
)
def test_ctrl_c_at_odd_moments(work):
    done = python(CTRL_C.replace("{work}", work))
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "gpt2v: stopped\n")


def test_ctrl_c_before_the_first_import():
    code = "import os, gpt2v.__main__; os.kill(os.getpid(), 2); print('not reached')"
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")
