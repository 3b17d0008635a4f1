"""Signals end a command with one line, after it has cleaned up or saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2v.cli.main import main
from gpt2v.stopping import SIGNALS
from helpers import QUICK_PROBE, TINY_LM, TINY_TILES, is_progress, write_yaml

WHERE = {  # a function that each command calls after it has begun its run
    "lm": "gpt2v.lm_train.train.load_bank",
    "eval": "gpt2v.eval.shards.score_all",
    "probe": "gpt2v.probing.probe.probe_data",
    "export": "gpt2v.data.export.run.bank_of",
}


@pytest.fixture
def argv(tmp_path, mm_run):
    grid = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
    short = {"batch_size": 4, "stages": [{"steps": 12, "mix": [{"rows": 1, "cols": 2}]}]}
    lm = write_yaml(tmp_path / "lm.yaml", {**TINY_LM, "data": short})
    evaluate = write_yaml(tmp_path / "eval.yaml", {**grid, "n_images": 2})
    probe = {**grid, "model": str(mm_run), **QUICK_PROBE}
    export = write_yaml(tmp_path / "export.yaml", {**grid, "n_images": 4, "shard_size": 2})
    return {
        "lm": ["lm", "train", str(lm), "--out", "r"],
        "eval": ["eval", str(mm_run), "--suite", str(evaluate), "--out", "r"],
        "probe": ["probe", str(write_yaml(tmp_path / "probe.yaml", probe)), "--out", "r"],
        "export": ["data", "export", str(export), "--format", "folder", "--to", "r"],
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def tree(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("command", WHERE)
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_while_a_command_begins(place, capsys, monkeypatch, argv, command, signum):
    """The old result is there, and nothing else."""
    assert main(argv[command]) == 0
    before = tree(place)
    monkeypatch.setattr(WHERE[command], lambda *_, **__: os.kill(os.getpid(), signum))
    capsys.readouterr()
    for options in (
        ["--overwrite"],
        ["--overwrite", "--seed" if command != "lm" else "--train.seed", "5"],
    ):
        assert main([*argv[command], *options]) == 128 + signum
        says = "stopped" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if not is_progress(line)][-1] == f"gpt2v: {says}"
        assert tree(place) == before
        assert os.listdir(place) == ["r"]
    old = Path("r")
    old.rename("s")
    assert main(argv[command]) == 128 + signum  # into a new folder
    assert [name for name in os.listdir(place) if name != "s"] in ([], ["r"])
    assert not list(Path("r").rglob("*.json"))


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_training_saves_first(place, capsys, monkeypatch, argv, signum):
    assert main(argv["lm"]) == 0
    whole = sorted(Path("r").glob("checkpoints/step-*"))[-1] / "model.safetensors"
    expected = whole.read_bytes()
    Path("r").rename("whole")
    import gpt2v.train.training as training

    real, steps = training.Training.step, []

    def step(self, number, *args):
        steps.append(number)
        if len(steps) == 4:
            os.kill(os.getpid(), signum)
        return real(self, number, *args)

    monkeypatch.setattr(training.Training, "step", step)
    capsys.readouterr()
    assert main(argv["lm"]) == 128 + signum
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "gpt2v: stopped after step 4, which is saved; rerun with --resume to continue"
    assert [p.name for p in Path("r").glob("checkpoints/*")] == ["step-000004"]
    assert main([*argv["lm"], "--resume"]) == 0
    last = sorted(Path("r").glob("checkpoints/step-*"))[-1]
    assert (last / "model.safetensors").read_bytes() == expected


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_in_the_last_validation_is_not_forgotten(place, capsys, monkeypatch, argv, signum):
    """A demo went on with the next training, and ended with status 0."""
    import gpt2v.train.training as training

    real = training.Training.validate

    def validate(self):
        os.kill(os.getpid(), signum)
        real(self)

    monkeypatch.setattr(training.Training, "validate", validate)
    assert main(argv["lm"]) == 128 + signum
    assert "stopped after step 12, which is saved" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("r/results.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main([*argv["lm"], "--resume"]) == 0
    assert Path("r/results.json").is_file()


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(place, argv, monkeypatch, signum):
    """As under nohup."""
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        import gpt2v.train.training as training

        real = training.Training.step

        def step(self, *args):
            os.kill(os.getpid(), signum)
            return real(self, *args)

        monkeypatch.setattr(training.Training, "step", step)
        assert main([*argv["lm"], "--train.save_every", "0"]) == 0
        assert signal.getsignal(signum) == signal.SIG_IGN
    finally:
        signal.signal(signum, before)


def listen(words, **options):
    """Start a command that heeds Ctrl-C, as in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "gpt2v", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


IMPORTING = """
import os, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Finder())
from gpt2v.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["gpt2v.cli.main", "pydantic", "gpt2v.config.training"])
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_while_python_imports(signum, module):
    """Python makes other errors of some exceptions that come then."""
    words = [sys.executable, "-c", IMPORTING, str(int(signum)), module]
    done = subprocess.run(words, capture_output=True, text=True)
    says = "stopped" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"
    assert (done.returncode, done.stderr) == (128 + signum, f"gpt2v: {says}\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_workers_of_an_export_stop_at_once_and_in_silence(place, argv, signum):
    """Ctrl-C reaches them, too; they printed tracebacks, and SIGTERM waited for them."""
    words = [*argv["export"], "--n_images", "100000", "--executor", "processes", "--workers", "2"]
    child = listen(words, start_new_session=True)
    limit = time.monotonic() + 60
    while not list(Path("r").glob(".export/shards/*")) and time.monotonic() < limit:
        time.sleep(0.01)
    if signum == signal.SIGINT:
        os.killpg(child.pid, signum)
    else:
        child.send_signal(signum)
    said = child.communicate()[1].splitlines()
    assert not Path("r/manifest.json").exists()
    assert child.returncode == 128 + signum
    assert len([line for line in said if not is_progress(line)]) == 1


def test_handlers_are_put_back(place, argv):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    assert main(["data", "suites"]) == 0
    assert main(["lm", "train", "missing.yaml"]) == 2
    assert [signal.getsignal(signum) for signum in SIGNALS] == before
