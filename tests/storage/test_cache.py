"""What is computed once is opened, or made by one process, whatever happened before."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpt2v.errors import UserError
from gpt2v.storage.cache import open_or_make
from gpt2v.storage.folders import whole_directory
from stopped import killed_at


class Entry:
    """A cache entry with a number of times that it was made."""

    def __init__(self, path, slow=0.0):
        self.path, self.slow, self.made = path, slow, 0

    def open_entry(self):
        if (self.path / "x").read_text() != "whole":
            raise UserError(f"{self.path}: is damaged")
        return "whole"

    def make(self):
        self.made += 1
        time.sleep(self.slow)
        with whole_directory(self.path) as folder:
            (folder / "x").write_text("whole")

    def get(self):
        return open_or_make(self.path, self.open_entry, self.make)


def test_it_is_made_once(tmp_path):
    entry = Entry(tmp_path / "cache" / "key")
    assert [entry.get() for _ in range(3)] == ["whole"] * 3
    assert entry.made == 1
    assert os.listdir(tmp_path / "cache") == ["key"]


def test_others_wait_for_the_one_that_makes_it(tmp_path, capsys):
    entry = Entry(tmp_path / "key", slow=0.3)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: entry.get(), range(4))) == ["whole"] * 4
    assert entry.made == 1
    assert "waiting for process" in capsys.readouterr().err


def test_a_damaged_entry_is_named_and_made_again(tmp_path, capsys):
    entry = Entry(tmp_path / "key")
    entry.get()
    (tmp_path / "key" / "x").write_text("half")
    assert entry.get() == "whole"
    assert entry.made == 2
    assert capsys.readouterr().err == f"gpt2v: {tmp_path / 'key'}: is damaged; making it again\n"


def test_killed_while_it_is_made(tmp_path):
    entry, n = Entry(tmp_path / "key"), 0
    while killed_at(n, entry.get):
        assert not entry.path.exists() or entry.open_entry() == "whole"
        assert entry.get() == "whole"
        assert [name for name in os.listdir(tmp_path) if "unfinished" in name] == []
        (entry.path / "x").unlink()
        entry.path.rmdir()
        n += 1
    assert n > 4


def test_what_cannot_be_made_is_not_kept(tmp_path):
    entry = Entry(tmp_path / "key")

    def fail():
        raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        open_or_make(entry.path, entry.open_entry, fail)
    assert os.listdir(tmp_path) == []
