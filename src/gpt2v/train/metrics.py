"""The log of a training: always metrics.jsonl; TensorBoard and Weights & Biases on request."""

import json
import time
from pathlib import Path
from typing import Any

from gpt2v.config.loop import TrainConfig
from gpt2v.errors import UserError
from gpt2v.run_layout import METRICS
from gpt2v.storage.files import write_text, writing


class Metrics:
    """Writes metrics.jsonl, one JSON object per logged step, and copies to the other loggers.

    Each line is flushed as it is written.

    Args:
        done: number of steps done; lines of later steps are deleted.

    Raises:
        UserError: files cannot be written; so do `log` and `close`.
    """

    def __init__(self, run: Path, config: TrainConfig, done: int = 0) -> None:
        self._path = run / METRICS
        _truncate(self._path, done)
        with writing(self._path):
            self._file = self._path.open("a", encoding="utf-8", newline="\n")
        self._boards = run / "tensorboard"
        with writing(self._boards):
            self._board = _tensorboard(self._boards, done) if config.tensorboard else None
        self._wandb = _wandb(run, config.wandb) if config.wandb else None

    def log(self, step: int, **values: Any) -> None:
        """Append one line; numbers, and dicts of numbers, also go to the other loggers."""
        line = {"step": step, "time": round(time.time(), 3), **values}
        with writing(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        scalars = {
            f"{name}/{key}" if key else name: number
            for name, value in values.items()
            for key, number in (value if isinstance(value, dict) else {"": value}).items()
            if isinstance(number, int | float)
        }
        if self._board:
            with writing(self._boards):
                for tag, number in scalars.items():
                    self._board.add_scalar(tag, number, step)
        if self._wandb:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        with writing(self._path):
            self._file.close()
        if self._board:
            with writing(self._boards):
                self._board.close()
        if self._wandb:
            self._wandb.finish()


def check_loggers(config: TrainConfig) -> None:
    """Check that what a training logs to is installed.

    Raises:
        UserError: it is not.
    """
    if config.wandb:
        _import_wandb()


def _truncate(path: Path, done: int) -> None:
    """Delete lines of later steps, and an incomplete last line."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= done:
                lines.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(lines))


def _tensorboard(folder: Path, done: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # loads slowly

    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError(
            "train.wandb: Weights & Biases is not installed; pip install 'gpt2v[wandb]'"
        ) from None
    return wandb


def _wandb(run: Path, project: str) -> Any:
    wandb = _import_wandb()
    name = run.resolve().name
    return wandb.init(project=project, name=name, id=name, dir=str(run), resume="allow")
