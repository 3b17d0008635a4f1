"""The mutations of bench/fuzz_inputs.py: the same for the same seed, and real damage."""

import subprocess
import sys
from random import Random

import pytest

from helpers import REPO

sys.path.insert(0, str(REPO / "bench"))

from fuzz_mutations import damage_bytes, damage_folder, damage_text, damage_tree

TREE = {"grid": {"rows": 3, "cols": [2, 3]}, "steps": 4, "name": "x"}


def test_a_seed_gives_the_same_damage_again():
    for seed in range(50):
        for damage, good in (
            (damage_bytes, b"0123456789" * 20),
            (damage_text, "a: 1\nb:\n  c: 2\n"),
            (damage_tree, TREE),
        ):
            assert repr(damage(good, Random(seed))) == repr(damage(good, Random(seed)))


def test_most_damage_changes_something_and_what_must_stay_stays():
    trees = [damage_tree(TREE, Random(seed), frozenset({"steps"})) for seed in range(300)]
    assert sum(repr(tree) != repr(TREE) for tree in trees) > 250
    assert all("steps" in tree for tree in trees)
    assert TREE == {"grid": {"rows": 3, "cols": [2, 3]}, "steps": 4, "name": "x"}
    assert len({damage_bytes(b"x" * 500, Random(seed)) for seed in range(100)}) > 60


def test_folders_lose_and_gain_entries(tmp_path):
    seen = set()
    for seed in range(60):
        folder = tmp_path / str(seed)
        (folder / "cat").mkdir(parents=True)
        for name in ("a.png", "b.jpg"):
            (folder / "cat" / name).write_bytes(b"x")
        seen.add(damage_folder(folder, Random(seed)).split()[0])
    assert {"removed", "a", "an"} <= seen


@pytest.mark.e2e
def test_a_few_damaged_inputs(tmp_path):
    pytest.importorskip("ruamel.yaml")
    words = ["--mutants", "42", "--seed", "3", "--out", str(tmp_path / "fuzz.json")]
    command = [sys.executable, str(REPO / "bench" / "fuzz_inputs.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "49 mutants, 0 faults" in done.stdout  # the undamaged inputs, too
