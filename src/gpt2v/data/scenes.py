"""Captioned scenes: pictures of one to several objects of varied place and size, with a caption
for the whole scene and the object at each patch.

A batch of scenes shares its lattice (slots along a side); an object fills its slot, is smaller, or
is larger and cropped by it, and part of it may be hidden by a part of another object (CutMix, Yun
et al. 2019, https://arxiv.org/abs/1905.04899, where each patch keeps the name of what it shows).
A caption names every object that was drawn, even the rare one that is hidden whole. Like a grid
sample, a scene is a pure function of (seed, split, index).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.scenes import LayoutConfig, SceneConfig
from gpt2v.data import rng
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.resizing import resize

NOTHING = -1  # class of a patch or slot without an object


@dataclass(frozen=True)
class Scenes:
    """B scenes with their captions."""

    pixels: Pixels  # (B, S, S, 3)
    classes: Ints  # (B, L*L) class in each slot, or NOTHING; then those of the parts that hide them
    patch_slots: Ints  # (B, N) column in classes of what lies at each patch's centre, or NOTHING
    captions: list[str]  # one for each scene
    index: Ints  # (B,) numbers of the scenes

    @property
    def n_supervised(self) -> int:
        """The contrastive loss is one number for a whole batch."""
        return 1

    @property
    def n_tokens(self) -> int:
        """Patches."""
        return int(self.patch_slots.size)


def object_caption(name: str) -> str:
    """The caption of a single object."""
    return f"a picture of a {name}."


def scene_caption(names: list[str]) -> str:
    """The caption of a whole scene: each kind of object once."""
    if not names:
        return "a picture of nothing."
    listed = [f"a {name}" for name in names]
    return (
        f"a picture of {', '.join(listed[:-1])} and {listed[-1]}."
        if names[1:]
        else (object_caption(names[0]))
    )


def draw_scenes(
    config: SceneConfig,
    bank: TileBank,
    geometry: PictureGeometry,
    seed: int,
    split: str,
    batch: int,
    index: Ints,
) -> Scenes:
    """Scenes with these numbers, laid out as batch number `batch` is."""
    purpose = f"{split}/scenes"
    shared = rng.bits(rng.keys(seed, f"{purpose}/layout", np.array([batch])), 2)[0]
    shares = np.cumsum([layout.weight for layout in config.layouts])
    chosen = int(np.searchsorted(shares, rng.unit(shared[0]) * shares[-1], side="right"))
    layout = config.layouts[min(chosen, len(shares) - 1)]
    lattice, (low, high) = layout.lattice, layout.scale
    slot = geometry.image_size // lattice
    side = max(4, round(slot * (low + (high - low) * float(rng.unit(shared[1])))))

    size, n_slots = len(index), lattice * lattice
    objects = _draw_objects(config, layout, bank, (slot, side), seed, purpose, split, index)
    shown, cells = np.where(objects.covered, 0, NOTHING), objects.pixels
    classes = objects.classes.reshape(size, -1)
    if config.cut:
        others = _draw_objects(
            config, layout, bank, (slot, side), seed, f"{purpose}/cut", split, index
        )
        hidden = _rectangles(seed, purpose, index, n_slots, slot, geometry.patch_size, config.cut)
        cells = np.where(hidden[..., None], others.pixels, cells)
        shown = np.where(hidden, np.where(others.covered, 1, NOTHING), shown)
        present = np.where(hidden.any((1, 2)), others.classes, NOTHING)
        classes = np.concatenate([classes, present.reshape(size, -1)], axis=1)

    canvas = np.repeat(
        np.repeat(objects.ground[:, None, None, :], geometry.image_size, 1), geometry.image_size, 2
    ).astype(np.uint8)
    edge = lattice * slot
    canvas[:, :edge, :edge] = _tile_up(cells, size, lattice)
    where = np.full((size, geometry.image_size, geometry.image_size), NOTHING)
    slot_of = np.tile(np.arange(n_slots), size)[:, None, None]
    column = np.where(shown == NOTHING, NOTHING, slot_of + n_slots * shown)
    where[:, :edge, :edge] = _tile_up(column[..., None], size, lattice)[..., 0]
    centres = np.arange(geometry.patch_size // 2, geometry.image_size, geometry.patch_size)
    captions = [
        scene_caption([bank.class_names[c] for c in dict.fromkeys(row[row != NOTHING].tolist())])
        for row in classes
    ]
    patches = where[:, centres][:, :, centres].reshape(size, -1)
    return Scenes(canvas, classes, patches, captions, index)


@dataclass(frozen=True)
class _Objects:
    """One object in each slot of B scenes, n = B * L * L."""

    pixels: Pixels  # (n, slot, slot, 3)
    covered: NDArray[np.bool_]  # (n, slot, slot) where the object is
    classes: Ints  # (n,) or NOTHING
    ground: Ints  # (B, 3) colour beside the objects


def _draw_objects(
    config: SceneConfig,
    layout: LayoutConfig,
    bank: TileBank,
    sides: tuple[int, int],
    seed: int,
    purpose: str,
    split: str,
    index: Ints,
) -> _Objects:
    """Draw an object for each slot; `sides` are those of a slot and of an object in pixels."""
    slot, side = sides
    size, n_slots = len(index), layout.lattice**2
    words = rng.bits(rng.keys(seed, purpose, index), n_slots * 8 + 3)
    per_slot = words[:, : n_slots * 8].reshape(size * n_slots, 8).T
    classes = rng.below(per_slot[0], len(bank.class_names))
    present = rng.unit(per_slot[1]) < layout.occupancy
    tiles = bank.pick(split, classes, per_slot[2])
    classes = np.where(present, classes, NOTHING)

    keys = rng.bits(rng.keys(seed, f"{purpose}/tiles", index), n_slots).reshape(-1)
    drawn = bank.take(tiles, keys) if split == "train" else bank.take(tiles)
    pictures = _jitter(resize(drawn, side, side), per_slot[6:8], config.jitter)
    offsets = [  # of the object in its slot; negative where the slot crops it
        min(0, slot - side) + rng.below(word, abs(slot - side) + 1) for word in per_slot[3:5]
    ]
    mirror = (rng.unit(per_slot[5]) < 0.5) & config.flip
    source = [np.arange(slot)[None, :] - offset[:, None] for offset in offsets]  # (n, slot)
    inside = [(axis >= 0) & (axis < side) for axis in source]
    source[1] = np.where(mirror[:, None], side - 1 - source[1], source[1])
    y, x = (np.clip(axis, 0, side - 1) for axis in source)
    cells = pictures[np.arange(len(tiles))[:, None, None], y[:, :, None], x[:, None, :]]
    covered = inside[0][:, :, None] & inside[1][:, None, :] & present[:, None, None]
    ground = rng.below(words[:, -3:], 256)
    beside = np.repeat(ground, n_slots, axis=0)[:, None, None, :]
    cells = np.where(covered[..., None], np.rint(cells), beside).astype(np.uint8)
    return _Objects(cells, covered, classes, ground)


def _rectangles(
    seed: int, purpose: str, index: Ints, n_slots: int, slot: int, patch: int, share: float
) -> NDArray[np.bool_]:
    """Which pixels of each slot another object hides, (B * n_slots, slot, slot).

    A rectangle of whole patches (counted from the slot's corner), smaller than the slot, in this
    share of the slots.
    """
    n = slot // patch
    words = rng.bits(rng.keys(seed, f"{purpose}/rectangles", index), n_slots * 5)
    word = words.reshape(-1, 5).T
    if n < 2:
        return np.zeros((word.shape[1], slot, slot), bool)
    inside = []
    for length, place in ((word[0], word[1]), (word[2], word[3])):
        span = 1 + rng.below(length, n - 1)
        first = rng.below(place, n - span + 1)
        at = np.arange(slot) // patch
        inside.append((at >= first[:, None]) & (at < (first + span)[:, None]))
    cut = rng.unit(word[4]) < share
    found: NDArray[np.bool_] = inside[0][:, :, None] & inside[1][:, None, :] & cut[:, None, None]
    return found


def _tile_up(cells: NDArray[np.generic], size: int, lattice: int) -> NDArray[np.generic]:
    """(B * L * L, s, s, C) slots -> (B, L * s, L * s, C) pictures."""
    slot = cells.shape[1]
    grid = cells.reshape(size, lattice, lattice, slot, slot, -1).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(size, lattice * slot, lattice * slot, -1)


def _jitter(pictures: Pixels, words: rng.U64, strength: float) -> NDArray[np.generic]:
    """Random contrast and brightness, each by a factor or share of up to `strength`."""
    if strength == 0:
        return pictures
    amount = ((2 * rng.unit(words) - 1) * strength).astype(np.float32)[:, :, None, None, None]
    changed: NDArray[np.float32] = (pictures.astype(np.float32) - 128) * (1 + amount[0]) + 128 * (
        1 + amount[1]
    )
    return np.clip(changed, 0, 255)
