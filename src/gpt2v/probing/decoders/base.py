"""What decoders have in common: how they are fitted, and what a fitted one can do.

A decoder is one class, registered in `DECODERS`; the built-in ones are described in
`config.decoders`. It is fitted on the features of training pictures. Validation pictures choose the
strength of its penalty, and then it is fitted on both together.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2v.errors import UserError
from gpt2v.hardware.device import chosen_device, to_device

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Tensors = dict[str, NDArray[np.generic]]


class Fitted(Protocol):
    """A decoder that has been fitted to one set of labels."""

    @property
    def strength(self) -> float:
        """What was chosen on `val`: the penalty, or the number of neighbours."""
        ...

    def scores(self, x: Features) -> Floats:
        """(n_rows, n_features) -> (n_rows, n_classes); the highest is the prediction."""
        ...

    def tensors(self) -> Tensors:
        """What is saved."""
        ...


class Decoder(Protocol):
    """A class in `DECODERS`; it is made without arguments, or with its `options`.

    Attributes:
        reads: `cell`: x is (n_rows, n_features), what belongs to one cell. `picture`: x is
            (P, N, D), all patches of the picture.
    """

    reads: ClassVar[Literal["cell", "picture"]]

    def fit(
        self, x: Features, labels: Labels, x_val: Features, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        """Fit sets of labels of the same rows (the true ones, those of controls ...).

        Args:
            x: features of the training rows.
            labels: (n_sets, n_rows).
            x_val: features of the rows that choose the strength.
            val_labels: (n_sets, n_val_rows).

        Returns:
            One for each set.

        Raises:
            UserError: as `check_labels`.
        """
        ...

    @classmethod
    def opened(cls, tensors: Tensors) -> Fitted:
        """A fitted decoder from its `tensors()`."""
        ...


def check_labels(
    labels: Labels, val_labels: Labels, n_classes: int, only_first: bool = False
) -> None:
    """Refuse labels from which not all classes can be learnt.

    Args:
        labels: (n_sets, n_rows).
        val_labels: (n_sets, n_val_rows).
        only_first: whether only the first set must have all classes.

    Raises:
        UserError: there are fewer rows than classes, a class is in no row, or no row is left to
            choose the strength.
    """
    n_rows = labels.shape[1]
    if n_rows < n_classes:
        raise UserError(f"{n_rows} training pictures are too few for {n_classes} classes")
    if val_labels.shape[1] == 0:
        raise UserError("no picture of val is left to choose the strength")
    for own in labels[:1] if only_first else labels:
        absent = np.flatnonzero(np.bincount(own, minlength=n_classes) == 0)
        if len(absent):
            raise UserError(f"class {absent[0]}: no picture of train shows it here")


def exact(array: NDArray[Any]) -> Tensor:
    """An array in float64, on the chosen device if that has such numbers (MPS has not)."""
    device = chosen_device()
    if device.type == "mps":
        device = torch.device("cpu")
    return to_device(array, device).double()


def moved(array: NDArray[Any]) -> Tensor:
    """An array on the chosen device."""
    return to_device(array, chosen_device())


def blocks_of(rows: Tensor, size: int = 1024) -> tuple[Tensor, ...]:
    """Rows, some at a time."""
    blocks: tuple[Tensor, ...] = torch.split(rows, size)
    return blocks
