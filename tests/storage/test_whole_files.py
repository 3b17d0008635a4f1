"""Files are written whole or not at all; what keeps them from being written is one line."""

import json
import os
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2v.errors import UserError
from gpt2v.storage import files
from gpt2v.storage.folders import remove_unfinished
from stopped import at_change, killed_at


def write_table(path, content):
    files.write_parquet(path, [pa.table({"x": [content] * 100})])


WRITERS = {
    "text": (files.write_text, lambda path: path.read_text()),
    "json": (files.write_json, lambda path: json.loads(path.read_text())),
    "bytes": (
        lambda path, content: files.write_bytes(path, content.encode()),
        lambda path: path.read_bytes().decode(),
    ),
    "parquet": (write_table, lambda path: pq.read_table(path)["x"][99].as_py()),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_killed_at_any_change(tmp_path, kind):
    write, read = WRITERS[kind]
    path, n, seen = tmp_path / "folder" / "f", 0, set()
    while True:
        write(path, "old")
        killed = killed_at(n, lambda: write(path, "new"))
        seen.add(read(path))
        remove_unfinished(path.parent)
        assert os.listdir(path.parent) == ["f"]
        if not killed:
            break
        n += 1
    assert seen == {"old", "new"}
    assert n >= 3  # the file's content, its name, its folder


@pytest.mark.parametrize("kind", WRITERS)
def test_an_error_at_any_change_is_one_line(tmp_path, kind):
    write, read = WRITERS[kind]
    path, n = tmp_path / "f", 1  # 0 makes the folder, which exists

    def fail():
        raise OSError(30, "Read-only file system")

    while True:
        write(path, "old")
        with at_change(n, fail) as left:
            if n < 4:
                with pytest.raises(UserError, match="f: cannot be written: Read-only file system"):
                    write(path, "new")
            else:
                write(path, "new")
        assert read(path) in ("old", "new")
        assert os.listdir(tmp_path) == ["f"]
        if left[0] >= 0:
            break
        n += 1
    assert n == 4


def test_others_may_read_what_is_written(tmp_path):
    """Like any file that is simply opened and written."""
    (tmp_path / "plain").write_text("x")
    files.write_text(tmp_path / "ours", "x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")]
    assert modes[0] == modes[1]


def test_a_folder_is_made_if_it_is_missing(tmp_path):
    files.write_text(tmp_path / "a" / "b" / "f", "x")
    assert (tmp_path / "a" / "b" / "f").read_text() == "x"
    with pytest.raises(UserError, match="f/g: cannot be written"):
        files.write_text(tmp_path / "a" / "b" / "f" / "g", "x")
