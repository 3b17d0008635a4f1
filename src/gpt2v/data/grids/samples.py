"""The sample: a grid, the questions about it and their wordings, as integer arrays.

Shapes: B samples of a batch, R rows of a grid, C columns of a grid, Q questions about a grid,
J questions in a flat list.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from gpt2v.config.grids import SampleSpec, bounds
from gpt2v.data import rng
from gpt2v.data.grids.cells import Dice, Grids, draw_grids
from gpt2v.data.grids.instructions import ALL, drawing_order, number_of
from gpt2v.data.grids.instructions.base import FIELDS, Asked, Slots
from gpt2v.data.grids.paraphrases import draw_wording
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.errors import UserError

NOT_ASKED = -1  # instruction of a slot in (B, Q) without a question


def _zero() -> Ints:
    return np.zeros(1, np.int64)


def _zeros() -> Ints:
    return np.zeros((1, 1), np.int64)


@dataclass(frozen=True)
class Samples(Grids):
    """B samples with up to Q questions each. Text and image renderings are two views of them.

    The fields of the wording (`base`, `delimiter`, `prompt`, `question`) are all 0 for the task's
    own words. Samples made by hand may leave out any field that has a default: it is then 0.
    """

    row: Ints  # (B, Q) fields of the questions, see `instructions`
    col: Ints  # (B, Q)
    other_row: Ints = field(default_factory=_zeros)  # (B, Q)
    other_col: Ints = field(default_factory=_zeros)  # (B, Q)
    direction: Ints = field(default_factory=_zeros)  # (B, Q) index into instructions' DIRECTIONS
    object: Ints = field(default_factory=_zeros)  # (B, Q) class
    numbering: Ints = field(default_factory=_zeros)  # (B, Q) of the palette, see `numbering`
    instruction: Ints = field(default_factory=_zeros)  # (B, Q) index into ALL, or NOT_ASKED
    base: Ints = field(default_factory=_zero)  # (B,) number of the first row and column in words
    delimiter: Ints = field(default_factory=_zero)  # (B,) index into paraphrases.DELIMITERS
    prompt: Ints = field(default_factory=_zero)  # (B,) into PROMPTS + HELD_OUT_PROMPTS
    question: Ints = field(default_factory=_zeros)  # (B, Q) index into an instruction's wordings
    position: Ints = field(default_factory=_zero)  # (B,) added to all position ids

    def __post_init__(self) -> None:
        batch = {1: self.index.shape, 2: self.row.shape}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value.ndim in batch and value.shape != batch[value.ndim] and value.size == 1:
                whole = np.broadcast_to(value, batch[value.ndim])
                object.__setattr__(self, entry.name, whole)

    def one(self, i: int) -> Self:
        """Sample number i as a batch of its own, which does not depend on the others."""
        n_questions = int((self.instruction[i] != NOT_ASKED).sum())
        cells = slice(int(self.rows[i])), slice(int(self.cols[i]))
        own = {
            "classes": cells,
            "tiles": cells,
            "palette": (slice(int(self.n_objects[i])),),
        }
        parts = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            questions = (slice(n_questions),) if value.ndim == 2 else ()
            parts[entry.name] = value[(slice(i, i + 1), *own.get(entry.name, questions))].copy()
        return type(self)(**parts)

    @property
    def tiles_read(self) -> Ints:
        """Ids of the tiles that decide the answer of each question, (B, Q, R * C); -1: others."""
        _, n_rows, n_cols = self.tiles.shape
        read = np.full((*self.row.shape, n_rows * n_cols), -1)
        for number, asked, where in self.asked:
            tiles = np.where(ALL[number].read(asked), self.tiles[asked.grid], -1)
            read[where] = tiles.reshape(len(tiles), -1)
        return read

    @property
    def asked(self) -> list[tuple[int, Asked, tuple[Ints, Ints]]]:
        """The questions by instruction.

        Returns:
            For each instruction: its index into ALL, its J questions, and their indices in (B, Q)
            as a pair of arrays (J,).
        """
        by_instruction = []
        for number in rng.different(self.instruction):
            if number == NOT_ASKED:
                continue
            grid, slot = np.nonzero(self.instruction == number)
            where = np.asarray(grid, np.int64), np.asarray(slot, np.int64)
            chosen = {name: getattr(self, name)[where] for name in FIELDS}
            asked = Asked(grids=self, grid=where[0], base=self.base[where[0]], **chosen)
            by_instruction.append((number, asked, where))
        return by_instruction


def draw_samples(spec: SampleSpec, bank: TileBank, seed: int, split: str, index: Ints) -> Samples:
    """The samples with these indices, each a pure function of (spec, bank, seed, split, index).

    Args:
        index: (B,) numbers from 0, in any order; every split has its own samples.

    Raises:
        UserError: the spec asks for more objects than the bank has, an unknown instruction, ...
        ValueError: no such split, or `index` is not a one-dimensional array.
    """
    if split not in SPLITS or np.ndim(index) != 1:
        raise ValueError(f"split {split!r} must be one of {SPLITS}, and index an array (B,)")
    dice = Dice(seed, split, np.asarray(index, np.int64))
    grids = draw_grids(spec, bank, dice)
    instruction = _draw_instructions(spec, grids, dice)
    values = {name: np.zeros(instruction.shape, np.int64) for name in FIELDS}
    for number in rng.different(instruction):
        if number == NOT_ASKED:
            continue
        slots = Slots(instruction == number, spec.augment.order == "raster")
        for name, own in ALL[number].ask(grids, dice, slots).items():
            values[name] = np.where(slots.asked_here, own, values[name])
    position = np.zeros(len(grids.index), np.int64)
    if split == "train" and spec.augment.position_offset:
        position = rng.below(dice.words("position", 1)[:, 0], spec.augment.position_offset + 1)
    whole: dict[str, Any] = {part.name: getattr(grids, part.name) for part in fields(Grids)}
    whole |= {**values, **draw_wording(spec.augment, dice.keys("wording"), instruction)}
    return Samples(**whole, instruction=instruction, position=position)


def _draw_instructions(spec: SampleSpec, grids: Grids, dice: Dice) -> Ints:
    """The instruction of each question of each grid, an index into ALL or NOT_ASKED, (B, Q)."""
    numbers = sorted((number_of(name) for name in spec.instructions), key=drawing_order)
    smallest = bounds(spec.rows)[0] * bounds(spec.cols)[0]
    for number in numbers:
        if smallest < ALL[number].smallest():
            raise UserError(
                f"rows, cols: `{ALL[number].name}` needs grids of at least "
                f"{ALL[number].smallest()} cells"
            )
        most = ALL[number].most_objects
        if most is not None and bounds(spec.palette)[1] > most:
            raise UserError(f"palette: `{ALL[number].name}` needs one of at most {most} objects")
    sizes = grids.rows, grids.cols, grids.n_objects
    # (B, n_instructions)
    different = np.stack([ALL[number].n_different(*sizes) for number in numbers], axis=1)
    if spec.questions is None:
        wanted = different.max(1)
    else:
        largest = [np.array(bounds(size)[1]) for size in (spec.rows, spec.cols, spec.palette)]
        most = sum(int(ALL[number].n_different(*largest)) for number in numbers)
        if spec.questions > most:
            raise UserError(
                f"questions: {spec.questions}, but there are only {most} different questions "
                f"({', '.join(spec.instructions)}) about a {spec.size} grid"
            )
        wanted = np.minimum(different.sum(1), spec.questions)  # smaller grids may have fewer
    width = int(wanted.max(initial=1))
    asked = np.arange(width) < wanted[:, None]
    if len(numbers) == 1:
        return np.where(asked, numbers[0], NOT_ASKED)
    by_name = {str(name): share for name, share in spec.instructions.items()}
    shares = np.array([by_name[ALL[number].name] for number in numbers])
    drawn = rng.unit(dice.words("instructions", width))
    instruction = np.full(asked.shape, NOT_ASKED)
    for slot in range(width):
        # Cumulated shares of the instructions that still have a question not asked yet.
        left = np.cumsum(np.where(different > 0, shares, 0), axis=1)
        which = (left <= drawn[:, slot, None] * left[:, -1:]).sum(1)
        which = np.minimum(which, len(numbers) - 1)
        instruction[:, slot] = np.where(asked[:, slot], np.array(numbers)[which], NOT_ASKED)
        different[np.arange(len(which)), which] -= 1
    return instruction
