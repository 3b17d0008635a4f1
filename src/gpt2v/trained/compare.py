"""What is measured, compared with what the model was trained on.

Other class names, and pictures that the model was trained on, are refused. Grids of another size,
wording or look are what generalisation is measured with: they are said in one line.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2v.config.grids import Mode, bounds
from gpt2v.data.data_files import some_of
from gpt2v.data.dataset import GridDataset
from gpt2v.data.rng import U64
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.trained.defaults import training_of
from gpt2v.trained.record import Grid, TrainedOn, read_record, record_of

_NAMED = 10  # class names that a message lists at most


@dataclass(frozen=True)
class Measured:
    """What is measured: data sets, each with the modalities in which it is shown.

    Attributes:
        mode: whether a question is read after the earlier ones.
    """

    bank: TileBank
    sets: Sequence[tuple[GridDataset, Sequence[str]]]
    mode: Mode = "independent"

    @property
    def modalities(self) -> list[str]:
        """All modalities."""
        return list(dict.fromkeys(m for _, modalities in self.sets for m in modalities))

    @property
    def has_pictures(self) -> bool:
        """Whether some grids are shown as pictures."""
        return any(modality != "text" for modality in self.modalities)


@dataclass(frozen=True)
class Comparison:
    """How a measurement differs from the training of its model.

    Attributes:
        lines: for the user.
        results: for results.json.
    """

    lines: tuple[str, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)

    def say(self) -> None:
        """Print the lines; call it when nothing can be refused any more, beside the results."""
        for line in self.lines:
            say(line)


NOT_COMPARED = Comparison()


def recorded(model: str, checkpoint: str) -> TrainedOn | None:
    """What a model was trained on: the record in its checkpoint, else by its run's configuration.

    Args:
        model: as the user named it: a run, a checkpoint or a hub id.
        checkpoint: where its weights are.

    Returns:
        None: it cannot be told.
    """
    record = read_record(checkpoint)
    if record is not None:
        return record
    try:  # a run of an older version
        training = training_of(model)
        if training is None:
            return None
        grids = training.grids
        has_objects = bool(grids) or training.scenes
        bank = load_bank(training.tiles) if has_objects else None
    except UserError:
        return None
    pictured = training.scenes or any(spec.modality != "text" for spec in grids)
    return record_of(bank, grids, pictured)


def compare(
    model: str, record: TrainedOn | None, measured: Measured, allow: Sequence[str], taken: str = ""
) -> Comparison:
    """Compare what is measured with what the model was trained on.

    Args:
        model: as the user named it.
        record: what it was trained on; None: unknown.
        allow: what is not refused, see the configuration.
        taken: the line about what was taken from the run; empty: nothing.

    Raises:
        UserError: a class name is unknown to the model, or it was trained on held-out pictures.
    """
    bank = measured.bank
    lines = [taken] if taken else []
    if record is None:
        lines.append(f"{model}: nothing says which objects it was trained on; names not checked")
        return Comparison(tuple(lines), {"class_names": list(bank.class_names)})
    new = [*_other_classes(model, record, bank, allow)]
    new += _trained_pictures(model, record, measured, allow)
    new += _other_tiles(record, measured)
    for modality in measured.modalities:
        new += _unseen(record, measured, modality)
    if new:
        lines.append(f"{model}: not as in training: {'; '.join(new)}")
    hashes = {"tiles_files": bank.files_hash, "trained_tiles_files": record.files}
    return Comparison(
        tuple(lines),
        {
            "class_names": list(bank.class_names),
            "not_as_trained": new,
            **{key: value for key, value in hashes.items() if value is not None},
        },
    )


def _other_classes(
    model: str, record: TrainedOn, bank: TileBank, allow: Sequence[str]
) -> list[str]:
    if record.class_names is None:
        return ["it was trained on no grids or scenes"]
    known = record.class_names
    others = [name for name in bank.class_names if name not in known]
    if others and "other-classes" not in allow:
        raise UserError(
            f"tiles: {model} was not trained on the class '{others[0]}' of the {bank.name} tiles, "
            f"but on {_listed(known)}; measure it on these, or set allow: [other-classes]"
        )
    if others:
        return [f"{len(others)} other classes, e.g. '{others[0]}'"]
    missing = len(known) - len(bank.class_names)
    return [f"{len(bank.class_names)} of its {len(known)} classes"] if missing else []


def _listed(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*(f"'{name}'" for name in names[:_NAMED]), *more])


def _trained_pictures(
    model: str, record: TrainedOn, measured: Measured, allow: Sequence[str]
) -> list[str]:
    """Held-out pictures that are none for this model.

    The files of a class decide together which of them are held out, so a picture that is added to
    a folder, or removed, can move others from the training to the test.
    """
    if not measured.has_pictures:
        return []
    found = []
    for split in dict.fromkeys(data.split for data, _ in measured.sets):
        n, total, first = overlap(measured.bank, split, record.pictures)
        if split == "train" or not n:
            continue
        what = f"{n} of the {total} {split} pictures were trained on (the first: {first})"
        if "trained-pictures" not in allow:
            raise UserError(
                f"tiles: {model}: {what}; restore the pictures of the training, use others, or set "
                "allow: [trained-pictures]"
            )
        found.append(what)
    return found


def overlap(bank: TileBank, split: str, pictures: U64) -> tuple[int, int, str]:
    """How many tiles of a split are among these pictures, of how many, and the first of them."""
    own = bank.splits[split]
    if own.digests is None:
        return 0, len(own.sources), ""
    same = np.flatnonzero(np.isin(own.digests, pictures))
    return len(same), len(own.sources), own.sources[same[0]] if len(same) else ""


def _other_tiles(record: TrainedOn, measured: Measured) -> list[str]:
    bank = measured.bank
    if not measured.has_pictures or record.source is None:
        return []
    found = []
    if bank.name != record.source:
        found.append(f"{bank.name} tiles (training: {record.source})")
    elif bank.files_hash != record.files:
        found.append(f"other pictures (files {bank.files_hash}; training: {record.files})")
    if bank.size != record.tile_size:
        found.append(f"tiles of {bank.size} pixels (training: {record.tile_size})")
    return found


# ---- grids -----------------------------------------------------------------------------------


def _unseen(record: TrainedOn, measured: Measured, modality: str) -> list[str]:
    """What the grids of a modality have that those of the training had not, in a few words."""
    if record.class_names is None:
        return []
    sets = [data for data, modalities in measured.sets if modality in modalities]
    shown = [_plain(data.spec, measured.mode) for data in sets]
    trained = [grid for grid in record.grids if grid["modality"] == modality]
    if not trained:
        return [f"{modality}: no grid was shown so"]
    found = []
    for what, aspects in _ASPECTS.items():
        if what in _NOT_IN.get(modality, ()):
            continue
        here, there = (set().union(*map(aspects, grids)) for grids in (shown, trained))
        if new := sorted(here - there):
            found.append(f"{modality}: {what} {some_of([str(one) for one in new])}")
    return found


def _plain(spec: Any, mode: Mode) -> Grid:
    """The plain values of a spec, with the table as its form if it has none."""
    values = {"form": "markdown", "mode": mode, **spec.model_dump(mode="json")}
    return values if "instructions" in values else values | {"mode": None}  # a probe asks nothing


def _sizes(grid: Grid) -> set[str]:
    rows, cols = (_range(grid, name) for name in ("rows", "cols"))
    return {f"{r}x{c}" for r in rows for c in cols}


def _range(grid: Grid, name: str) -> range:
    low, high = bounds(grid[name])
    return range(low, high + 1)


def _wording(grid: Grid) -> set[str]:
    augment = grid.get("augment", {})
    flags = {f"{name} {augment[name]}" for name in ("paraphrase", "held_out") if name in augment}
    return flags | {f"index base {base}" for base in augment.get("index_bases", ())}


def _form(grid: Grid) -> set[str]:
    form = json.dumps(grid["form"]).strip('"')
    return {f"{form}, patches {grid['patches']}" if form == "patch-tiled" else form}


_ASPECTS: dict[str, Callable[[Grid], set[Any]]] = {
    "size": _sizes,
    "palette": lambda grid: set(_range(grid, "palette")),
    "question": lambda grid: set(grid.get("instructions", ())),
    "questions": lambda grid: {grid["mode"]} - {None},
    "wording": _wording,
    "form": _form,
    "delimiter": lambda grid: set(grid.get("augment", {}).get("delimiters", ())),
    "picture": lambda grid: {f"{name} {value}" for name, value in grid["picture"].items()},
}
_NOT_IN = {"text": ("picture",), "image": ("form", "delimiter")}
