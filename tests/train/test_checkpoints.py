"""Checkpoints: complete or absent, with checksums; the newest ones and the best one are kept."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from gpt2v.errors import UserError
from gpt2v.run_layout import checkpoints_of
from gpt2v.storage.manifest import verify
from gpt2v.train import checkpoints
from gpt2v.train.checkpoints import TrainerState


def save(run, step, merit=None, keep=2, size=4):
    def files(folder):
        (folder / "model.bin").write_bytes(bytes([step % 256]) * size)

    tensors = {"w/exp_avg": torch.full((3,), float(step)), "w/step": torch.tensor(float(step))}
    return checkpoints.save(run, TrainerState(step, {"a": 1.0}, merit, "h"), files, tensors, keep)


def flip(path, position=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def names(run):
    return [path.name for path in checkpoints_of(run)]


def test_what_is_saved_is_loaded(tmp_path):
    path = save(tmp_path, 7, merit=0.5)
    assert path.name == "step-000007"
    state, tensors = checkpoints.load(path)
    assert state == TrainerState(7, {"a": 1.0}, 0.5, "h")
    assert torch.equal(tensors["w/exp_avg"], torch.full((3,), 7.0))
    assert checkpoints.newest_whole(tmp_path) == path
    assert verify(path) == ""
    listed = set(json.loads((path / "MANIFEST.json").read_text()))
    assert listed == {"model.bin", "optimizer.safetensors", "trainer.json"}


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step, merit in [(1, 0.1), (2, 0.9), (3, None), (4, 0.3), (5, 0.4)]:
        save(tmp_path, step, merit)
    assert names(tmp_path) == ["step-000002", "step-000004", "step-000005"]
    assert checkpoints.best_step(tmp_path) == 2
    save(tmp_path, 6, 0.95)
    assert names(tmp_path) == ["step-000005", "step-000006"]
    assert checkpoints.best_step(tmp_path) == 6
    save(tmp_path, 7, 0.95)  # of equal ones the newest
    assert checkpoints.best_step(tmp_path) == 7


def test_without_a_validation_there_is_no_best(tmp_path):
    assert checkpoints.best_step(tmp_path) is None
    save(tmp_path, 1, None)
    assert checkpoints.best_step(tmp_path) is None


def test_checkpoints_are_listed_in_the_order_of_their_steps(tmp_path):
    for step in (999_999, 1_000_000, 2):
        save(tmp_path, step, keep=9)
    assert names(tmp_path) == ["step-000002", "step-999999", "step-1000000"]


@pytest.mark.parametrize(
    "name", ["model.bin", "optimizer.safetensors", "trainer.json", "MANIFEST.json"]
)
def test_one_flipped_byte_is_detected_and_the_checkpoint_before_is_used(tmp_path, name, capsys):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    flip(newest / name)
    assert checkpoints.newest_whole(tmp_path) == before
    said = capsys.readouterr().err
    assert name in said
    assert "damaged" in said
    assert len(said.splitlines()) == 1
    flip(before / name)
    with pytest.raises(UserError, match=r"damaged.*no undamaged checkpoint is left"):
        checkpoints.newest_whole(tmp_path)


def test_a_missing_file_is_damage(tmp_path):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    (newest / "model.bin").unlink()
    assert checkpoints.newest_whole(tmp_path) == before
    (before / "MANIFEST.json").unlink()
    with pytest.raises(UserError, match="no MANIFEST"):
        checkpoints.newest_whole(tmp_path)


def test_leftovers_of_interrupted_saves_are_deleted(tmp_path, capsys):
    path = save(tmp_path, 1)
    folder = tmp_path / "checkpoints"
    (folder / ".step-000002.abcdefgh.gpt2v-unfinished").mkdir()
    (folder / ".step-000000.abcdefgh.gpt2v-unfinished").mkdir()
    assert checkpoints.newest_whole(tmp_path) == path
    assert len(list(folder.iterdir())) == 3  # whoever only reads removes nothing
    checkpoints.clean(tmp_path)
    assert [p.name for p in folder.iterdir()] == [path.name]
    said = capsys.readouterr().err
    assert ".step-000000.abcdefgh.gpt2v-unfinished, .step-000002.abcdefgh.gpt2v-unfinished" in said
    assert len(said.splitlines()) == 1


def test_a_copy_of_a_checkpoint_is_none(tmp_path):
    """It counted as the newest one, and the real newest one was removed."""
    first = save(tmp_path, 1, keep=1)
    shutil.copytree(first, first.with_name("step-000001-backup"))
    (first.parent / "step-notes.txt").write_text("x")
    (first.parent / "step-000009").write_text("no folder")
    second = save(tmp_path, 2, keep=1)
    assert checkpoints_of(tmp_path) == [second]
    assert checkpoints.newest_whole(tmp_path) == second
    assert (first.parent / "step-000001-backup" / "model.bin").is_file()


def test_a_run_without_checkpoints_is_no_error(tmp_path):
    assert checkpoints.newest_whole(tmp_path) is None


def test_a_checkpoint_of_weights_only_cannot_be_resumed(tmp_path):
    path = checkpoints.write(tmp_path, 3, lambda folder: (folder / "x").write_text("x") and None)
    assert checkpoints.newest_whole(tmp_path) == path
    with pytest.raises(UserError, match="no training state"):
        checkpoints.load(path)


def test_a_failed_save_leaves_the_checkpoint_before_it(tmp_path):
    before = save(tmp_path, 1)

    def fail(folder):
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"step-000002.*No space left.*step-000001 is complete"):
        checkpoints.write(tmp_path, 2, fail)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [before.name]
    assert verify(before) == ""


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gpt2v.errors import UserError
from gpt2v.storage.manifest import verify
from test_checkpoints import save
run = Path(sys.argv[1])
save(run, 1, size=1000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing past the limit is an OSError
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    save(run, 2, size=10_000)
except UserError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_checkpoint_before_it_complete(tmp_path, request):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step-000002: cannot be saved: File too large; step-000001 is complete" in done.stdout
    assert names(tmp_path) == ["step-000001"]
    assert checkpoints.newest_whole(tmp_path) == tmp_path / "checkpoints" / "step-000001"
