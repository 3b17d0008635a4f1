"""A wrong configuration is refused before torch and transformers, slow imports, are loaded."""

import os
import subprocess
import sys

import pytest

from helpers import TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, write_yaml

MEASURED = {"tiles": TINY_TILES, "model": "runs/mm"}
EVAL = {"tiles": TINY_TILES, "n_images": 10}
COMMANDS = {
    "lm train": ("lm train c.yaml", TINY_LM),
    "mm train": ("mm train c.yaml", {**TINY_MM, "lm": "runs/lm"}),
    "encoder train": ("encoder train c.yaml", TINY_ENCODER),
    "eval": ("eval runs/mm", None),
    "eval a file": ("eval runs/mm --suite c.yaml", EVAL),
    "eval a suite": ("eval runs/mm --suite grid-3x3-v1", None),
    "probe": ("probe c.yaml", MEASURED),
    "ablate tokens": ("ablate tokens c.yaml", MEASURED),
    "demo": ("demo --preset smoke", None),
}
WRONG = {
    "lm train": ("data.stages.0.mix.0.row", "4"),
    "mm train": ("features.mode", "often"),
    "encoder train": ("train.stage_groups", "{a: [{name: a, pattern: ''}]}"),
    "eval": ("grid.modality", "image"),
    "eval a file": ("n_images", "1"),
    "eval a suite": ("modalities", "[sound]"),
    "probe": ("grid.cols", "17"),
    "ablate tokens": ("grid.form", "csv"),
    "demo": ("mm.train.groups.0.lr", "fast"),
}


@pytest.fixture
def without(tmp_path):
    """Runs `python -m gpt2v` in an empty folder, without torch and transformers."""
    for name in ("torch", "transformers"):
        (tmp_path / "first").mkdir(exist_ok=True)
        (tmp_path / "first" / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    (tmp_path / "work").mkdir()
    path = os.pathsep.join(filter(None, [str(tmp_path / "first"), os.environ.get("PYTHONPATH")]))

    def run(*argv):
        return subprocess.run(
            [sys.executable, "-m", "gpt2v", *argv],
            cwd=tmp_path / "work",
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_configuration_is_one_line_without_torch(command, without, tmp_path):
    words, content = COMMANDS[command]
    if content is not None:
        write_yaml(tmp_path / "work" / "c.yaml", content)
    key, value = WRONG[command]
    done = without(*words.split(), f"--{key}={value}")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"gpt2v: --{key}: ")
    assert ": no torch" not in line
    assert done.stdout == ""
    expected = ["c.yaml"] if content is not None else []
    assert [path.name for path in (tmp_path / "work").iterdir()] == expected


def test_a_correct_configuration_gets_as_far_as_torch(without, tmp_path):
    """So the errors above were written without torch."""
    write_yaml(tmp_path / "work" / "c.yaml", TINY_LM)
    done = without("lm", "train", "c.yaml")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gpt2v: ImportError: no torch here; ")
