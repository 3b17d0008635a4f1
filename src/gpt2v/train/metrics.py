"""What a training logs: metrics.jsonl, always, and TensorBoard."""

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Metrics:
    """metrics.jsonl, one JSON object per logged step, flushed as it is written; and TensorBoard."""

    def __init__(self, run: Path) -> None:
        self._file = (run / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(run / "tensorboard"))

    def log(self, step: int, **values: Any) -> None:
        """Append one line; numbers, and mappings to numbers, also become TensorBoard scalars."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            for key, number in (value if isinstance(value, dict) else {"": value}).items():
                if isinstance(number, int | float):
                    tag = f"{name}/{key}" if key else name
                    self._board.add_scalar(tag, number, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()
