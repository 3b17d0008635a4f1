"""Folders are written, replaced and removed whole or not at all, wherever the process stops."""

import contextlib
import os

import pytest

from gpt2v.storage.folders import (
    put_back,
    remove_directory,
    remove_unfinished,
    replaced,
    set_aside,
    settle,
    whole_directory,
)
from stopped import at_change, killed_at


def write(path, content):
    with whole_directory(path) as folder:
        (folder / "x").write_text(content)
        (folder / "y").write_text(content)


def content(path):
    """The content of a folder that `write` wrote; it must be whole."""
    assert sorted(p.name for p in path.iterdir()) == ["x", "y"]
    x, y = ((path / name).read_text() for name in ("x", "y"))
    assert x == y
    return x


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    def fail():
        with whole_directory(tmp_path / "d") as folder:
            (folder / "x").write_text("x")
            assert not (tmp_path / "d").exists()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "d", "new")
    assert content(tmp_path / "d") == "new"


@pytest.mark.parametrize("there", [False, True])
def test_killed_at_any_change(tmp_path, there):
    """Readers find the old folder, or none if there was none, or the new one; nothing is left."""
    path, n, seen = tmp_path / "d", 0, set()
    while True:
        if there:
            write(path, "old")
        killed = killed_at(n, lambda: write(path, "new"))
        settle(tmp_path, "d")
        assert {p.name for p in tmp_path.iterdir()} <= {"d"}
        seen.add(content(path) if path.exists() else None)
        if not killed:
            break
        remove_directory(path)
        n += 1
    assert seen == {"old" if there else None, "new"}
    assert n > 4


@pytest.mark.parametrize("there", [False, True])
def test_an_error_at_any_change_leaves_nothing(tmp_path, there):
    path, n = tmp_path / "d", 0

    def fail():
        raise OSError(28, "No space left on device")

    while True:
        if there:
            write(path, "old")
        with at_change(n, fail) as left, contextlib.suppress(OSError):
            write(path, "new")
        found = content(path) if path.exists() else None
        assert found in ("old" if there else None, "new")
        if left[0] >= 0:
            break
        settle(tmp_path, "d")
        assert {p.name for p in tmp_path.iterdir()} <= {"d"}
        remove_directory(path)
        n += 1
    assert n > 4


def test_what_is_removed_is_seen_whole_or_not_at_all(tmp_path):
    n = 0
    while True:
        write(tmp_path / "d", "old")
        killed = killed_at(n, lambda: remove_directory(tmp_path / "d"))
        assert not (tmp_path / "d").exists() or content(tmp_path / "d") == "old"
        settle(tmp_path, "d")
        if not killed:
            break
        n += 1
    assert list(tmp_path.iterdir()) == []
    remove_directory(tmp_path / "d")  # nothing is there
    assert n >= 3


def test_the_first_folder_that_was_set_aside_stays(tmp_path):
    """A second attempt to replace a run finds the half of the first one in its place."""
    write(tmp_path / "d", "finished")
    set_aside(tmp_path / "d")
    write(tmp_path / "e", "half")
    (tmp_path / "e").rename(tmp_path / "d")
    assert not put_back(tmp_path / "d")
    set_aside(tmp_path / "d")
    assert [p.name for p in tmp_path.iterdir()] == [".d.replaced"]
    assert put_back(tmp_path / "d")
    assert content(tmp_path / "d") == "finished"


def test_only_what_is_ours_and_unfinished_is_removed(tmp_path, capsys):
    keep = ["d", ".d", ".d.backup", ".dx.abc.unfinished", "d.unfinished", ".git"]
    for name in [*keep, ".d.abc.unfinished"]:
        (tmp_path / name).mkdir()
    (tmp_path / ".d.json.def.unfinished").write_text("half")
    remove_unfinished(tmp_path, "d")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(keep)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert ".d.abc.unfinished, .d.json.def.unfinished" in said
    remove_unfinished(tmp_path, "d")
    assert capsys.readouterr().err == ""


def test_settling_prefers_what_is_in_place(tmp_path, capsys):
    write(tmp_path / "d", "new")
    write(replaced(tmp_path / "d"), "old")
    write(replaced(tmp_path / "e"), "old")
    settle(tmp_path)
    assert content(tmp_path / "d") == "new"
    assert content(tmp_path / "e") == "old"
    assert sorted(os.listdir(tmp_path)) == ["d", "e"]
    assert f"{tmp_path / 'e'}: restored" in capsys.readouterr().err
