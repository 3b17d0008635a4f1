"""A disk that is full or read-only is one line, exit status 2, and nothing is lost or half-written.

At each file that is synced, one after the other; and with a limit on the size of files, which the
operating system enforces for every write, whoever makes it.
"""

import errno
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

import pytest

from gpt2v.cli.main import main
from helpers import (
    QUICK_PROBE,
    REPO,
    TINY_ENCODER,
    TINY_LM,
    TINY_MM,
    TINY_TILES,
    is_progress,
    write_yaml,
)

GRID = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
SHORT = {"batch_size": 4, "stages": [{"steps": 4, "mix": [{"rows": 1, "cols": 2}]}]}
# By command: the option of its folder, and a file that only a finished result has.
COMMANDS = {
    "lm": ("--out", "results.json"),
    "encoder": ("--out", "results.json"),
    "mm": ("--out", "results.json"),
    "eval": ("--out", "results.json"),
    "probe": ("--out", "results.json"),
    "ladder": ("--out", "results.json"),
    "report": ("--out", "index.html"),
    "export": ("--to", "manifest.json"),
    "parquet": ("--to", "manifest.json"),
    "llava": ("--to", "MANIFEST.json"),
    "tokenize": ("--out", "train/meta.json"),
}


@pytest.fixture
def words(tmp_path, lm_run, mm_run, request):
    """The words of the command, without its folder."""
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(f"story {i}" for i in range(200)))
    corpus = {"corpus": str(tmp_path / "text.txt"), "context": 16}
    configs = {
        "lm": {**TINY_LM, "data": SHORT},
        "encoder": TINY_ENCODER,
        "mm": {**TINY_MM, "lm": str(lm_run), "features": {"path": str(tmp_path / "cache")}},
        "eval": {**GRID, "n_images": 2, "examples": 1},
        "probe": {**GRID, "model": str(mm_run), **QUICK_PROBE},
        "ladder": {**GRID, "model": str(mm_run), "n_images": 2, "rungs": ["R0", "R4"]},
        "export": {**GRID, "n_images": 4, "shard_size": 2},
        "tokenize": {**TINY_LM, "data": {"stages": [{"steps": 2, "mix": [corpus]}]}},
    }
    yaml = {name: str(write_yaml(tmp_path / f"{name}.yaml", c)) for name, c in configs.items()}
    measured = tmp_path / "measured"
    if request.node.callspec.params["command"] == "report":
        run = ["eval", str(mm_run), "--suite", yaml["eval"], "--out", str(measured)]
        assert main(run) == 0
    return {
        "lm": ["lm", "train", yaml["lm"]],
        "encoder": ["encoder", "train", yaml["encoder"]],
        "mm": ["mm", "train", yaml["mm"]],
        "eval": ["eval", str(mm_run), "--suite", yaml["eval"]],
        "probe": ["probe", yaml["probe"]],
        "ladder": ["ablate", "tokens", yaml["ladder"]],
        "report": ["report", str(measured)],
        "export": ["data", "export", yaml["export"], "--format", "folder"],
        "parquet": ["data", "export", yaml["export"], "--format", "parquet"],
        "llava": ["mm", "export", str(mm_run)],
        "tokenize": ["data", "tokenize", yaml["tokenize"]],
    }[request.node.callspec.params["command"]]


def one_line(capsys):
    said = capsys.readouterr().err.splitlines()
    lines = [line for line in said if not is_progress(line)]
    assert len(lines) == 1, said
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_at_every_file(tmp_path, capsys, monkeypatch, words, command):
    option, final = COMMANDS[command]
    out, real, writes = tmp_path / "out", os.fsync, 0
    while True:
        left = [writes]

        def fsync(handle, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        capsys.readouterr()
        if main([*words, option, str(out)]) == 0:
            break
        assert "No space left on device" in one_line(capsys)
        if command == "report":  # a page that is there is whole: only its folder was not synced
            pages = [path.read_text() for path in out.iterdir()] if out.exists() else []
            assert not pages or (len(pages) == 1 and pages[0].endswith("</html>\n"))
        elif command in ("export", "parquet"):  # unfinished; the next command continues it
            assert not (out / final).exists() or not (out / ".export").exists()
        elif any(out.glob("shards/*.parquet")):  # --resume continues it
            assert not (out / final).exists()
            shutil.rmtree(out)
        elif any(out.glob("checkpoints/step-*")):
            assert main([*words, option, str(out), "--overwrite"]) == 2
            capsys.readouterr()
        else:
            assert not out.exists()
        writes += 1
        if writes > 12:  # the rest is alike
            monkeypatch.setattr(os, "fsync", real)
            more = ["--overwrite"] if any(out.glob("checkpoints/*")) else []
            assert main([*words, option, str(out), *more]) == 0
            break
    assert writes > 1
    assert (out / final).is_file()


@contextmanager
def files_up_to(size):
    """In this block no file can become larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("size", [0, 150, 2_000, 8_000, 60_000])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_write_can_fail(tmp_path, capsys, words, command, size):
    option, final = COMMANDS[command]
    out, old = tmp_path / "out", tmp_path / "old"
    if command not in ("report", "tokenize"):  # which have no --overwrite
        assert main([*words, option, str(old)]) == 0
        before = tree(old)
        capsys.readouterr()
        with files_up_to(size):
            status = main([*words, option, str(old), "--overwrite"])
        if status == 2:
            aside = tmp_path / ".old.1.gpt2v-replaced"
            if aside.exists():  # the new one has a checkpoint, or a shard
                assert {str(p).replace(str(old), str(aside)) for p in before} == set(tree(aside))
            else:
                assert tree(old) == before
    capsys.readouterr()
    with files_up_to(size):
        status = main([*words, option, str(out)])
    assert status in (0, 2)
    if status == 2:
        assert "File too large" in one_line(capsys)
        assert not (out / final).exists()
        assert not list(out.rglob("*unfinished"))
        if command not in ("export", "parquet"):
            assert not out.exists() or any(out.glob("checkpoints/step-*"))
    else:
        assert (out / final).is_file()
    if size == 0:
        assert status == 2


# ---- standard output -----------------------------------------------------------------------------

FULL = "/dev/full"


@pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [["data", "suites"], ["--help"], ["data", "preview", "c.yaml", "--n", "1"]]
)
def test_standard_output_on_a_full_disk(tmp_path, words):
    write_yaml(tmp_path / "c.yaml", {"tiles": TINY_TILES})
    with open(FULL, "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gpt2v", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPO / "src")},
        )
    assert done.stderr == "gpt2v: standard output: cannot be written: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")
@pytest.mark.parametrize("buffering", [1, -1])  # written line by line, or at the end
@pytest.mark.parametrize("command", ["lm", "eval", "export"])
def test_standard_output_of_longer_work(tmp_path, capsys, monkeypatch, words, command, buffering):
    option, final = COMMANDS[command]
    with open(FULL, "w", buffering) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*words, option, str(tmp_path / "out")]) == 2
        monkeypatch.undo()
    said = one_line(capsys)
    assert said == "gpt2v: standard output: cannot be written: No space left on device"
    assert (tmp_path / "out" / final).is_file() or not (tmp_path / "out").exists()


@pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no /dev/full")
def test_a_progress_line_that_cannot_be_written_is_no_reason_to_stop(tmp_path, monkeypatch):
    """A training was removed because of it."""
    config = write_yaml(tmp_path / "c.yaml", {**TINY_LM, "data": SHORT})
    monkeypatch.setattr("gpt2v.progress._PLAIN_EVERY", 0.0)
    with suppress(OSError), open(FULL, "w", 1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(["lm", "train", str(config), "--out", str(tmp_path / "r")]) == 0
    assert (tmp_path / "r" / "results.json").is_file()


@pytest.mark.parametrize("words", [["data", "suites"], ["lm", "train", "missing.yaml"]])
def test_closed_streams(words):
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        command = f"{sys.executable} -m gpt2v {' '.join(words)} {closed}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        assert done.returncode == (0 if words[0] == "data" else 2)
        assert "Traceback" not in done.stderr + done.stdout


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    """`gpt2v ... | head -1`"""
    command = f"{sys.executable} -m gpt2v data suites | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# ---- read-only places ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_place(tmp_path, capsys, monkeypatch, words, command):
    """As a user who may not write there: the tests may run as one who may write everywhere."""
    option, _ = COMMANDS[command]
    place = tmp_path / "place"
    place.mkdir()

    def guarded(real, where):
        def change(path, *args, **kwargs):
            if str(path).startswith(str(place)) and where(args, kwargs):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return real(path, *args, **kwargs)

        return change

    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda *_: True))
    monkeypatch.setattr(os, "open", guarded(os.open, lambda args, _: args and args[0] & writes))
    capsys.readouterr()
    for out in (place / "out", place / "a" / "out"):
        assert main([*words, option, str(out)]) == 2
        said = one_line(capsys)
        assert str(place) in said
        assert "cannot be written: Read-only file system" in said
    assert os.listdir(place) == []
