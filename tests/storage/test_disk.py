"""Sync, move and remove as Windows and macOS have them; real ones are not needed."""

import errno
import os
import sys
from types import SimpleNamespace

import pytest

from gpt2v.errors import UserError
from gpt2v.storage import disk
from gpt2v.storage.cache import open_or_make
from gpt2v.storage.folders import remove_unfinished, whole_directory


@pytest.fixture
def held(monkeypatch):
    """So often, by a part of a path, a call on it fails as if a program had it open."""
    monkeypatch.setattr(disk, "_PAUSES", (0.0,) * 3)
    left = {}

    def refusing(real):
        def call(path, *args, **kwargs):
            for name in left:
                if name in str(path) and left[name] > 0:
                    left[name] -= 1
                    error = PermissionError(errno.EACCES, "Access is denied", str(path))
                    error.winerror = 5
                    raise error
            return real(path, *args, **kwargs)

        return call

    for name in ("replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr("shutil._use_fd_functions", False)
    return left


def test_what_is_held_for_a_moment_is_moved_and_removed(tmp_path, held):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("x")
    held |= {"/a": 3}
    disk.move(tmp_path / "a", tmp_path / "b")
    held |= {"/x": 2, "/b": 1}
    disk.remove_tree(tmp_path / "b")
    (tmp_path / "c").write_text("c")
    held |= {"/c": 3}
    disk.remove_file(tmp_path / "c")
    disk.remove_file(tmp_path / "c")  # is not there
    assert list(tmp_path.iterdir()) == []
    assert set(held.values()) == {0}


def test_what_is_held_for_longer_is_named_and_stays(tmp_path, held):
    (tmp_path / "a").write_text("a")
    held |= {"/a": 100}
    for work in (
        lambda: disk.move(tmp_path / "a", tmp_path / "b"),
        lambda: disk.remove_file(tmp_path / "a"),
    ):
        with pytest.raises(PermissionError, match="a program has it, or a file in it, open"):
            work()
    assert (tmp_path / "a").read_text() == "a"


def test_what_is_forbidden_elsewhere_is_not_tried_again(tmp_path, monkeypatch):
    tries = []

    def replace(*paths):
        tries.append(paths)
        raise PermissionError(errno.EACCES, "Permission denied", str(paths[0]))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError, match="Permission denied"):
        disk.move(tmp_path / "a", tmp_path / "b")
    assert len(tries) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_an_empty_folder_gives_way_or_is_there_again(tmp_path, monkeypatch, fails):
    """As on Windows, which replaces no folder."""
    monkeypatch.setattr(disk, "_PAUSES", ())
    real = os.replace

    def replace(source, target):
        if os.path.isdir(target) or fails:
            error = PermissionError(errno.EACCES, "Access is denied", str(source))
            error.winerror = 5
            raise error
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "d").mkdir()

    def write():
        with whole_directory(tmp_path / "d") as folder:
            (folder / "x").write_text("x")

    if fails:
        with pytest.raises(PermissionError, match="a program has it"):
            write()
    else:
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ([] if fails else ["x"])


def test_a_folder_with_files_never_gives_way(tmp_path, held):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "theirs").write_text("x")
    held |= {"/a": 100}
    with pytest.raises(OSError):  # noqa: PT011
        disk.move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "theirs").read_text() == "x"


def test_unfinished_files_that_are_held_are_said_and_stay(tmp_path, held, capsys):
    names = [f".d.1234567{n}.gpt2v-unfinished" for n in (1, 2)]
    for name in names:
        (tmp_path / name).write_text("half")
    held |= {"/.d.12345671": 100}
    remove_unfinished(tmp_path, "d")
    assert [path.name for path in tmp_path.iterdir()] == names[:1]
    first, second = capsys.readouterr().err.splitlines()
    assert "12345671.gpt2v-unfinished: was left unfinished by a stopped process: a program" in first
    assert second.endswith(f"removed what a stopped process left unfinished: {names[1]}")


def test_a_damaged_cache_entry_that_another_process_reads_is_one_line(tmp_path, held):
    entry = tmp_path / "entry"
    entry.mkdir()
    held |= {"/entry": 100}

    def damaged():
        raise UserError("entry: damaged")

    with pytest.raises(UserError, match="entry: cannot be replaced: a program has it"):
        open_or_make(entry, damaged, lambda: pytest.fail("made"))
    assert entry.is_dir()


def test_macos_empties_the_cache_of_the_drive_where_it_can(tmp_path, monkeypatch):
    asked = []

    def control(handle, command):
        asked.append((os.fstat(handle).st_ino, command))
        raise OSError(errno.ENOTSUP, "a network folder")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=control))
    (tmp_path / "x").write_text("x")
    disk.sync(tmp_path / "x")
    disk.sync(tmp_path)
    assert asked == [((tmp_path / "x").stat().st_ino, 51), (tmp_path.stat().st_ino, 51)]


def test_folders_are_not_opened_where_they_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("x")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    disk.sync(tmp_path)
    assert synced == [tmp_path.stat().st_ino]
    monkeypatch.delattr(os, "O_DIRECTORY")
    disk.sync(tmp_path)
    assert len(synced) == 1
