"""Long calls into other libraries: they show that they work, and a signal is answered meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt2v import progress, stopping
from gpt2v.data import tokenizer
from gpt2v.errors import Stopped, UserError
from gpt2v.progress import alive, waited
from gpt2v.storage import manifest

SRC = Path(__file__).parents[1] / "src"


def fail():
    raise UserError("no such thing")


def test_the_result_or_the_error_of_the_call_comes_back():
    assert waited("work", lambda: 3) == 3
    with pytest.raises(UserError, match="no such thing"):
        waited("work", fail)
    with pytest.raises(TimeoutError):  # not mistaken for the waiting
        waited("work", lambda: (_ for _ in ()).throw(TimeoutError()))
    assert not stopping._abandoned


def test_lines_appear_while_the_call_goes_on(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.01)
    shown = threading.Event()
    monkeypatch.setattr(progress, "show", lambda line: (print(line), shown.set()))
    waited("reading x", shown.wait)  # returns when a line was shown
    assert "reading x, 0 s so far" in capsys.readouterr().out
    shown.clear()
    with alive(lambda: "tokens: 3 MB"):
        shown.wait()
    assert "tokens: 3 MB so far" in capsys.readouterr().out


def test_a_training_of_a_tokenizer_shows_that_it_works(capfd, monkeypatch):
    """Whatever its library is doing: of text without spaces it took 50 s for a megabyte."""
    monkeypatch.setattr(progress, "_PLAIN_EVERY", 0.01)

    slow = SimpleNamespace(train_from_iterator=lambda *_: time.sleep(0.3))
    monkeypatch.setattr(tokenizer, "Tokenizer", lambda model: slow)
    assert tokenizer.train_tokenizer(["a b"] * 9, 300) is slow
    assert "tokenizer: training on 0 MB, 0 s so far" in capfd.readouterr().err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_an_exception_while_the_call_goes_on(monkeypatch, signum):
    monkeypatch.setattr(stopping, "_abandoned", [])
    begun, go_on = threading.Event(), threading.Event()

    def call():
        begun.set()
        os.kill(os.getpid(), signum)
        go_on.wait()

    with (
        pytest.raises((Stopped, KeyboardInterrupt)),
        stopping.signals_as_exceptions(),
    ):
        waited("work", call)
    assert begun.is_set()
    assert len(stopping._abandoned) == 1  # the process will not wait for the call
    go_on.set()


def test_files_are_hashed_where_signals_are_answered(monkeypatch, tmp_path):
    """Also while several are hashed at once, whose end nobody waits for."""
    monkeypatch.setattr(stopping, "_abandoned", [])
    go_on = threading.Event()

    def sha256(path):
        if path.name == "a":
            os.kill(os.getpid(), signal.SIGTERM)
        go_on.wait()

    monkeypatch.setattr(manifest, "sha256", sha256)
    with pytest.raises(Stopped), stopping.signals_as_exceptions():
        manifest.damaged(tmp_path, {"a": "1", "b": "2"})
    go_on.set()


DEAF = """
import hashlib, os, sys, {module} as module
from gpt2v.cli.main import main

def deaf(*args, **kwargs):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # hours in C, deaf to signals

{patch}
sys.exit(main(sys.argv[1:]))
"""
CALLS = {  # module and patch that makes a call deaf
    "training of a tokenizer": (
        "gpt2v.data.tokenizer",
        "module.Tokenizer = lambda model: type('T', (), {'train_from_iterator': deaf})()",
    ),
    "checksums": ("gpt2v.storage.manifest", "module.sha256 = deaf"),
    "factorisation": ("gpt2v.probing.decoders.ridge", "module.Primal = deaf"),
    "loading of a model": ("transformers", "module.GPT2LMHeadModel.from_pretrained = deaf"),
    "weights of an export": (
        "transformers",
        "module.LlavaForConditionalGeneration.save_pretrained = deaf",
    ),
    "a parquet file": ("gpt2v.data.tiles.cifar_formats", "module.pq.read_table = deaf"),
}


@pytest.fixture
def argv(lm_run, mm_run, tmp_path):
    from helpers import QUICK_PROBE, TINY_LM, TINY_TILES, write_yaml

    lm = write_yaml(tmp_path / "lm.yaml", TINY_LM)
    probe = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, **QUICK_PROBE}
    config = write_yaml(tmp_path / "probe.yaml", {**probe, "model": str(mm_run)})
    for part in ("train", "test"):
        path = tmp_path / "cifar" / f"{part}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"PAR1")
    tiles = {"source": "cifar10", "path": str(tmp_path / "cifar")}
    cifar = write_yaml(tmp_path / "cifar.yaml", {"tiles": tiles})
    return {
        "training of a tokenizer": ["lm", "train", lm, "--out", "out"],
        "checksums": ["lm", "sample", lm_run],
        "factorisation": ["probe", config, "--out", "out"],
        "loading of a model": ["lm", "sample", lm_run],
        "weights of an export": ["mm", "export", mm_run, "--to", "out"],
        "a parquet file": ["data", "preview", cifar],
    }


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_command_ends_at_once_in_a_call_that_does_not_return(tmp_path, argv, name, signum):
    module, patch = CALLS[name]
    script = tmp_path / "script.py"
    script.write_text(DEAF.format(module=module, patch=patch))
    (tmp_path / "place").mkdir()
    process = subprocess.Popen(
        [sys.executable, script, *map(str, argv[name])],
        cwd=tmp_path / "place",
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert any(line == "begun\n" for line in process.stdout)
        process.send_signal(signum)
        _, said = process.communicate(timeout=120)  # never, if the call were waited for
    finally:
        process.kill()
    assert process.returncode == 128 + signum
    assert said.splitlines()[-1].startswith("gpt2v: stopped")
    assert "Traceback" not in said
    assert os.listdir(tmp_path / "place") == []
