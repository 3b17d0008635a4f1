"""Run directories are never overwritten by accident or left half-written by a mistake."""

import errno
import json
import os
import stat

import pytest

from gpt2v import runs
from gpt2v.cli.main import main
from gpt2v.errors import UserError
from gpt2v.run_layout import FINISHED, mark
from gpt2v.storage.files import write_json, write_text
from gpt2v.storage.folders import remove_directory, whole_directory
from helpers import TINY_LM, TINY_TILES, refusal, train_config, write_yaml

OLDER = '{"format": 1, "gpt2v": "0.0.9"}'  # the mark of an older version


def finished(path, content="old"):
    with runs.new_run(path) as run:
        write_text(run / "config.yaml", content)
        write_json(run / FINISHED, {"kind": content})
    return path


def fail_in(path, overwrite, error, name="metrics.jsonl"):
    with runs.new_run(path, overwrite) as run:
        write_text(run / name, "half")
        raise error


def test_a_fresh_run_is_made_with_its_parents(tmp_path):
    run = finished(tmp_path / "a" / "b")
    assert (run / "config.yaml").read_text() == "old"
    (tmp_path / "empty").mkdir()
    assert finished(tmp_path / "empty").is_dir()


def test_an_existing_run_is_refused_and_kept(tmp_path):
    run = finished(tmp_path / "r")
    with pytest.raises(UserError, match=r"r: already holds a run.*--overwrite"), runs.new_run(run):
        pytest.fail("was entered")
    assert (run / "config.yaml").read_text() == "old"


def test_overwriting_replaces_the_whole_run(tmp_path):
    run = finished(tmp_path / "r")
    write_text(run / "examples" / "0.png", "x")
    with runs.new_run(run, overwrite=True):
        write_text(run / "config.yaml", "new")
    assert sorted(p.name for p in run.iterdir()) == ["config.yaml", "run.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_mistake_leaves_nothing_and_brings_the_old_run_back(tmp_path):
    with pytest.raises(UserError, match="wrong"):
        fail_in(tmp_path / "n", False, UserError("wrong"))
    assert list(tmp_path.iterdir()) == []
    old = finished(tmp_path / "r")
    with pytest.raises(UserError, match="wrong"):
        fail_in(old, True, UserError("wrong"), "config.yaml")
    assert (old / "config.yaml").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_overwrite_does_not_lose_the_old_run(tmp_path, error):
    old = finished(tmp_path / "r")
    with pytest.raises(error):
        fail_in(old, True, error)
    old_files = [p for p in tmp_path.rglob("config.yaml") if p.read_text() == "old"]
    assert old_files, "the old run is gone"


def test_a_folder_that_is_not_a_run_is_never_overwritten(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        for overwrite in (False, True):
            with pytest.raises(UserError, match=name), runs.new_run(tmp_path / name, overwrite):
                pytest.fail("was entered")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "x"
    with (
        pytest.raises(UserError, match="x: cannot be written: Not a dir"),
        runs.new_run(tmp_path / "file" / "x"),
    ):
        pytest.fail("was entered")


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_text(tmp_path / "a", "first")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match=r"a: cannot be written: disk full"):
        write_text(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_others_may_read_what_is_written(tmp_path):
    """Like any file that is simply opened and written."""
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "ours", "x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


def test_a_directory_appears_complete_or_not_at_all(tmp_path):
    def write():
        with whole_directory(tmp_path / "d") as folder:
            (folder / "x").write_text("x")
            assert not (tmp_path / "d").exists()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write()
    assert list(tmp_path.iterdir()) == []
    with whole_directory(tmp_path / "d") as folder:
        (folder / "x").write_text("x")
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["x"]


def test_results_record_versions_command_and_time(tmp_path):
    runs.write_results(tmp_path, "eval", 0.0, seed=3, data_hash="h", results=[{"a": 1}])
    results = json.loads((tmp_path / FINISHED).read_text())
    keys = {"kind", "versions", "command", "seconds", "seed", "data_hash", "results"}
    assert set(results) == keys
    assert {"gpt2v", "torch", "transformers", "python"} <= set(results["versions"])
    assert results["seconds"] > 0


def test_a_mistake_after_a_checkpoint_keeps_the_training(tmp_path):
    for overwrite, path in ((False, tmp_path / "n"), (True, finished(tmp_path / "r"))):
        with pytest.raises(UserError, match="late"):
            fail_in(path, overwrite, UserError("late"), "encoder/checkpoints/step-000010/x")
        assert (path / "encoder/checkpoints/step-000010/x").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".r.replaced", "n", "r"]


def test_a_resumed_run_is_not_changed(tmp_path):
    run = finished(tmp_path / "r")
    with pytest.raises(RuntimeError), runs.new_run(run, resume=True):
        raise RuntimeError
    assert (run / "config.yaml").read_text() == "old"
    with runs.new_run(tmp_path / "new", resume=True) as fresh:
        assert [path.name for path in fresh.iterdir()] == ["run.json"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with (
        pytest.raises(UserError, match="is not a run"),
        runs.new_run(tmp_path / "home", resume=True),
    ):
        pytest.fail("was entered")


@pytest.mark.parametrize("mark", [None, "{", "[]", "{}", '{"format": 1}', OLDER])
def test_a_run_of_another_version_is_not_resumed_and_replaced_only_if_it_is_ours(tmp_path, mark):
    run = finished(tmp_path / "r")
    (run / "run.json").unlink()
    if mark is not None:
        (run / "run.json").write_text(mark)
    before = {path.name: path.read_text() for path in run.iterdir()}
    with (
        pytest.raises(UserError, match="was begun by another version") as caught,
        runs.new_run(run, resume=True),
    ):
        pytest.fail("was entered")
    assert ("--overwrite" in str(caught.value)) == (mark == OLDER)
    assert {path.name: path.read_text() for path in run.iterdir()} == before
    if mark == OLDER:
        with runs.new_run(run, overwrite=True) as fresh:
            assert [path.name for path in fresh.iterdir()] == ["run.json"]
        return
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is not a run") as caught, runs.new_run(run, overwrite):
            pytest.fail("was entered")
        assert "overwrit" not in str(caught.value)
    assert {path.name: path.read_text() for path in run.iterdir()} == before


def test_a_project_with_a_file_of_the_same_name_is_no_run(tmp_path, capsys):
    """It was removed whole once: any folder with a config.yaml counted as a run."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("mine: 1")
    (project / "run.json").write_text('{"format": "A4"}')
    (project / "thesis.tex").write_text("x")
    config = write_yaml(tmp_path / "c.yaml", TINY_LM)
    for more in ((), ("--overwrite",)):
        said = refusal(capsys, "lm", "train", config, "--out", project, *more)
        assert said.endswith("project: is not empty and is not a run; choose another --out")
    names = {"config.yaml", "run.json", "thesis.tex"}
    assert {path.name for path in project.iterdir()} == names


@pytest.mark.parametrize("where", [".", "..", "link", "home", "/", "/proc"])
def test_a_folder_that_is_more_than_a_run_s_is_refused(tmp_path, monkeypatch, where):
    (tmp_path / "here" / "old").mkdir(parents=True)
    finished(tmp_path / "here" / "old")
    (tmp_path / "here" / "link").symlink_to("old")
    (tmp_path / "here" / "home").mkdir()
    mark(tmp_path / "here" / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "here" / "home"))
    monkeypatch.chdir(tmp_path / "here")
    mark(tmp_path)
    mark(tmp_path / "here")
    says = {"link": "symbolic link", "home": "a home folder", "/proc": "mount point"}
    for overwrite in (False, True):
        with (
            pytest.raises(UserError, match=says.get(where, "the current folder")),
            runs.new_run(where, overwrite),
        ):
            pytest.fail("was entered")
    assert (tmp_path / "here" / "old" / "config.yaml").read_text() == "old"


def test_a_configuration_marks_its_run(tmp_path):
    with runs.new_run(tmp_path / "r") as run:
        runs.write_config(run, train_config())
    with runs.new_run(run, resume=True) as again:
        assert (again / "config.yaml").is_file()


def test_what_an_interrupted_write_leaves_is_ignored(tmp_path):
    """A process was killed between making the directory and writing config.yaml."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".config.yaml.abc").write_text("half")
    with runs.new_run(tmp_path / "r") as run:
        assert run == tmp_path / "r"


def test_a_configuration_is_written_once_and_then_compared(tmp_path):
    config = train_config(warmup=3)
    runs.write_config(tmp_path, config)
    runs.write_config(tmp_path, config)
    groups = [{"name": "all", "pattern": "", "lr": 0.02}]
    with pytest.raises(UserError, match=r"groups\.0\.lr: 0\.01 there, 0\.02 now"):
        runs.write_config(tmp_path, train_config(warmup=3, groups=groups))
    (tmp_path / "config.yaml").write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot be read"):
        runs.write_config(tmp_path, config)


def test_a_directory_is_removed_whole(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    remove_directory(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
    remove_directory(tmp_path / "d")  # nothing is there


@pytest.mark.parametrize("command", ["eval", "probe", "ladder", "report"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, mm_run, capsys, monkeypatch, command):
    """At every file that is written, one after the other."""
    measured = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
    probe = {**measured, "model": str(mm_run), "n_train": 20, "n_test": 10}
    ladder = {**measured, "model": str(mm_run), "n_images": 2, "rungs": ["R0", "R4"]}
    files = {
        "eval": write_yaml(tmp_path / "e.yaml", {**measured, "n_images": 2, "examples": 1}),
        "probe": write_yaml(tmp_path / "p.yaml", probe),
        "ladder": write_yaml(tmp_path / "l.yaml", ladder),
    }
    argv = {
        "eval": ["eval", str(mm_run), "--suite", str(files["eval"])],
        "probe": ["probe", str(files["probe"])],
        "ladder": ["ablate", "tokens", str(files["ladder"])],
        "report": ["report", str(tmp_path / "measured")],
    }
    if command == "report":
        assert main([*argv["eval"], "--out", str(tmp_path / "measured")]) == 0
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
        if main([*argv[command], "--out", str(out)]) == 0:
            break
        said = capsys.readouterr().err.splitlines()
        lines = [line for line in said if " s left" not in line]  # plain progress lines
        assert len(lines) == 1, said
        assert lines[0].endswith("cannot be written: No space left on device")
        if command == "report":  # a page that is there is whole: only its folder was not synced
            pages = [path.read_text() for path in out.iterdir()] if out.exists() else []
            assert not pages or (len(pages) == 1 and pages[0].endswith("</html>\n"))
        else:
            assert not out.exists()
        writes += 1
    assert writes > 1
    assert (out / ("index.html" if command == "report" else "results.json")).is_file()
