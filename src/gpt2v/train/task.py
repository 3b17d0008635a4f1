"""What the training loop asks of a task.

Shapes: B samples of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Countable(Protocol):
    """What the loop needs from a batch."""

    @property
    def n_supervised(self) -> int:
        """Number of items that the loss is summed over."""

    @property
    def n_tokens(self) -> int:
        """Number of tokens that the model reads."""

    @property
    def index(self) -> NDArray[np.int64]:
        """Numbers of the samples, (B,)."""


BatchT = TypeVar("BatchT", bound=Countable)


@dataclass(frozen=True)
class Task(Generic[BatchT]):
    """What is trained: the model, its data, its loss and its validation."""

    model: nn.Module
    batch: Callable[[int, int, int], BatchT]  # (step, part, parts) -> slice of the step's batch
    loss: Callable[[BatchT], Tensor]  # summed over the batch's supervised items
    evaluate: Callable[[], dict[str, float]]
    describe: Callable[[int], str]  # names the data of a step, for the log
    save: Callable[[Path], None]  # writes the model into a directory
    load: Callable[[Path], None]  # loads the weights from that directory
    merit: Callable[[dict[str, float]], float]  # of validation results; higher is better
    # computes in advance, in another thread, what the loss will need of a batch
    prepare: Callable[[BatchT], None] = lambda batch: None
    flops: Callable[[BatchT], float] = lambda batch: 0.0  # of one step on a batch
    compiled: tuple[nn.Module, ...] = ()  # modules for torch.compile
    sharded: tuple[nn.Module, ...] = ()  # modules for train.shard: only ever called, never read
    begin: Callable[[int, int], None] = lambda start, end: None  # before the steps of a stage
    data_hash: str = ""
    hashed: str = "tiles or corpora"  # what the hash is of, for messages
    depends_on_parts: bool = False  # whether the loss depends on how a batch is cut into slices
    unused: bool = False  # whether some batches give some parameters no gradient
