"""Run directories are never overwritten by accident or left half-written by a mistake."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from gpt2v import runs
from gpt2v.errors import Stopped, UserError
from gpt2v.run_layout import FINISHED, is_finished, mark
from gpt2v.stopping import SIGNALS, signals_as_exceptions
from gpt2v.storage.files import write_json, write_text
from gpt2v.train import checkpoints
from helpers import TINY_LM, refusal, train_config, write_yaml
from stopped import at_change, killed_at

OLDER = '{"format": 1, "gpt2v": "0.0.9"}'  # the mark of an older version


def save(run, step):
    checkpoints.write(run, step, lambda folder: (folder / "weights").write_text("old") and None)


def tree(folder):
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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
    assert sorted(p.name for p in tmp_path.iterdir()) == [".r.1.gpt2v-replaced", "n", "r"]


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
        pytest.raises(UserError, match=r"was begun by another version|has no run.json") as caught,
        runs.new_run(run, resume=True),
    ):
        pytest.fail("was entered")
    assert ("another version" in str(caught.value)) == (mark == OLDER)
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


# ---- stopped at any moment -----------------------------------------------------------------------


def replace(path, checkpoint):
    """Overwrite the run, as a training or a measurement does."""
    with runs.new_run(path, overwrite=True) as run:
        write_text(run / "config.yaml", "new")
        if checkpoint:
            save(run, 1)
        write_json(run / FINISHED, {"kind": "new"})


def kind(run):
    return json.loads((run / FINISHED).read_text())["kind"] if is_finished(run) else None


@pytest.mark.parametrize("checkpoint", [False, True])
def test_killed_at_any_change_while_a_run_is_replaced(tmp_path, checkpoint, capfd):
    """A finished run was only in a hidden folder then, and the next command knew nothing of it."""
    n, kept = 0, 0
    while True:
        path = finished(tmp_path / "r")
        killed = killed_at(n, lambda path=path: replace(path, checkpoint))
        aside = tmp_path / ".r.1.gpt2v-replaced"
        assert "old" in (kind(path), kind(aside)) or kind(path) == "new"
        before = {p.name for p in tmp_path.iterdir()} - {"r", ".r.gpt2v-lock", ".r.gpt2v-owner"}
        capfd.readouterr()
        runs.restored(path)  # by a command that only reads
        if kind(path) is None:
            assert checkpoint
            assert kind(aside) == "old"
            kept += 1
            replace(path, checkpoint)  # the half run goes, the old one stays until the end
        if killed and kind(path) == "old":
            with pytest.raises(UserError, match="already holds a run"), runs.new_run(path):
                pytest.fail("was entered")
        with runs.new_run(path, overwrite=True) as run:
            write_json(run / FINISHED, {"kind": "last"})
        assert [p.name for p in tmp_path.iterdir()] == ["r"]
        said = capfd.readouterr().err
        mentioned = any(word in said for word in ("restored", "kept in", "unfinished", "removed"))
        assert mentioned or not before, before
        if not killed:
            break
        shutil.rmtree(path)
        n += 1
    assert n > 15
    assert (kept > 0) == checkpoint


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_signal_at_any_change_while_a_run_is_replaced(tmp_path, checkpoint, signum):
    """The old run is back at once, or the new one is finished, or has a checkpoint."""
    n = 0
    while True:
        path = finished(tmp_path / "r")
        with (
            signals_as_exceptions(),
            at_change(n, lambda: os.kill(os.getpid(), signum)) as left,
            suppress(Stopped, KeyboardInterrupt),
        ):
            replace(path, checkpoint)
        aside = tmp_path / ".r.1.gpt2v-replaced"
        if kind(path) is None:
            assert list(path.glob("checkpoints/step-*"))
            assert kind(aside) == "old"
        else:
            assert not aside.exists() or kind(path) == "new"
        replace(path, checkpoint)
        assert kind(path) == "new"
        assert [p.name for p in tmp_path.iterdir()] == ["r"]
        if left[0] >= 0:
            break
        shutil.rmtree(path)
        n += 1
    assert n > 15


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_at_any_change_of_a_new_run_leaves_nothing(tmp_path, signum):
    n = 0
    while True:
        path = tmp_path / "a" / "r"
        with (
            signals_as_exceptions(),
            at_change(n, lambda: os.kill(os.getpid(), signum)) as left,
            suppress(Stopped, KeyboardInterrupt),
            runs.new_run(path) as run,
        ):
            write_text(run / "config.yaml", "new")
            write_json(run / FINISHED, {"kind": "new"})
        assert not path.exists() or kind(path) == "new"
        if left[0] >= 0:
            break
        replace(path, False)
        assert [p.name for p in path.parent.iterdir()] == ["r"]
        shutil.rmtree(tmp_path / "a")
        n += 1
    assert n > 8


def test_a_half_run_without_value_does_not_block_the_next_one(tmp_path, capsys):
    """It was killed before it had a checkpoint or results."""
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "r", False, RuntimeError(), "examples/0.png")
    assert (tmp_path / "r" / "examples" / "0.png").is_file()
    with runs.new_run(tmp_path / "r") as run:
        assert [path.name for path in run.iterdir()] == ["run.json"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "r: removed; a stopped process left neither a checkpoint nor results" in said


def test_a_half_run_with_a_log_is_not_removed(tmp_path):
    """Hours may be in it, even if it never saved."""
    with pytest.raises(RuntimeError):
        fail_in(tmp_path / "r", False, RuntimeError())
    for resume in (False, True):
        with suppress(UserError), runs.new_run(tmp_path / "r", resume=resume):
            pytest.fail("was entered")
        assert (tmp_path / "r" / "metrics.jsonl").read_text() == "half"


def test_a_half_run_with_a_checkpoint_is_not_removed(tmp_path):
    for name in ("checkpoints", "encoder/checkpoints"):
        run = tmp_path / name.split("/")[0]
        with pytest.raises(RuntimeError):
            fail_in(run, False, RuntimeError(), f"{name}/step-000010/x")
        mark(run, ("encoder",))
        with pytest.raises(UserError, match="already holds an unfinished run"), runs.new_run(run):
            pytest.fail("was entered")


def aside(path, number=1):
    """Where a folder is kept that is being replaced."""
    return path.with_name(f".{path.name}.{number}.gpt2v-replaced")


def half(path):
    """A run that was killed after a checkpoint."""
    write_text(path / "config.yaml", "half")
    mark(path)
    save(path, 1)
    return path


def fail_after_a_checkpoint(path):
    with runs.new_run(path, overwrite=True) as run:
        save(run, 2)
        raise RuntimeError("late")


def test_a_half_run_is_kept_until_its_own_successor_is_finished(tmp_path, capsys):
    """Not only the finished run before it: both are put back, one after the other."""
    path = half(tmp_path / "r")
    finished(tmp_path / "old").rename(aside(path))
    with pytest.raises(UserError, match="wrong"):
        fail_in(path, True, UserError("wrong"))
    assert (path / "config.yaml").read_text() == "half"
    assert kind(aside(path)) == "old"
    assert "r: the earlier run is kept in" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="late"):
        fail_after_a_checkpoint(path)
    assert kind(aside(path)) == "old"
    assert (aside(path, 2) / "config.yaml").read_text() == "half"
    replace(path, False)
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_resuming_never_replaces_what_has_a_value(tmp_path):
    """A user had removed config.yaml, because it did not agree; all checkpoints went."""
    for name in ("checkpoint", "results", "log"):
        run = half(tmp_path / name)
        if name != "checkpoint":
            shutil.rmtree(run / "checkpoints")
            write_text(run / ("results.json" if name == "results" else "metrics.jsonl"), "{}")
        (run / "config.yaml").unlink()
        before = tree(run)
        with (
            pytest.raises(UserError, match=r"has no config\.yaml; it cannot be continued"),
            runs.new_run(run, resume=True),
        ):
            pytest.fail("was entered")
        assert tree(run) == before


@pytest.mark.parametrize("name", ["results.json", "config.yaml", "thesis.tex"])
def test_a_reader_removes_nothing_of_the_user(tmp_path, capsys, name):
    """The user made a folder where a run was, and the run is kept beside it."""
    write_text(tmp_path / "r" / name, "{}")
    finished(tmp_path / "old").rename(aside(tmp_path / "r"))
    before = tree(tmp_path)
    runs.restored(tmp_path / "r")
    assert tree(tmp_path) == before
    assert "r: the earlier run is kept in" in capsys.readouterr().err
    for overwrite in (False, True):
        with (
            pytest.raises(UserError, match="is not a run"),
            runs.new_run(tmp_path / "r", overwrite),
        ):
            pytest.fail("was entered")
        assert tree(tmp_path) == before


def test_a_run_that_cannot_be_put_back_is_not_replaced(tmp_path, monkeypatch, capsys):
    """On Windows a program may have a file in it open."""

    def held(source, target):
        raise PermissionError(13, "open")

    finished(tmp_path / "old").rename(aside(tmp_path / "r"))
    before = tree(tmp_path)
    monkeypatch.setattr("gpt2v.storage.replacing.move", held)
    with (
        pytest.raises(UserError, match=r"r: \.r\.1\.\S+, which a stopped .* cannot be moved back"),
        runs.new_run(tmp_path / "r"),
    ):
        pytest.fail("was entered")
    assert tree(tmp_path) == before
    runs.restored(tmp_path / "r")  # a reader says so
    assert tree(tmp_path) == before
    assert "cannot be moved back" in capsys.readouterr().err


def test_what_others_set_aside_is_not_ours(tmp_path):
    write_text(aside(tmp_path / "r") / "thesis.tex", "of the user")
    with runs.new_run(tmp_path / "r") as run:
        write_json(run / FINISHED, {"kind": "new"})
    replace(tmp_path / "r", False)
    assert (aside(tmp_path / "r") / "thesis.tex").read_text() == "of the user"


@pytest.mark.parametrize("way", ["itself", "in it", "a link", "from inside", "with a slash"])
def test_a_run_is_restored_for_whoever_reads_it(tmp_path, monkeypatch, way):
    finished(tmp_path / "old").rename(aside(tmp_path / "r"))
    (tmp_path / "link").symlink_to("r")
    monkeypatch.chdir(tmp_path)
    names = {"in it": "r/mm/checkpoints/step-000001", "a link": "link", "with a slash": "r/"}
    runs.restored(Path(names.get(way, "r")))
    assert kind(tmp_path / "r") == "old"
    if way == "from inside":
        monkeypatch.chdir(tmp_path / "r")
        assert runs.restored(Path(".")) == Path(".")


def test_other_commands_do_not_touch_what_a_run_replaces(tmp_path, capsys):
    """A folder of tokens, or a model for others, is not written over a half run."""
    path = half(tmp_path / "r")
    finished(tmp_path / "old").rename(aside(path))
    (tmp_path / "t.txt").write_text("a story" * 50)
    mix = [{"corpus": str(tmp_path / "t.txt"), "context": 16}]
    data = {"stages": [{"steps": 1, "mix": mix}]}
    config = write_yaml(tmp_path / "c.yaml", {**TINY_LM, "data": data})
    before = tree(tmp_path)
    refusal(capsys, "data", "tokenize", config, "--out", path)
    refusal(capsys, "mm", "export", path, "--to", path, "--overwrite")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("sub_runs", ["5", '["."]', '["../old"]', '[["a"]]', '"lm"'])
def test_a_damaged_mark_does_no_harm(tmp_path, sub_runs):
    finished(tmp_path / "old")
    run = finished(tmp_path / "r")
    (run / "run.json").write_text(f'{{"format": 3, "gpt2v": "0", "sub_runs": {sub_runs}}}')
    replace(run, False)
    assert kind(run) == "new"
    assert kind(tmp_path / "old") == "old"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (os.fsdecode(b"x\xff"), "is not in UTF-8"),
        ("loop/r", "a symbolic link in it leads to itself"),
        ("file", "is a file; a run needs a folder"),
        ("file/r", "cannot be written: Not a directory"),
    ],
)
def test_places_where_no_run_can_be(tmp_path, name, says):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=says), runs.new_run(tmp_path / name, overwrite):
            pytest.fail("was entered")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize("name", ["r[1]", "a*b", "ü é", ".dot", "-x", "it's", "a.b.c", "r "])
def test_names_with_odd_characters(tmp_path, name):
    path = finished(tmp_path / name)
    finished(tmp_path / f"{name}.v2")
    replace(path, True)
    assert kind(path) == "new"
    assert {p.name for p in tmp_path.iterdir()} == {name, f"{name}.v2"}


# ---- only our own --------------------------------------------------------------------------------


def a_whole_run(path):
    """One with every file that a run can have."""
    with runs.new_run(path) as run:
        for name in ("config.yaml", "metrics.jsonl", "records.parquet", "report/index.html"):
            write_text(run / name, "old")
        for name in ("tensorboard/events.out.tfevents.1.host", "wandb/run-1/b", "examples/0-1.png"):
            write_text(run / name, "old")
        write_text(run / "imports" / "0123456789ab-own.py", "old")
        write_text(run / "checkpoints" / ".step-000020.abcdefgh.gpt2v-unfinished" / "half", "old")
        save(run, 10)
        save(run / "encoder", 10)
        write_text(run / "encoder" / "metrics.jsonl", "old")
        mark(run, ("encoder", "eval"))
        write_json(run / FINISHED, {"kind": "old"})
    return path


FOREIGN = [
    "thesis.tex",
    "notes/thesis.tex",
    "checkpoints/thesis.tex",
    "checkpoints/step-000010/thesis.tex",
    "checkpoints/step-000010/below/thesis.tex",
    "encoder/thesis.tex",
    "encoder/checkpoints/step-000010/thesis.tex",
    "examples/mine.png",
    "report/thesis.html",
    "imports/thesis.py",
    "tensorboard/thesis",
    ".git/config",
    "later/results.json",  # a run in the run that is not its own
    "metrics.jsonl.bak",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_run_with_a_file_of_the_user_is_not_replaced(tmp_path, name, capsys):
    run = a_whole_run(tmp_path / "r")
    write_text(run / name, "of the user")
    before = tree(tmp_path)
    config = write_yaml(tmp_path.with_suffix(".yaml"), TINY_LM)
    said = refusal(capsys, "lm", "train", config, "--out", run, "--overwrite")
    assert said.endswith(f"r/{name}: is no file of the run; move it, or choose another --out")
    assert tree(tmp_path) == before
    (run / name).unlink()
    with runs.new_run(run, overwrite=True):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_link_to_other_folders_is_not_a_file_of_a_run(tmp_path):
    run = a_whole_run(tmp_path / "r")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis").write_text("x")
    (run / "link").symlink_to("../elsewhere")
    with pytest.raises(UserError, match="link: is no file"), runs.new_run(run, overwrite=True):
        pytest.fail("was entered")
    assert (tmp_path / "elsewhere" / "thesis").is_file()


def test_what_the_operating_system_writes_does_not_matter(tmp_path):
    run = a_whole_run(tmp_path / "r")
    (run / ".DS_Store").write_text("x")
    (run / "checkpoints" / ".DS_Store").write_text("x")
    replace(run, False)
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("error", [UserError("x"), KeyboardInterrupt(), Stopped("x", 15)])
def test_a_run_that_fails_removes_only_its_own_files(tmp_path, error):
    """Files of the user came into the folder before it, or while it ran."""
    path = tmp_path / "r"
    write_text(path / ".git" / "config", "of the user")
    with suppress(UserError, KeyboardInterrupt, Stopped), runs.new_run(path) as run:
        write_text(run / "config.yaml", "half")
        write_text(run / "examples" / "0.png", "half")
        write_text(run / "thesis.tex", "of the user")
        raise error
    names = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert names == {".git/config", "thesis.tex"}
    assert not (path / "examples").exists()


def test_an_empty_folder_of_the_user_stays(tmp_path):
    (tmp_path / "r").mkdir(mode=0o700)
    with pytest.raises(UserError, match="wrong"):
        fail_in(tmp_path / "r", False, UserError("wrong"))
    assert list((tmp_path / "r").iterdir()) == []


def test_a_user_s_file_that_came_later_is_not_removed_with_the_old_run(tmp_path):
    """While the new run was made, in the folder where the old one is kept."""
    path = finished(tmp_path / "r")
    with runs.new_run(path, overwrite=True) as run:
        write_text(tmp_path / ".r.1.gpt2v-replaced" / "thesis.tex", "of the user")
        write_json(run / FINISHED, {"kind": "new"})
    assert [p.name for p in (tmp_path / ".r.1.gpt2v-replaced").iterdir()] == ["thesis.tex"]
