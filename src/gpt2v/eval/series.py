"""What an evaluation measures: models, and the grids that they are asked about in each modality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2v.config.grids import Mode
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.model.scoring import Scorer


@dataclass(frozen=True)
class ScoredModel:
    """A model that is measured.

    Attributes:
        name: `lm` or `gpt2v`, in the records and results.
        modalities: in which it is shown grids.
        identity: which weights it has, see `model.identity`; empty: they are in no checkpoint.
        geometry: of the pictures that its vision tower takes; None: it has none, or it is unknown.
        fills: whether the pictures of grids are scaled, as they are, to the tower's size, as the
            processors of most other models do; None: they are shown as they are drawn.
    """

    name: str
    scorer: Scorer
    modalities: Sequence[str]
    identity: Mapping[str, Any] = field(default_factory=dict)
    geometry: PictureGeometry | None = None
    fills: Callable[[GridDataset], bool] | None = None


@dataclass(frozen=True)
class Part:
    """The grids of an evaluation, or of one part of a suite; all modalities show the same grids."""

    data: GridDataset
    name: str | None = None  # of a suite's part
    modalities: Sequence[str] = ("text", "image")  # in which they may be shown
    mode: Mode = "independent"  # whether a question is read after the earlier ones

    def shown(self, modalities: Sequence[str]) -> list[str]:
        """Those of the given modalities in which the part may be shown."""
        return [modality for modality in modalities if modality in self.modalities]


@dataclass(frozen=True)
class Series:
    """One model's answers to the questions about the grids of one part in one modality."""

    model: ScoredModel
    part: Part
    modality: str

    @property
    def names(self) -> dict[str, str]:
        """What its rows of results begin with."""
        part = {} if self.part.name is None else {"part": self.part.name}
        return {"model": self.model.name, "modality": self.modality, **part}

    @property
    def columns(self) -> dict[str, str | None]:
        """What each of its records says: its names, and which weights have answered."""
        keys = {"run": "model", "checkpoint": "checkpoint", "weights": "weights"}
        known = {column: self.model.identity.get(key) for column, key in keys.items()}
        return {**self.names, "mode": self.part.mode, **known}
