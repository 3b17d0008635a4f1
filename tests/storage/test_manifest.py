"""Checksums: any flipped, cut, added or missing byte of any file is found and named."""

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.storage.manifest import MANIFEST, damaged, read_manifest, sha256, verify, write_manifest


@pytest.fixture
def folder(tmp_path):
    for name, content in (("a", b"one"), ("b", b""), ("c", os.urandom(3000))):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "below").mkdir()
    write_manifest(tmp_path)
    return tmp_path


@given(content=st.binary(max_size=200))
def test_a_checksum_is_that_of_the_standard_tool(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("f") / "f"
    path.write_bytes(content)
    assert sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_whole_folder(folder):
    assert verify(folder) == ""
    assert set(read_manifest(folder)) == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["a", "c"])
@pytest.mark.parametrize("damage", ["first", "last", "cut", "longer", "missing"])
def test_damage_is_named(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage in ("first", "last"):
        content[0 if damage == "first" else -1] ^= 1
    path.write_bytes({"cut": content[:-1], "longer": content + b"x"}.get(damage, content))
    if damage == "missing":
        path.unlink()
    assert damaged(folder, read_manifest(folder)) == name
    assert verify(folder) == f"{path}: damaged (it differs from {MANIFEST})"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "\xff"])
def test_a_damaged_manifest_is_named(folder, text):
    (folder / MANIFEST).write_text(text, "latin-1")
    assert verify(folder) == f"{folder / MANIFEST}: damaged (not a list of checksums)"


def test_a_folder_of_another_tool_is_not_checked(folder):
    (folder / MANIFEST).unlink()
    assert read_manifest(folder) is None
    assert verify(folder) == ""
