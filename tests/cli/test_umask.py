"""Files and folders have the modes that the user's umask gives, whoever writes them.

Each umask has a process of its own that runs every command which writes. The folder has the setgid
bit, as a project's shared folder has, and so what is made in it must have its group and the bit.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2v.storage.files import whole_file, write_text
from gpt2v.storage.folders import whole_directory
from helpers import QUICK_PROBE, TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, write_yaml

GRID = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}}
STEPS = {"batch_size": 4, "stages": [{"steps": 4, "mix": [{"rows": 1, "cols": 2}]}]}
SCRIPT = """
import json, os, sys
os.umask(int(sys.argv[1], 8))
from gpt2v.cli.main import main
for words in json.loads(sys.argv[2]):
    if main(words):
        sys.exit(f"failed: {words}")
"""


def commands(root: Path, lm_run: Path, mm_run: Path) -> list[list[str]]:
    """Every command that writes; its folders are below root / "out"."""
    (root / "text.txt").write_text("\n<|endoftext|>\n".join(f"story {i}" for i in range(3000)))
    corpus = {"corpus": str(root / "text.txt"), "context": 16}
    cached = {"features": {"path": str(root / "out" / "features")}}
    configs = {
        "lm": {**TINY_LM, "data": STEPS},
        "encoder": TINY_ENCODER,
        "mm": {**TINY_MM, "lm": str(lm_run), **cached},
        "eval": {**GRID, "n_images": 2, "examples": 1},
        "probe": {**GRID, "model": str(mm_run), **QUICK_PROBE, **cached},
        "ladder": {**GRID, "model": str(mm_run), "n_images": 2, "rungs": ["R0", "R4"]},
        "export": {**GRID, "n_images": 4, "shard_size": 2},
        "text": {**TINY_LM, "data": {"stages": [{"steps": 2, "mix": [corpus]}]}},
    }
    yaml = {name: str(write_yaml(root / f"{name}.yaml", c)) for name, c in configs.items()}
    out = root / "out"
    exports = [
        ["data", "export", yaml["export"], "--format", name, "--to", str(out / "exports" / name)]
        for name in ("folder", "parquet", "llava", "lm-eval")
    ]
    return [
        ["lm", "train", yaml["lm"], "--out", str(out / "lm")],
        ["lm", "train", yaml["lm"], "--out", str(out / "lm"), "--overwrite"],
        ["lm", "train", yaml["text"], "--out", str(out / "text")],
        ["encoder", "train", yaml["encoder"], "--out", str(out / "encoder")],
        ["mm", "train", yaml["mm"], "--out", str(out / "deep" / "er" / "mm")],
        ["eval", str(mm_run), "--suite", yaml["eval"], "--out", str(out / "eval")],
        ["probe", yaml["probe"], "--out", str(out / "probe")],
        ["ablate", "tokens", yaml["ladder"], "--out", str(out / "ladder")],
        ["report", str(out / "eval"), "--out", str(out / "report")],
        ["data", "preview", yaml["export"], "--png", str(out / "preview.png")],
        ["data", "tokenize", yaml["text"], "--out", str(out / "tokens")],
        ["mm", "export", str(mm_run), "--to", str(out / "exports" / "model")],
        *exports,
    ]


def wrong_modes(root: Path, umask: int) -> list[str]:
    """The files and folders below `root` with a wrong mode or group."""
    wrong = []
    for path in root.rglob("*"):
        found = path.stat()
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        is_shared = not path.is_dir() or found.st_mode & stat.S_ISGID
        group = root.stat().st_gid
        if found.st_mode & 0o777 != expected or not is_shared or found.st_gid != group:
            wrong.append(f"{path.relative_to(root)} {found.st_mode:o} {found.st_gid}")
    return wrong


def shared(folder: Path) -> Path:
    """Make a folder whose group goes on to what is made in it."""
    folder.mkdir()
    groups = [group for group in os.getgroups() if group != os.getgid()]
    if os.getuid() == 0 or groups:
        os.chown(folder, -1, groups[0] if groups else 12345)
    os.chmod(folder, 0o2777)
    return folder


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_every_command_leaves_modes_to_the_umask(tmp_path, lm_run, mm_run, umask):
    root = shared(tmp_path / "out")
    words = json.dumps(commands(tmp_path, lm_run, mm_run))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"{umask:o}", words],
        env={**os.environ, "XDG_CACHE_HOME": str(root / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(root.rglob("*"))) > 100
    assert wrong_modes(root, umask) == []


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o007], indirect=True)
def test_files_and_folders_that_are_replaced_too(tmp_path, umask):
    root = shared(tmp_path / "x")
    for mode in (0o600, 0o666, 0o444):
        write_text(root / "a.txt", "one")
        (root / "a.txt").chmod(mode)
        write_text(root / "a.txt", "two")
        assert wrong_modes(root, umask) == []
    with whole_file(root / "new" / "b.txt", root) as file:
        file.write(b"b")
    with whole_directory(root / "c") as folder:
        (folder / "sub").mkdir()
        for name in ("only-mine", "sub/only-mine"):
            (folder / name).touch(mode=0o600)
    assert wrong_modes(root, umask) == []


def test_a_lock_can_be_opened_by_the_group(tmp_path):
    """A project's members are told who works in a folder, and remove locks of killed processes."""
    script = (
        "import os, sys; from pathlib import Path; os.umask(0o002)\n"
        "from gpt2v.storage.ownership import owned\n"
        "with owned(Path(sys.argv[1])):\n"
        "    print([oct(p.stat().st_mode & 0o777) for p in Path(sys.argv[1]).parent.iterdir()])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    assert subprocess.check_output(command, text=True).strip() == "['0o664', '0o664']"
