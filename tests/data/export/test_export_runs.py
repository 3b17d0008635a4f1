"""Exports: the same bytes by every executor and after every stop; mistakes."""

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from exports import TILES, config_of, tree
from gpt2v.cli.main import main
from gpt2v.config.load import load
from gpt2v.config.measuring import ExportConfig
from gpt2v.data.export.files import ExportFolder
from gpt2v.data.export.formats import FORMATS
from gpt2v.data.export.run import export
from gpt2v.data.export.shards import ExportJob
from gpt2v.errors import UserError
from gpt2v.execute import executors
from helpers import refusal, write_yaml
from stopped import killed_at

# ---- the same bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", list(FORMATS))
def test_executors_write_the_same_bytes(tmp_path, format):
    config = config_of("ragged", shard_size=2)
    trees = []
    for name in ("serial", "processes", "ray"):
        if name == "ray" and importlib.util.find_spec("ray") is None:
            continue
        if name != "serial" and format not in ("parquet", "folder"):
            continue  # both start processes, which takes seconds
        workers = None if name == "serial" else 2
        export(config, tmp_path / name, format, name, workers)
        trees.append(tree(tmp_path / name))
    assert all(other == trees[0] for other in trees)
    again = tmp_path / "again"
    export(config, again, format)
    assert tree(again) == trees[0]
    manifest = json.loads(trees[0]["manifest.json"])
    assert set(manifest["files"]) == set(trees[0]) - {"manifest.json"}
    assert manifest["files"]["README.md"]["bytes"] == len(trees[0]["README.md"])


def stop(*_):
    raise KeyboardInterrupt


def start(config: Path, to: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gpt2v", "data", "export", str(config), "--to", str(to)]
    return subprocess.Popen(
        [*command, "--format", "folder", *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_killed_export_continues_to_the_same_bytes(tmp_path, executor):
    data = {"tiles": TILES, "grid": {"rows": 2}, "n_images": 300, "shard_size": 10}
    config = write_yaml(tmp_path / "c.yaml", data)
    export(load(ExportConfig, config, {}), tmp_path / "whole", "folder")
    to = tmp_path / "killed"
    dice = random.Random(executor)
    more = ["--executor", executor] + (["--workers", "2"] if executor == "processes" else [])
    stopped = 0
    for _ in range(5):
        process = start(config, to, *more)
        # Wait for the next shard, not only for some time: a slow machine might not write any shard
        # before it is killed.
        before = len(list(to.glob(".export/shards/*.json")))
        while process.poll() is None and len(list(to.glob(".export/shards/*.json"))) == before:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.03)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        stopped += 1
    assert stopped >= 2
    process = start(config, to, *more)
    process.wait()
    if executor == "processes":
        time.sleep(0.5)  # workers of the killed processes are still ending
    assert tree(to) == tree(tmp_path / "whole")
    assert not (to / ".export").exists()


@pytest.mark.parametrize("format", list(FORMATS))
def test_an_export_stopped_at_any_write_continues(tmp_path, monkeypatch, format):
    config = config_of("composite", n=6, shard_size=3)
    export(config, tmp_path / "whole", format)
    whole, real, at = tree(tmp_path / "whole"), os.replace, 0
    while True:
        to, left = tmp_path / f"at{at}", [at]

        def replace(one, other, left=left):
            if not os.path.isdir(one):  # a folder that is removed, after the manifest
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
            real(one, other)

        monkeypatch.setattr(os, "replace", replace)
        try:
            export(config, to, format)
        except KeyboardInterrupt:
            assert not (to / "manifest.json").exists()
            monkeypatch.setattr(os, "replace", real)
            export(config, to, format)
            assert tree(to) == whole
            shutil.rmtree(to)
            at += 1
        else:
            break
    # Files, two work files, lines and receipts of two shards, the owner; names of the last files.
    assert at > len(whole) + 2 + 2 * 2 + 1


def test_only_missing_shards_are_written(tmp_path, monkeypatch):
    config = config_of("composite")
    written = []
    real = ExportJob.do

    def write(self, number):
        if number == 2 and not written[2:]:
            written.append("stopped")
            raise KeyboardInterrupt
        written.append(number)
        return real(self, number)

    monkeypatch.setattr(ExportJob, "do", write)
    with pytest.raises(KeyboardInterrupt):
        export(config, tmp_path / "x", "llava")
    export(config, tmp_path / "x", "llava")
    assert written == [0, 1, "stopped", 2]


def test_an_export_stopped_while_cleaning_up_is_finished(tmp_path, capsys):
    config = config_of("composite")
    export(config, tmp_path / "x", "parquet")
    whole = tree(tmp_path / "x")
    (tmp_path / "x" / ".export" / "lines").mkdir(parents=True)
    export(config, tmp_path / "x", "parquet")
    assert tree(tmp_path / "x") == whole
    assert not (tmp_path / "x" / ".export").exists()


def test_an_export_killed_while_cleaning_up_leaves_nothing(tmp_path, capsys):
    """It is finished; what was left in it is removed, and mentioned."""
    config, to = config_of("composite"), tmp_path / "x"
    export(config, to, "parquet")
    whole = tree(to)
    (to / "..export.0123abcd.gpt2v-unfinished" / "shards").mkdir(parents=True)
    (to / "..export.0123abcd.gpt2v-unfinished" / "shards" / "a.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a finished export"):
        export(config, to, "parquet")
    assert tree(to) == whole
    assert "..export.0123abcd.gpt2v-unfinished" in capsys.readouterr().err


def test_a_shard_whose_files_are_gone_is_written_again(tmp_path, monkeypatch):
    config = config_of("composite")
    monkeypatch.setattr("gpt2v.data.export.run._finish", stop)
    with pytest.raises(KeyboardInterrupt):
        export(config, tmp_path / "x", "llava")
    next((tmp_path / "x" / "images" / "00001").iterdir()).unlink()
    monkeypatch.undo()
    export(config, tmp_path / "x", "llava")
    export(config, tmp_path / "whole", "llava")
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")


# ---- replaced, killed, owned ------------------------------------------------------------------


def seed_of(folder):
    """Of a finished export; none: there is none."""
    manifest = ExportFolder(folder).read_manifest()
    return manifest and manifest["config"]["seed"]


def test_killed_at_any_change_while_an_export_is_replaced(tmp_path, capfd):
    old, new = (config_of("composite", n=2, shard_size=1, seed=seed) for seed in (1, 2))
    to, aside = tmp_path / "x", tmp_path / ".x.1.gpt2v-replaced"
    export(new, tmp_path / "whole", "folder")
    whole, n, kept = tree(tmp_path / "whole"), 0, 0
    while True:
        export(old, to, "folder", overwrite=to.exists())
        killed = killed_at(n, lambda: export(new, to, "folder", overwrite=True))
        assert 1 in (seed_of(to), seed_of(aside)) or seed_of(to) == 2
        kept += seed_of(to) == {} and seed_of(aside) == 1
        left = {p.name for p in tmp_path.iterdir()} - {
            "x",
            "whole",
            ".x.gpt2v-lock",
            ".x.gpt2v-owner",
        }
        capfd.readouterr()
        export(new, to, "folder", overwrite=True)
        said = capfd.readouterr().err
        assert not left or any(
            word in said for word in ("restored", "kept in", "unfinished", "removed")
        )
        assert tree(to) == whole
        assert sorted(p.name for p in tmp_path.iterdir()) == ["whole", "x"]
        if not killed:
            break
        n += 1
    assert n > 40
    assert kept > 10


def test_an_export_that_replaces_another_continues(tmp_path, monkeypatch, capsys):
    """Without --overwrite, which starts again; the old one is kept until the end."""
    old, new = (config_of("composite", n=4, shard_size=1, seed=seed) for seed in (1, 2))
    to = tmp_path / "x"
    export(old, to, "folder")
    real = ExportJob.do

    def do(job, piece):
        if piece == 2:
            raise KeyboardInterrupt
        real(job, piece)

    monkeypatch.setattr(ExportJob, "do", do)
    with pytest.raises(KeyboardInterrupt):
        export(new, to, "folder", overwrite=True)
    assert f"x: the earlier export is kept in {tmp_path / '.x.1.gpt2v-replaced'}" in (
        capsys.readouterr().err
    )
    monkeypatch.undo()
    export(new, to, "folder")
    assert seed_of(to) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_mistake_puts_the_old_export_back(tmp_path, monkeypatch):
    to = tmp_path / "x"
    export(config_of("composite", seed=1), to, "folder")
    before = tree(to)

    def fail(job, piece):
        raise UserError("no disk")

    monkeypatch.setattr(ExportJob, "do", fail)
    with pytest.raises(UserError, match="no disk"):
        export(config_of("composite", seed=2), to, "folder", overwrite=True)
    assert tree(to) == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", ["thesis.tex", "train/thesis.tex", "notes/a", ".git/config"])
def test_an_export_with_a_file_of_the_user_is_not_replaced(tmp_path, monkeypatch, name, finished):
    config, to = config_of("composite"), tmp_path / "x"
    if not finished:
        monkeypatch.setattr("gpt2v.data.export.run._finish", stop)
    with suppress(KeyboardInterrupt):
        export(config, to, "folder")
    monkeypatch.undo()
    (to / name).parent.mkdir(parents=True, exist_ok=True)
    (to / name).write_text("of the user")
    before = tree(to)
    with pytest.raises(UserError, match=f"x/{name}: is no file of the export; move it"):
        export(config, to, "folder", overwrite=True)
    assert tree(to) == before
    (to / name).unlink()
    export(config, to, "folder", overwrite=True)


def test_a_folder_with_work_files_of_another_tool_is_no_export(tmp_path):
    (tmp_path / "x" / ".export").mkdir(parents=True)
    (tmp_path / "x" / ".export" / "config.yaml").write_text("mine: 1")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is not empty and is not an export"):
            export(config_of("composite"), tmp_path / "x", "folder", overwrite=overwrite)
    assert (tmp_path / "x" / ".export" / "config.yaml").read_text() == "mine: 1"


def test_a_worker_of_an_earlier_owner_finishes_no_file(tmp_path):
    """Its owner was killed while it wrote; then another export began here."""
    earlier, later = ExportFolder(tmp_path, "1"), ExportFolder(tmp_path, "2")
    earlier.prepare()

    def chunks():
        yield b"half"
        later.prepare()
        yield b"the rest"

    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        earlier.write([("train/a.png", chunks())])
    with pytest.raises(UserError, match=r"b\.png: cannot be written"):
        earlier.write([("b.png", [b"late"])])
    assert not list(tmp_path.rglob("*.png"))
    later.write([("train/a.png", [b"new"])])
    assert (tmp_path / "train" / "a.png").read_bytes() == b"new"


@pytest.mark.parametrize("where", [".", "home"])
def test_a_folder_that_is_more_than_an_export_s_is_not_replaced(tmp_path, monkeypatch, where):
    to = tmp_path / "home"
    export(config_of("composite"), to, "folder")
    monkeypatch.setenv("HOME", str(to))
    if where == ".":
        monkeypatch.chdir(to)
    with pytest.raises(UserError, match=r"--to: .*needs a folder of its own"):
        export(config_of("composite"), to, "folder", overwrite=True)
    assert (to / "manifest.json").is_file()


# ---- mistakes ---------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """The command of an export without its options."""
    data = {"tiles": TILES, "n_images": 3, "shard_size": 2}
    return ["data", "export", write_yaml(tmp_path / "c.yaml", data)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--format", "tfrecord"], "--format: no such export format: 'tfrecord'; choose from"),
        (["--format", "llava", "--executor", "slurm"], "--executor: no such executor: 'slurm'"),
        (["--format", "llava", "--workers", "2"], "--workers: serial has only one"),
        (["--format", "llava", "--grid.size", "2"], "grid.size: unknown key"),
        (
            ["--format", "llava", "--grid.modality", "image"],
            "grid.modality: has no meaning here: both views are shown; the keys here are rows",
        ),
        (["--format", "llava", "--n_images", "0"], "n_images: "),
        (["--format", "llava", "--grid.palette", "11"], "palette: 11 objects"),
        (["--format", "lm-eval", "--grid.mode", "chained"], "grid.mode: lm-eval asks"),
        (
            ["--format", "llava", "--grid.instructions.sum", "1"],
            "grid.instructions.sum: no such instruction: 'sum'",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys, small, more, said):
    to = tmp_path / "x"
    assert said in refusal(capsys, *small, "--to", to, *more)
    assert not to.exists()


def test_unknown_suites(tmp_path, capsys):
    line = refusal(capsys, "data", "export", "grid-9", "--to", tmp_path / "x", "--format", "llava")
    assert "grid-9: no such file or suite; the suites are corruptions-v1, corruptions-v2" in line
    assert "no such suite" in refusal(capsys, "data", "suites", "grid-9")
    suite = ["data", "export", "grid-3x3-v1", "--to", tmp_path / "x", "--format", "llava"]
    assert "n_images: has no meaning here" in refusal(capsys, *suite, "--n_images", "3")
    assert "asks for 10 test tiles" in refusal(capsys, *suite, "--tiles.per_class", "20")
    assert "needs the name of a suite" in refusal(capsys, "data", "suites", "--tiles.size", "8")
    assert list(tmp_path.iterdir()) == []


def test_ray_may_be_missing(tmp_path, capsys, small, monkeypatch):
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    line = refusal(capsys, *small, "--to", tmp_path / "x", "--format", "llava", "--executor", "ray")
    assert "ray is not installed; pip install 'gpt2v[ray]'" in line


def test_what_is_there_is_not_overwritten(tmp_path, capsys, small):
    (tmp_path / "file").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    how = ["--format", "parquet"]
    for more in ([], ["--overwrite"]):
        assert "is a file" in refusal(capsys, *small, "--to", tmp_path / "file", *how, *more)
        line = refusal(capsys, *small, "--to", tmp_path / "home", *how, *more)
        assert "is not empty and is not an export" in line
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    assert "cannot be written" in refusal(capsys, *small, "--to", tmp_path / "file" / "x", *how)


def test_a_finished_export_is_replaced_only_with_overwrite(tmp_path, capsys, small):
    to = tmp_path / "x"
    words = [str(word) for word in [*small, "--to", to, "--format", "parquet"]]
    assert main(words) == 0
    before = tree(to)
    capsys.readouterr()
    assert "already holds a finished export" in refusal(capsys, *words)
    assert "already holds a finished export" in refusal(capsys, *words, "--seed", "2")
    assert tree(to) == before
    assert main([*words, "--seed", "2", "--overwrite"]) == 0
    assert tree(to).keys() == before.keys()
    assert tree(to) != before
    assert main([*words, "--overwrite"]) == 0
    assert tree(to) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "x"]


def test_another_configuration_does_not_continue_an_export(tmp_path, capsys, small, monkeypatch):
    to = tmp_path / "x"
    words = [str(word) for word in [*small, "--to", to]]
    monkeypatch.setattr("gpt2v.data.export.run._finish", stop)
    assert main([*words, "--format", "parquet"]) == 130  # begun, but not finished
    monkeypatch.undo()
    capsys.readouterr()
    line = refusal(capsys, *words, "--format", "parquet", "--n_images", "4")
    assert "n_images: 3 there, 4 now" in line
    line = refusal(capsys, *words, "--format", "folder")
    assert "format: 'parquet' there, 'folder' now" in line
    assert main([*words, "--format", "folder", "--overwrite"]) == 0
    assert not (to / "data").exists()


def test_an_export_of_something_else_stays_even_without_a_shard(tmp_path):
    """A mistake must remove nothing that it has not made."""
    to = tmp_path / "x"
    folder = ExportFolder(to, "1")
    folder.prepare()
    for name in ("making.yaml", "config.yaml"):
        folder.write([(f".export/{name}", [b"format: x"])])
    before = tree(to)
    with pytest.raises(UserError):
        export(config_of("composite"), to, "folder")
    assert tree(to) == before


def test_a_broken_disk_is_one_line(tmp_path, capsys, small, monkeypatch):
    def broken(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    line = refusal(capsys, *small, "--to", tmp_path / "x", "--format", "llava")
    assert "cannot be written: Input/output error" in line


def test_a_worker_with_other_versions_is_refused(tmp_path):
    from gpt2v.data.export.plan import plan_of

    job = ExportJob(plan_of(config_of("composite")), "llava", str(tmp_path), {"pillow": "1.0"}, "")
    with pytest.raises(UserError, match=r"a worker has pillow .*, but the export needs 1.0"):
        job.do(0)
