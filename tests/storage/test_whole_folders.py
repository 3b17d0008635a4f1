"""Folders are written and removed whole or not at all, wherever the process stops."""

import contextlib

import pytest

from gpt2v.storage.folders import remove_directory, remove_unfinished, whole_directory
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


def test_killed_at_any_change(tmp_path):
    """Readers find nothing, or the whole folder; nothing is left."""
    path, n, seen = tmp_path / "d", 0, set()
    while True:
        killed = killed_at(n, lambda: write(path, "new"))
        remove_unfinished(tmp_path, "d")
        assert {p.name for p in tmp_path.iterdir()} <= {"d"}
        seen.add(content(path) if path.exists() else None)
        if not killed:
            break
        remove_directory(path)
        n += 1
    assert seen == {None, "new"}
    assert n > 4


def test_an_error_at_any_change_leaves_nothing(tmp_path):
    path, n = tmp_path / "d", 0

    def fail():
        raise OSError(28, "No space left on device")

    while True:
        failed = True
        with at_change(n, fail) as left, contextlib.suppress(OSError):
            write(path, "new")
            failed = False
        assert {p.name for p in tmp_path.iterdir()} == (set() if failed else {"d"})
        if left[0] >= 0:
            break
        remove_directory(path)
        n += 1
    assert n > 4


def test_what_is_removed_is_seen_whole_or_not_at_all(tmp_path):
    n = 0
    while True:
        remove_directory(tmp_path / "d")
        write(tmp_path / "d", "old")
        killed = killed_at(n, lambda: remove_directory(tmp_path / "d"))
        assert not (tmp_path / "d").exists() or content(tmp_path / "d") == "old"
        remove_unfinished(tmp_path, "d")
        if not killed:
            break
        n += 1
    assert list(tmp_path.iterdir()) == []
    remove_directory(tmp_path / "d")  # nothing is there
    assert n >= 3


@pytest.mark.parametrize("name", ["d", ".d", "d.v2", "d[1]", "a*", "ü é"])
def test_only_what_is_ours_and_unfinished_is_removed(tmp_path, capsys, name):
    """Nor what belongs to another folder, whose name begins alike."""
    others = {"d", ".d", "d.v2", "d.v2.x", "d[1]", "a*", "ab", "ü é", "d.abcdefgh"} - {name}
    keep = [f".{other}.abc_efg1.gpt2v-unfinished" for other in others]
    keep += [f".{name}.backup", f".{name}.gpt2v-unfinished", f"{name}.abcdefgh.gpt2v-unfinished"]
    keep += [f".{name}.abcdefgh.unfinished", ".git"]
    for one in [*keep, f".{name}.abc_efg1.gpt2v-unfinished"]:
        (tmp_path / one).mkdir()
    (tmp_path / f".{name}.12345678.gpt2v-unfinished").write_text("half")
    remove_unfinished(tmp_path, name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(keep)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f".{name}.12345678.gpt2v-unfinished, .{name}.abc_efg1.gpt2v-unfinished" in said
    remove_unfinished(tmp_path, name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["d", ".d", "d.v2"])
def test_what_is_written_is_found_by_its_name(tmp_path, name):
    with contextlib.suppress(ValueError), whole_directory(tmp_path / name) as folder:
        folder.rename(tmp_path / "kept")
        (tmp_path / "kept").rename(folder)
        (folder / "x").write_text("x")
        held = folder
        left = [p.name for p in tmp_path.iterdir()]
        assert left == [held.name]
        remove_unfinished(tmp_path, "e")
        remove_unfinished(tmp_path, f"{name}.x")
        assert held.exists()
        remove_unfinished(tmp_path, name)
        assert not held.exists()
        raise ValueError
