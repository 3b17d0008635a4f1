"""Checkpoints that a training resumes from. The newest ones and the best one are kept.

`checkpoints/step-NNNNNN/` holds the files of the task (Hugging Face files),
`optimizer.safetensors` (missing if only weights were saved), `trainer.json`, and `MANIFEST.json`
with the sha256 of each file. A checkpoint is written completely or not at all.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt2v.errors import UserError
from gpt2v.messages import say, say_from_first
from gpt2v.run_layout import CHECKPOINTS, checkpoints_of, step_of
from gpt2v.storage.files import reason
from gpt2v.storage.folders import remove_directory, remove_unfinished, whole_directory
from gpt2v.storage.manifest import MANIFEST, verify, write_manifest
from gpt2v.train.finite import check_finite
from gpt2v.train.loss_scale import ScaleState

OPTIMIZER, TRAINER = "optimizer.safetensors", "trainer.json"


@dataclass(frozen=True)
class TrainerState:
    """How far a training has come: the content of `trainer.json`."""

    step: int = 0  # number of steps done
    validation: dict[str, float] | None = None  # the last results on validation data
    merit: float | None = None  # of this step's weights, if they were validated; higher is better
    data_hash: str = ""
    loss_scale: ScaleState | None = None  # of a training in fp16
    parts: int | None = None  # slices of each batch: processes times micro-batches; None: not known


def folder_of(run: Path) -> Path:
    return run / CHECKPOINTS


def _name(step: int) -> str:
    return f"step-{step:06d}"


def write(run: Path, step: int, save_files: Callable[[Path], None]) -> Path:
    """Write one checkpoint with its manifest, completely or not at all, and return its path.

    Args:
        save_files: writes the checkpoint's files into the given directory.

    Raises:
        UserError: the files cannot be written, e.g. because the disk is full.
    """
    target = folder_of(run) / _name(step)
    try:
        remove_directory(target)  # a damaged one: trainings resume from the newest whole one
        with whole_directory(target) as folder:
            save_files(folder)
            write_manifest(folder)
    except (OSError, SafetensorError) as error:
        before = [path.name for path in checkpoints_of(run)]
        advice = f"; {before[-1]} is complete: free disk space, then --resume" if before else ""
        raise UserError(f"{target}: cannot be saved: {reason(error)}{advice}") from None
    return target


def clean(run: Path) -> None:
    """Remove what interrupted saves and removals left; only the owner of the run may do it."""
    remove_unfinished(folder_of(run))


def newest_whole(run: Path) -> Path | None:
    """The newest undamaged checkpoint, or None if the run has no checkpoint.

    Prints on stderr which damaged ones it skips.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    fault = ""
    for path in reversed(checkpoints_of(run)):
        fault = verify(path) or ("" if (path / MANIFEST).is_file() else f"{path}: no {MANIFEST}")
        if not fault:
            return path
        say(f"{fault}; trying the checkpoint before it")
    if fault:
        raise UserError(f"{fault}, and no undamaged checkpoint is left; --overwrite starts again")
    return None


def save(
    run: Path,
    state: TrainerState,
    save_model: Callable[[Path], None],
    tensors: dict[str, Tensor],
    keep: int,
    always: Collection[int] = (),
) -> Path:
    """Write a checkpoint to resume from, and delete old ones.

    The `keep` newest checkpoints, the best one, and those of the steps in `always` are kept.

    Args:
        save_model: writes the model into the given directory.
        tensors: the optimizers' state.

    Raises:
        UserError: the files cannot be written, e.g. because the disk is full.
    """

    def files(folder: Path) -> None:
        save_model(folder)
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / OPTIMIZER)
        text = json.dumps(asdict(state), indent=1) + "\n"
        (folder / TRAINER).write_text(text, encoding="utf-8", newline="\n")

    target = write(run, state.step, files)
    merits = {path: _merit(path) for path in checkpoints_of(run)}
    measured = {path: merit for path, merit in merits.items() if merit is not None}
    best = max(measured, key=measured.__getitem__, default=None)
    kept = {best, *(folder_of(run) / _name(step) for step in always)}
    for path in checkpoints_of(run)[:-keep]:
        if path not in kept:
            try:
                remove_directory(path)
            except PermissionError as error:  # Windows: e.g. an evaluation reads it
                say(f"{path}: stays until the next one is saved: {reason(error)}")
    return target


def best_step(run: Path) -> int | None:
    """The step of the checkpoint with the best validation, the newest of equal ones; None: none
    was validated.
    """
    merits = {path: _merit(path) for path in reversed(checkpoints_of(run))}
    measured = {path: merit for path, merit in merits.items() if merit is not None}
    best = max(measured, key=measured.__getitem__, default=None)
    return None if best is None else step_of(best)


def _merit(path: Path) -> float | None:
    try:
        merit = json.loads((path / TRAINER).read_text("utf-8"))["merit"]
        return None if merit is None else float(merit)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load(path: Path) -> tuple[TrainerState, dict[str, Tensor]]:
    """Read what `save` wrote beside the model: the trainer's state and the optimizers' state.

    Raises:
        UserError: the checkpoint holds only weights, or a state is NaN or infinite.
    """
    try:
        content = json.loads((path / TRAINER).read_text("utf-8"))
        if content.get("loss_scale") is not None:  # older checkpoints lack it
            content["loss_scale"] = ScaleState(**content["loss_scale"])
        state = TrainerState(**content)
        mapped = load_file(path / OPTIMIZER)
        tensors = {name: tensor.clone() for name, tensor in mapped.items()}  # not the file's pages
    except (OSError, ValueError, TypeError, SafetensorError):
        raise UserError(f"{path}: holds no training state to resume from") from None
    check_finite(tensors, f"{path / OPTIMIZER}", "the training has diverged; start it again")
    return state, tensors


def check_parts(path: Path, state: TrainerState, parts: int, refuse: bool) -> None:
    """Say, or refuse, that a resumed training cuts its batches into another number of parts.

    Args:
        path: the checkpoint, which has this state.
        refuse: whether the loss depends on the number.

    Raises:
        UserError: it does.
    """
    if state.parts in (None, parts):
        return
    change = (
        f"{path}: its steps cut a batch into {state.parts} parts (processes times "
        f"train.accumulate), not {parts} as now"
    )
    if refuse:
        raise UserError(f"{change}, which changes the loss; use as many processes as before")
    say_from_first(
        f"{change}; from here on dropout draws other masks, and sums are rounded otherwise"
    )
