"""Checkpoints that training goes on from: whole or absent, checksummed, the newest and the best.

`checkpoints/step-NNNNNN/` holds what the task writes (Hugging Face files), `optimizer.safetensors`
(absent where only weights were saved), `trainer.json`, and `MANIFEST.json` with the sha256 of each.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2v import runs
from gpt2v.errors import UserError

MANIFEST, OPTIMIZER, TRAINER = "MANIFEST.json", "optimizer.safetensors", "trainer.json"


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0  # steps done
    validation: dict[str, float] | None = None  # the last one
    merit: float | None = None  # of the weights of this step, if they were measured; more is better
    data_hash: str = ""


def folder_of(run: Path) -> Path:
    return run / "checkpoints"


def _name(step: int) -> str:
    return f"step-{step:06d}"


def listed(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted(folder_of(run).glob("step-*"), key=lambda path: (len(path.name), path.name))


def write(run: Path, step: int, save_files: Callable[[Path], None]) -> Path:
    """Write one checkpoint with its manifest, whole or not at all.

    Raises:
        UserError: the files cannot be written, e.g. because the disk is full.
    """
    target = folder_of(run) / _name(step)
    try:
        if target.exists():
            runs.remove_directory(target)
        with runs.whole_directory(target) as folder:
            save_files(folder)
            for path in folder.iterdir():
                path.chmod(0o644)  # safetensors makes its files private
            sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
            (folder / MANIFEST).write_text(json.dumps(sums, indent=1) + "\n")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        before = [path.name for path in listed(run)]
        kept = f"; {before[-1]} is whole: make room, then --resume" if before else ""
        raise UserError(f"{target}: cannot be saved: {reason}{kept}") from None
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path) -> str:
    """What is wrong with a checkpoint's files, as one phrase that names the file; or nothing."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return ""  # a checkpoint that another tool wrote
    try:
        sums = dict(json.loads(manifest.read_text()))
    except (OSError, ValueError, TypeError):
        return f"{manifest}: damaged (not a list of checksums)"
    for name, expected in sums.items():
        file = path / name
        if not file.is_file() or _sha256(file) != expected:
            return f"{file}: damaged (it differs from {MANIFEST})"
    return ""


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint without damage; says on stderr which ones it passes over.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    for leftover in folder_of(run).glob(".step-*"):  # of a save or a removal that was cut off
        shutil.rmtree(leftover, ignore_errors=True)
    fault = ""
    for path in reversed(listed(run)):
        fault = verify(path) or ("" if (path / MANIFEST).is_file() else f"{path}: no {MANIFEST}")
        if not fault:
            return path
        print(f"gpt2v: {fault}; going back to the checkpoint before it", file=sys.stderr)
    if fault:
        raise UserError(f"{fault}, and no other checkpoint is whole; --overwrite starts anew")
    return None


def save(
    run: Path,
    progress: Progress,
    save_model: Callable[[Path], None],
    state: dict[str, Tensor],
    keep: int,
    always: Collection[int] = (),
) -> Path:
    """Write a checkpoint to go on from; then keep the `keep` newest ones and the best.

    Those of the steps in `always` stay, too.
    """

    def files(folder: Path) -> None:
        save_model(folder)
        save_file({k: v.contiguous() for k, v in state.items()}, folder / OPTIMIZER)
        (folder / TRAINER).write_text(json.dumps(asdict(progress), indent=1) + "\n")

    target = write(run, progress.step, files)
    merits = {path: _merit(path) for path in listed(run)}
    measured = {path: merit for path, merit in merits.items() if merit is not None}
    best = max(measured, key=measured.__getitem__, default=None)
    stays = {best, *(folder_of(run) / _name(step) for step in always)}
    for path in listed(run)[:-keep]:
        if path not in stays:
            runs.remove_directory(path)
    return target


def _merit(path: Path) -> float | None:
    try:
        merit = json.loads((path / TRAINER).read_text())["merit"]
        return None if merit is None else float(merit)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    """What `save` wrote beside the model: the progress and the optimizers' state.

    Raises:
        UserError: the checkpoint holds weights only.
    """
    try:
        progress = Progress(**json.loads((path / TRAINER).read_text()))
        return progress, load_file(path / OPTIMIZER)
    except (OSError, ValueError, TypeError, SafetensorError):
        raise UserError(f"{path}: holds no state of a training to go on from") from None
