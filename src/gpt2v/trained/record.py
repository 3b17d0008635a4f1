"""The record of what a model was trained on, beside the weights of every checkpoint.

It has the names of the objects, the training pictures (a hash of each file) and the grids, but no
paths. A model that starts from others, as a GPT-2v does, was trained on what they were trained on.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gpt2v.config.grids import GridConfig
from gpt2v.data.rng import U64
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import UserError

FILE = "trained_on.json"
Grid = dict[str, Any]  # the plain values of a data spec


def _no_pictures() -> U64:
    return np.zeros(0, np.uint64)


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on.

    Attributes:
        class_names: of its objects, in order; None: it has seen neither grids nor scenes.
        source: of the tiles that it saw as pictures; None: it has seen none.
        tile_size: side of those tiles in pixels.
        files: hash of all files of those tiles, held-out ones included; None: they are drawn.
        pictures: (n_pictures,) sorted hashes of the files that it was trained on.
        grids: the data specs of grids.
    """

    class_names: tuple[str, ...] | None = None
    source: str | None = None
    tile_size: int | None = None
    files: str | None = None
    pictures: U64 = field(default_factory=_no_pictures)
    grids: tuple[Grid, ...] = ()

    def after(self, *earlier: "TrainedOn | None") -> "TrainedOn":
        """The same, for a model that starts from models with these records (None: unknown)."""
        known = [other for other in earlier if other is not None]
        return replace(
            self,
            pictures=np.unique(np.concatenate([self.pictures, *(o.pictures for o in known)])),
            grids=(*self.grids, *(grid for other in known for grid in other.grids)),
        )

    def write(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        values = {
            "class_names": self.class_names,
            "source": self.source,
            "tile_size": self.tile_size,
            "files": self.files,
            "pictures": base64.b64encode(self.pictures.astype("<u8").tobytes()).decode(),
            "grids": self.grids,
        }
        text = json.dumps(values, ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8", newline="\n")


class _Part(BaseModel):
    """A part of the file; what other versions write beside its fields is ignored."""

    model_config = ConfigDict(strict=True)


_Size = int | Annotated[list[int], Field(min_length=2, max_length=2)]


class _Augment(_Part):
    paraphrase: bool
    held_out: bool
    delimiters: list[str]
    index_bases: list[int]


class _Grid(_Part):
    rows: _Size
    cols: _Size
    palette: _Size
    instructions: dict[str, Any]
    modality: str
    mode: str
    form: str | dict[str, Any]
    patches: int
    picture: dict[str, Any]
    augment: _Augment


class _File(_Part):
    class_names: list[str] | None
    source: str | None
    tile_size: int | None
    files: str | None
    pictures: str
    grids: list[_Grid]


def read_record(checkpoint: str) -> TrainedOn | None:
    """The record in a checkpoint; None: it has none, as those of other tools and of hub ids.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(checkpoint) / FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
        known = _File.model_validate(values)
        return TrainedOn(
            class_names=None if known.class_names is None else tuple(known.class_names),
            source=known.source,
            tile_size=known.tile_size,
            files=known.files,
            pictures=np.frombuffer(base64.b64decode(known.pictures, validate=True), "<u8"),
            grids=tuple(values["grids"]),
        )
    except (OSError, ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, ValidationError):
            where = ".".join(map(str, error.errors()[0]["loc"])) + ": "
        raise UserError(
            f"{path}: {where}cannot be read; it says what the model was trained on"
        ) from None


def record_of(
    bank: TileBank | None, grids: Sequence[GridConfig], shows_pictures: bool
) -> TrainedOn:
    """The record of a training.

    Args:
        bank: its tiles; None: it has none.
        grids: its data specs of grids.
        shows_pictures: whether it shows grids or scenes as pictures.
    """
    if bank is None or not (grids or shows_pictures):
        return TrainedOn()
    record = TrainedOn(
        bank.class_names, grids=tuple(spec.model_dump(mode="json") for spec in grids)
    )
    if not shows_pictures:
        return record
    digests = bank.splits["train"].digests
    return replace(
        record,
        source=str(bank.name),
        tile_size=bank.size,
        files=bank.files_hash,
        pictures=record.pictures if digests is None else np.unique(digests),
    )
