"""A mistake is refused before torch and transformers, slow imports, are loaded."""

import json
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


MIX = [{"corpus": "./no.txt"}, {"rows": 1, "cols": 2}]
TEXT = {**TINY_LM, "data": {"stages": [{"steps": 1, "mix": MIX}]}}
PATHS = {
    "eval ./no": "model: ./no: no such run or checkpoint",
    "eval no": "model: no: cannot be loaded: no such file or folder here, and",
    "eval empty": "model: empty: no config.json here; expected a run or a checkpoint",
    "eval model --suite palette-v1 --parts [a]": "parts: palette-v1 has no part a, but ",
    "eval model --out used": "used: is not empty and is not a run",
    "eval model --grid.instructions {look:1}": "--grid.instructions: look:1: no such instruction",
    "eval model --metrics accurate": "--metrics: no such metric: 'accurate'",
    "eval model --tiles.source folder --tiles.path ./no": "tiles.path: no: no such folder",
    "eval model --corpus ./no.txt": "--corpus: ./no.txt: no such file or folder",
    "eval ./no --pairs all": "model: ./no: no such run or checkpoint",
    "eval model --pairs grammar": "--pairs: no such phenomenon or family: 'grammar'",
    "eval model --lm-eval x --include-path ./no": "--include-path: ./no: no such folder",
    "probe measured.yaml": "model: runs/mm: no such run or checkpoint",
    "ablate tokens measured.yaml": "model: runs/mm: no such run or checkpoint",
    "lm train lm.yaml --init ./no": "init: ./no: no such run or checkpoint",
    "lm train lm.yaml --tokenizer.source ./no": "tokenizer.source: ./no: cannot be loaded",
    "lm train lm.yaml --out used": "used: is not empty and is not a run",
    "lm train text.yaml": "corpus: ./no.txt: no such file or folder",
    "data tokenize text.yaml --out to": "corpus: ./no.txt: no such file or folder",
    "ask ./no": "model: ./no: no such run or checkpoint",
    "lm sample ./no": "model: ./no: no such run or checkpoint",
    "encoder train encoder.yaml --tokenizer.source ./no": "tokenizer.source: ./no: cannot be",
    "mm train mm.yaml": "lm: ./lm: no such run or checkpoint",
    "mm train mm.yaml --lm model --encoder ./no": "encoder: ./no: no such run or checkpoint",
    "mm train mm.yaml --lm model --projector_from ./no": "projector_from: ./no: no such run",
    "mm export ./no --to to": "run: ./no: no such run or checkpoint",
    "mm export model --to used": "used: is not empty and is not an export",
    "demo --preset smoke --out used": "used: is not empty and is not a run",
    "demo --tiles cifar10 --tiles-path ./no": "--tiles-path: no: no such folder",
    "demo --preset smoke --mm.projector_from ./no": "mm.projector_from: ./no: no such run",
    "report ./no": "no: no such run directory",
}
ALL = """
import json, sys
from gpt2v.cli.main import main
for line in json.load(sys.stdin):
    status = main(line.split())
    print(status, flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What each command of PATHS says, in one process without torch; and the folder it ran in."""
    folder = tmp_path_factory.mktemp("paths")
    for name in ("torch", "transformers"):
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    work = folder / "work"
    for name in ("empty", "used", "model"):
        (work / name).mkdir(parents=True)
    (work / "used" / "letter.txt").write_text("mine")
    (work / "model" / "config.json").write_text('{"model_type": "gpt2"}')
    files = {"lm": TINY_LM, "text": TEXT, "encoder": TINY_ENCODER, "measured": MEASURED}
    for name, content in {**files, "mm": {**TINY_MM, "lm": "./lm"}}.items():
        write_yaml(work / f"{name}.yaml", content)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", ALL],
        cwd=work,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        input=json.dumps(list(PATHS)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[1::2] == ["2"] * len(PATHS), done.stdout
    return dict(zip(PATHS, lines[::2], strict=True)), work


@pytest.mark.parametrize("command", PATHS)
def test_a_path_that_leads_nowhere_is_one_line_without_torch(command, answers):
    line = answers[0][command]
    assert line.startswith("gpt2v: ")
    assert PATHS[command] in line


def test_mistakes_leave_no_files(answers):
    there = sorted(path.name for path in answers[1].iterdir() if path.suffix != ".yaml")
    assert there == ["empty", "model", "used"]
