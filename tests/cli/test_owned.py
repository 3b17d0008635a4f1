"""Every command that writes is refused, in one line, where another process works."""

import os
import subprocess
import sys

import pytest

from gpt2v.cli.main import main
from gpt2v.run_layout import mark
from gpt2v.storage import ownership
from gpt2v.storage.files import write_text
from gpt2v.storage.ownership import owned
from helpers import QUICK_PROBE, TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, refusal, write_yaml

GRID = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}


@pytest.fixture(autouse=True)
def _as_if_by_another_process(monkeypatch):
    """What this process owns it may use itself; here it shall not know its own folders."""
    monkeypatch.setattr(ownership, "_is_own", lambda found: False)


@pytest.fixture
def commands(tmp_path, lm_run, mm_run):
    """By name: the words of a command, without its folder, and the option of the folder."""
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(f"story {i}" for i in range(200)))
    corpus = {"corpus": str(tmp_path / "text.txt"), "context": 16}
    text = {**TINY_LM, "data": {"stages": [{"steps": 2, "mix": [corpus]}]}}
    configs = {
        "lm": TINY_LM,
        "encoder": TINY_ENCODER,
        "mm": {**TINY_MM, "lm": str(lm_run)},
        "eval": {**GRID, "n_images": 2},
        "probe": {**GRID, "model": str(mm_run), **QUICK_PROBE},
        "ladder": {**GRID, "model": str(mm_run), "n_images": 2, "rungs": ["R0", "R4"]},
        "export": {**GRID, "n_images": 4, "shard_size": 2},
        "text": text,
    }
    yaml = {name: write_yaml(tmp_path / f"{name}.yaml", data) for name, data in configs.items()}
    return {
        "lm train": (["lm", "train", yaml["lm"]], "--out"),
        "lm train --resume": (["lm", "train", yaml["lm"], "--resume"], "--out"),
        "lm train --overwrite": (["lm", "train", yaml["lm"], "--overwrite"], "--out"),
        "encoder train": (["encoder", "train", yaml["encoder"]], "--out"),
        "mm train": (["mm", "train", yaml["mm"]], "--out"),
        "eval": (["eval", mm_run, "--suite", yaml["eval"]], "--out"),
        "eval --overwrite": (["eval", mm_run, "--suite", yaml["eval"], "--overwrite"], "--out"),
        "probe": (["probe", yaml["probe"]], "--out"),
        "ladder": (["ablate", "tokens", yaml["ladder"]], "--out"),
        "demo": (["demo", "--preset", "smoke"], "--out"),
        "demo --resume": (["demo", "--preset", "smoke", "--resume"], "--out"),
        "data export": (["data", "export", yaml["export"], "--format", "folder"], "--to"),
        "mm export": (["mm", "export", mm_run], "--to"),
        "data tokenize": (["data", "tokenize", yaml["text"]], "--out"),
    }


NAMES = (
    "lm train",
    "lm train --resume",
    "lm train --overwrite",
    "encoder train",
    "mm train",
    "eval",
    "eval --overwrite",
    "probe",
    "ladder",
    "demo",
    "demo --resume",
    "data export",
    "mm export",
    "data tokenize",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_in_use(tmp_path, capsys, commands, name):
    """For each command: the folder, and one around it, in which a demo works, for example."""
    words, option = commands[name]
    held = tmp_path / "held"
    for out in (held, held / "below"):
        with owned(held):
            before = sorted(os.listdir(tmp_path))
            said = refusal(capsys, *words, option, out)
            assert f"{held}" in said
            assert f"is in use by process {os.getpid()} since" in said
            assert sorted(os.listdir(tmp_path)) == before
        assert not held.exists()


def test_a_finished_run_is_not_replaced_while_it_is_used(tmp_path, capsys, commands):
    """And not while a process works in a folder in it."""
    words, _ = commands["eval"]
    run = tmp_path / "run"
    assert main([*map(str, words), "--out", str(run)]) == 0
    before = (run / "results.json").read_bytes()
    capsys.readouterr()
    for held in (run, run / "below"):
        with owned(held):
            assert "is in use by process" in refusal(capsys, *words, "--out", run, "--overwrite")
    assert (run / "results.json").read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]])
def test_a_demo_in_which_another_command_trains(tmp_path, capsys, options):
    """The demo removed the files of the live training, and trained into its folder."""
    mark(tmp_path / "demo", ("lm",))
    write_text(tmp_path / "demo" / "lm" / "metrics.jsonl", "live")
    words = ["demo", "--preset", "smoke", "--out", tmp_path / "demo", *options]
    with owned(tmp_path / "demo" / "lm"):
        assert f"{tmp_path / 'demo' / 'lm'} is in use by process" in refusal(capsys, *words)
    assert (tmp_path / "demo" / "lm" / "metrics.jsonl").read_text() == "live"


def test_two_trainings_started_at_once(tmp_path):
    """The loser removed the winner's files once, and both wrote into one run."""
    short = {"batch_size": 4, "stages": [{"steps": 40, "mix": [{"rows": 1, "cols": 2}]}]}
    config = write_yaml(tmp_path / "c.yaml", {**TINY_LM, "data": short})
    command = [sys.executable, "-m", "gpt2v", "lm", "train", str(config), "--out", "r"]
    children = [
        subprocess.Popen(
            [*command, "--train.seed", seed],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for seed in ("1", "2")
    ]
    said = [child.communicate()[1] for child in children]
    codes = [child.returncode for child in children]
    assert sorted(codes) == [0, 2], said
    winner, loser = codes.index(0), codes.index(2)
    assert f"gpt2v: r: is in use by process {children[winner].pid} since" in said[loser]
    assert f"--train.seed {winner + 1}" in said[loser]
    assert f"seed: {winner + 1}" in (tmp_path / "r" / "config.yaml").read_text()
    assert (tmp_path / "r" / "results.json").is_file()
    assert (tmp_path / "r" / "metrics.jsonl").read_text().count("\n") > 3
    assert sorted(os.listdir(tmp_path)) == ["c.yaml", "r"]
