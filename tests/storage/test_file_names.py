"""Names that mean something else on Windows are refused there, and only there."""

import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from gpt2v.errors import UserError
from gpt2v.storage.names import not_on_windows, resolved

REFUSED = (
    "aux",
    "NUL",
    "con.tar.gz",
    "com1",
    "LPT9.txt",
    "a.",
    "a ",
    "a?b",
    "a*b",
    "a|b",
    "a:b",
    "<a",
)
FINE = ("a", "a.b", ".a", "console", "com", "com10", "r[1]", "ü é", "a b", "-x", "~x", "..", "a..b")


@pytest.mark.parametrize("kind", [PureWindowsPath, PurePosixPath])
@pytest.mark.parametrize("name", REFUSED)
def test_what_windows_reads_as_something_else(kind, name):
    assert not_on_windows(kind(f"runs/x/{name}/step")) == name


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("root", ["C:\\", "", "\\\\server\\share", "..\\"])
def test_other_names_are_fine(root, name):
    assert not_on_windows(PureWindowsPath(root) / name / "x") is None


def test_they_are_refused_on_windows_only(tmp_path, monkeypatch):
    assert resolved(tmp_path / "a.").name == "a."
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UserError, match=r"a\./run: Windows has no files named 'a\.'; choose"):
        resolved(tmp_path / "a." / "run")
