"""Windows' rules for files and signals, imposed on commands; see `imposed/sitecustomize.py`."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from exports import tree
from gpt2v.cli.main import main
from gpt2v.run_layout import checkpoints_of
from gpt2v.storage.manifest import verify
from helpers import REPO, TINY_LM, TINY_MM, TINY_TILES, is_progress, write_yaml

GRID = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
STEPS = {"batch_size": 4, "stages": [{"steps": 6, "mix": [{"rows": 1, "cols": 2}]}]}
LM_TRAIN = {**TINY_LM["train"], "save_every": 1, "keep": 1, "log_every": 1}
FROZEN = [
    {**g, "lr": 0 if g["name"] == "vision_tower" else 0.001} for g in TINY_MM["train"]["groups"]
]
SIGBREAK = 27  # the number that it has in `sitecustomize`


def imposed(folder, commands, **more):
    """Run commands in a process with Windows' rules; [status, stdout, stderr] of each."""
    (folder / "processes").mkdir(exist_ok=True)
    (folder / "commands.json").write_text(json.dumps(commands))
    path = [str(REPO / "tests" / "imposed"), str(REPO / "src"), os.environ.get("PYTHONPATH", "")]
    variables = {
        "PYTHONPATH": os.pathsep.join(path),
        "IMPOSED": str(folder / "processes"),
        "PYTHONWARNDEFAULTENCODING": "1",
        "PYTHONIOENCODING": "cp1252",
        "XDG_CACHE_HOME": str(folder / "cache"),
        **more,
    }
    work = [sys.executable, str(REPO / "tests" / "imposed" / "work.py"), str(folder)]
    ended = subprocess.run(
        work, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "said.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A cycle of commands: trained, stopped, resumed, replaced, measured, reported, exported."""
    root = tmp_path_factory.mktemp("windows")
    lm, lm2, mm, ev, llava, pages = (
        str(root / n) for n in ("lm", "lm2", "mm", "ev", "llava", "pages")
    )
    (root / "text.txt").write_text(
        "\n<|endoftext|>\n".join(f"cat {i} saw ö. " * 9 for i in range(200))
    )
    corpus = {"corpus": str(root / "text.txt"), "context": 16}
    yaml = {
        "lm": {**TINY_LM, "data": STEPS, "train": LM_TRAIN},
        "mm": {**TINY_MM, "lm": lm, "train": {**TINY_MM["train"], "groups": FROZEN}},
        "eval": {**GRID, "n_images": 2, "examples": 1},
        "export": {**GRID, "n_images": 4, "shard_size": 2},
        "words": {
            **TINY_LM,
            "data": {"batch_size": 2, "stages": [{"steps": 2, "mix": [corpus]}]},
        },
    }
    yaml = {name: str(write_yaml(root / f"{name}.yaml", values)) for name, values in yaml.items()}
    (root / "empty").mkdir()
    train = ["lm", "train", yaml["lm"], "--out"]
    export = ["data", "export", yaml["export"], "--to"]
    page = os.path.join(pages, "index.html")
    commands = {
        "stopped": {"argv": [*train, lm], "stop_at": 3},
        "resumed": {"argv": [*train, lm, "--resume"]},
        "replaced while it is read": {
            "argv": [*train, lm, "--overwrite"],
            "held": os.path.join(lm, "results.json"),
        },
        "read while it is trained": {
            "argv": [*train, lm2],
            "held": os.path.join(lm2, "checkpoints", "step-*", "*.safetensors"),
            "hold_at": 3,
        },
        "replaced": {"argv": [*train, lm2, "--overwrite"]},
        "mm": {"argv": ["mm", "train", yaml["mm"], "--out", mm]},
        "mm again": {"argv": ["mm", "train", yaml["mm"], "--out", mm, "--overwrite"]},
        "words": {"argv": ["lm", "train", yaml["words"], "--out", str(root / "words")]},
        "words again": {
            "argv": ["lm", "train", yaml["words"], "--out", str(root / "words"), "--overwrite"]
        },
        "tokens": {"argv": ["data", "tokenize", yaml["words"], "--out", str(root / "tokens")]},
        "eval": {"argv": ["eval", mm, "--suite", yaml["eval"], "--out", ev]},
        "eval again": {"argv": ["eval", mm, "--suite", yaml["eval"], "--out", ev, "--overwrite"]},
        "report": {"argv": ["report", ev, "--out", pages]},
        "report while it is read": {"argv": ["report", ev, "--out", pages], "held": page},
        "llava": {"argv": ["mm", "export", mm, "--to", llava]},
        "llava again": {"argv": ["mm", "export", mm, "--to", llava, "--overwrite"]},
        "into an empty folder": {"argv": ["mm", "export", mm, "--to", str(root / "empty")]},
        **{
            f"export {name}": {"argv": [*export, str(root / name), "--format", name]}
            for name in ("parquet", "llava-json", "folder")
        },
    }
    commands["export llava-json"]["argv"][-1] = "llava"
    commands["export again"] = {
        "argv": [*export, str(root / "folder"), "--format", "folder", "--overwrite"]
    }
    workers = ["--executor", "processes", "--workers", "2"]
    commands["export by workers"] = {
        "argv": [*export, str(root / "workers"), "--format", "parquet", *workers]
    }
    said = imposed(root, list(commands.values()), IMPOSED_GLANCES="6")
    said = {
        name: SimpleNamespace(status=s, out=o, err=e)
        for name, (s, o, e) in zip(commands, said, strict=True)
    }
    return SimpleNamespace(root=root, yaml=yaml, said=said)


def told(command):
    """The lines on stderr, without those of progress."""
    return [line for line in command.err.splitlines() if not is_progress(line)]


def test_commands_end_as_elsewhere(done):
    expected = dict.fromkeys(done.said, 0)
    expected["stopped"] = 128 + SIGBREAK
    expected["replaced while it is read"] = expected["report while it is read"] = 2
    assert {name: one.status for name, one in done.said.items()} == expected, done.said


def test_a_resumed_training_is_that_of_linux_and_holds_no_checkpoint(done, tmp_path):
    run = done.root / "lm"
    assert "stopped after step 3, which is saved" in done.said["stopped"].err
    assert told(done.said["resumed"]) == []
    assert [path.name for path in checkpoints_of(run)] == ["step-000006"]
    assert main(["lm", "train", done.yaml["lm"], "--out", str(tmp_path / "run")]) == 0
    weights = "checkpoints/step-000006/model.safetensors"
    assert (run / weights).read_bytes() == (tmp_path / "run" / weights).read_bytes()
    assert verify(run / "checkpoints/step-000006") == ""


def test_what_is_open_is_one_line_and_stays(done):
    why = "cannot be written: a program has it, or a file in it, open; close it there"
    said = told(done.said["replaced while it is read"])
    assert said == [f"gpt2v: {done.root / 'lm'}: {why} (or it is read-only)"]
    assert (done.root / "lm" / "results.json").exists()
    page = done.root / "pages" / "index.html"
    assert told(done.said["report while it is read"]) == [f"gpt2v: {page}: {why}"]
    assert page.stat().st_size > 10_000


def test_a_checkpoint_that_is_read_stays_and_the_training_goes_on(done):
    said = told(done.said["read while it is trained"])
    assert said
    assert all("stays until the next one is saved: a program has it" in line for line in said), said


@pytest.mark.parametrize("name", ["parquet", "llava-json", "folder"])
def test_exports_are_those_of_linux_to_the_byte(done, tmp_path, name):
    to = [done.yaml["export"], "--to", str(tmp_path / "e"), "--format", name.removesuffix("-json")]
    assert main(["data", "export", *to]) == 0
    assert tree(done.root / name) == tree(tmp_path / "e")


def test_lines_end_as_elsewhere_and_nothing_is_left(done):
    ours = {"run.json", "results.json", "MANIFEST.json", "trainer.json", "trained_on.json"}
    ours |= {"config.yaml", "metrics.jsonl", "README.md", "index.html", "metadata.jsonl"}
    found = [path for path in done.root.rglob("*") if path.name in ours]
    assert {path.name for path in found} == ours
    assert [path for path in found if b"\r" in path.read_bytes()] == []
    left = [path.name for path in done.root.rglob(".*.gpt2v-*")]
    assert [name for name in left if not name.endswith("-lock")] == []
