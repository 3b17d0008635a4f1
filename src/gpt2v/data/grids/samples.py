"""The sample: a grid, what is asked about it, and in which words, as integer arrays."""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from gpt2v.config.grids import SampleSpec, bounds
from gpt2v.data import rng
from gpt2v.data.grids.cells import Dice, Grids, draw_grids
from gpt2v.data.grids.instructions import ALL, drawing_order, number_of
from gpt2v.data.grids.instructions.base import FIELDS, Asked, Places
from gpt2v.data.grids.paraphrases import draw_wording
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.errors import UserError

NOT_ASKED = -1  # instruction of a place in (B, Q) without a question


def _zero() -> Ints:
    return np.zeros(1, np.int64)


def _zeros() -> Ints:
    return np.zeros((1, 1), np.int64)


@dataclass(frozen=True)
class Samples(Grids):
    """B samples with up to Q questions each; their text and image renderings are two views of them.

    How they are worded is 0 throughout for the task's own words. In samples made by hand, what is
    0 throughout may be left out.
    """

    row: Ints  # (B, Q) fields of the questions, see `instructions`
    col: Ints  # (B, Q)
    other_row: Ints = field(default_factory=_zeros)  # (B, Q)
    other_col: Ints = field(default_factory=_zeros)  # (B, Q)
    direction: Ints = field(default_factory=_zeros)  # (B, Q) index into instructions' DIRECTIONS
    object: Ints = field(default_factory=_zeros)  # (B, Q) class
    instruction: Ints = field(default_factory=_zeros)  # (B, Q) index into ALL, or NOT_ASKED
    base: Ints = field(default_factory=_zero)  # (B,) number that words give the first row, column
    delimiter: Ints = field(default_factory=_zero)  # (B,) index into wording.DELIMITERS
    prompt: Ints = field(default_factory=_zero)  # (B,) index into wording.PROMPTS
    question: Ints = field(default_factory=_zeros)  # (B, Q) index into an instruction's wordings
    position: Ints = field(default_factory=_zero)  # (B,) added to all position ids

    def __post_init__(self) -> None:
        batch = {1: self.index.shape, 2: self.row.shape}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value.ndim in batch and value.shape != batch[value.ndim] and value.size == 1:
                whole = np.broadcast_to(value, batch[value.ndim])
                object.__setattr__(self, entry.name, whole)

    @property
    def asked(self) -> list[tuple[int, Asked, tuple[Ints, Ints]]]:
        """The questions by instruction: its number, they, and their places in (B, Q)."""
        found = []
        for number in rng.different(self.instruction):
            if number == NOT_ASKED:
                continue
            grid, place = np.nonzero(self.instruction == number)
            places = np.asarray(grid, np.int64), np.asarray(place, np.int64)
            chosen = {name: getattr(self, name)[places] for name in FIELDS}
            asked = Asked(grids=self, grid=places[0], base=self.base[places[0]], **chosen)
            found.append((number, asked, places))
        return found


def draw_samples(spec: SampleSpec, bank: TileBank, seed: int, split: str, index: Ints) -> Samples:
    """The samples with these indices, each a pure function of (spec, bank, seed, split, index).

    Args:
        index: (B,) numbers from 0, in any order; every split has its own.

    Raises:
        UserError: of the spec: more objects than the bank has, an unknown instruction, ...
        ValueError: there is no such split, or `index` is no row of numbers.
    """
    if split not in SPLITS or np.ndim(index) != 1:
        raise ValueError(f"split {split!r} must be one of {SPLITS}, index an array (B,)")
    dice = Dice(seed, split, np.asarray(index, np.int64))
    grids = draw_grids(spec, bank, dice)
    instruction = _draw_instructions(spec, grids, dice)
    found = {name: np.zeros(instruction.shape, np.int64) for name in FIELDS}
    for number in rng.different(instruction):
        if number == NOT_ASKED:
            continue
        places = Places(instruction == number, spec.augment.order == "raster")
        for name, values in ALL[number].ask(grids, dice, places).items():
            found[name] = np.where(places.wanted, values, found[name])
    position = np.zeros(len(grids.index), np.int64)
    if split == "train" and spec.augment.position_offset:
        position = rng.below(dice.words("position", 1)[:, 0], spec.augment.position_offset + 1)
    whole: dict[str, Any] = {part.name: getattr(grids, part.name) for part in fields(Grids)}
    whole |= {**found, **draw_wording(spec.augment, dice.keys("wording"), instruction)}
    return Samples(**whole, instruction=instruction, position=position)


def _draw_instructions(spec: SampleSpec, grids: Grids, dice: Dice) -> Ints:
    """Which instruction each question of each grid has, (B, Q)."""
    numbers = sorted((number_of(name) for name in spec.instructions), key=drawing_order)
    smallest = bounds(spec.rows)[0] * bounds(spec.cols)[0]
    for number in numbers:
        if smallest < ALL[number].smallest():
            raise UserError(
                f"rows, cols: `{ALL[number].name}` needs grids of at least "
                f"{ALL[number].smallest()} cells"
            )
    sizes = grids.rows, grids.cols, grids.n_objects
    different = np.stack([ALL[number].n_different(*sizes) for number in numbers], axis=1)  # (B, K)
    if spec.questions is None:
        wanted = different.max(1)
    else:
        largest = [np.array(bounds(size)[1]) for size in (spec.rows, spec.cols, spec.palette)]
        most = sum(int(ALL[number].n_different(*largest)) for number in numbers)
        if spec.questions > most:
            raise UserError(
                f"questions: {spec.questions}, but there are only {most} different ones "
                f"({', '.join(spec.instructions)}) about a {spec.size} grid"
            )
        wanted = np.minimum(different.sum(1), spec.questions)  # fewer of smaller grids
    width = int(wanted.max(initial=1))
    asked = np.arange(width) < wanted[:, None]
    if len(numbers) == 1:
        return np.where(asked, numbers[0], NOT_ASKED)
    by_name = {str(name): share for name, share in spec.instructions.items()}
    shares = np.array([by_name[ALL[number].name] for number in numbers])
    drawn = rng.unit(dice.words("instructions", width))
    found = np.full(asked.shape, NOT_ASKED)
    for place in range(width):
        left = np.cumsum(np.where(different > 0, shares, 0), axis=1)  # of what is not asked yet
        which = (left <= drawn[:, place, None] * left[:, -1:]).sum(1)
        which = np.minimum(which, len(numbers) - 1)
        found[:, place] = np.where(asked[:, place], np.array(numbers)[which], NOT_ASKED)
        different[np.arange(len(which)), which] -= 1
    return found
