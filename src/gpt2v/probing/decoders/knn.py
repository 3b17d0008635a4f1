"""Nearest neighbours: a decoder without parameters, which is hurt by directions without meaning."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from gpt2v.config.decoders import NeighbourOptions
from gpt2v.errors import UserError
from gpt2v.probing.decoders.base import (
    Features,
    Fitted,
    Floats,
    Labels,
    Tensors,
    blocks_of,
    check_labels,
    moved,
)
from gpt2v.probing.decoders.linear import Best


class Neighbours:
    """The number of neighbours is the strength; a tie is decided by the nearest."""

    reads: ClassVar[Literal["cell", "picture"]] = "cell"

    def __init__(self, options: NeighbourOptions | None = None) -> None:
        self.options = options or NeighbourOptions()

    def fit(
        self, x: Features, labels: Labels, x_val: Features, val_labels: Labels, n_classes: int
    ) -> list[Fitted]:
        """See `Decoder.fit`.

        Raises:
            UserError: also if no number of neighbours is below that of the rows.
        """
        check_labels(labels, val_labels, n_classes)
        numbers = [k for k in self.options.neighbours if 1 <= k <= len(x)]
        if not numbers:
            raise UserError(f"neighbours: one number must be from 1 to the {len(x)} training rows")
        cosine = self.options.distance == "cosine"
        near = nearest(x, x_val, x.mean(0), max(numbers), cosine)
        best = Best(val_labels)
        for k in sorted(numbers, reverse=True):
            votes = [votes_of(own[near[:, :k]], n_classes) for own in labels]
            best.offer(k, np.stack([own.argmax(1) for own in votes]))
        both = np.concatenate([x, x_val])
        mean, settings = both.mean(0), np.array([n_classes, cosine])
        return [
            NeighboursFitted(mean, both, np.concatenate(own), int(k), settings)
            for *own, k in zip(labels, val_labels, best.strength, strict=True)
        ]

    @classmethod
    def opened(cls, tensors: Tensors) -> Fitted:
        """See `Decoder.opened`."""
        return NeighboursFitted.opened(tensors)


@dataclass(frozen=True)
class NeighboursFitted:
    """Training rows with their classes.

    Attributes:
        mean: (n_features,).
        x: (n_rows, n_features).
        labels: (n_rows,).
        k: how many neighbours decide.
        settings: number of classes, and whether distances are those of directions.
    """

    mean: Features
    x: Features
    labels: Labels
    k: int
    settings: Labels

    @property
    def strength(self) -> float:
        """How many neighbours decide."""
        return float(self.k)

    def scores(self, x: Features) -> Floats:
        """(n_rows, n_features) -> (n_rows, n_classes)."""
        near = nearest(self.x, x, self.mean, self.k, bool(self.settings[1]))
        return votes_of(self.labels[near], int(self.settings[0]))

    def tensors(self) -> Tensors:
        """What is saved."""
        return {
            "mean": self.mean,
            "x": self.x,
            "labels": self.labels,
            "k": np.array(self.k),
            "settings": self.settings,
        }

    @classmethod
    def opened(cls, tensors: Tensors) -> Self:
        """From its `tensors()`."""
        mean, x = (tensors[name].astype(np.float32) for name in ("mean", "x"))
        labels, settings = (tensors[name].astype(np.int64) for name in ("labels", "settings"))
        return cls(mean, x, labels, int(tensors["k"].astype(int)), settings)


def votes_of(labels: Labels, n_classes: int) -> Floats:
    """Classes of neighbours (n_rows, k), the nearest first -> votes (n_rows, n_classes).

    The nearest counts 1.25, and then each 1 and half of what the one before has above 1.
    """
    weight = 1 + 0.25 * 0.5 ** np.arange(labels.shape[1])
    votes: Floats = np.einsum("k,nkc->nc", weight, np.eye(n_classes)[labels])
    return votes


def nearest(x: Features, asked: Features, mean: Features, k: int, cosine: bool) -> Labels:
    """The k rows of x that are nearest to each row that is asked about, (n_asked, k)."""
    rows, asked_rows = (_centred(part, mean, cosine) for part in (x, asked))
    half = rows.square().sum(1) / 2
    found = [
        torch.topk(block @ rows.T - half, k, dim=1).indices.cpu() for block in blocks_of(asked_rows)
    ]
    numbers: Labels = torch.cat(found).numpy()
    return numbers


def _centred(x: Features, mean: Features, cosine: bool) -> Tensor:
    centred = moved(x) - moved(mean)
    return torch.nn.functional.normalize(centred, dim=1) if cosine else centred
