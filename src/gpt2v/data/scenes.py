"""Captioned scenes: pictures of one or several objects that differ in position and size.

Each scene has a caption, and for each patch it is known which object the patch shows.

A scene is a lattice of cells; all scenes of a batch have the same lattice. An object fills its
cell, is smaller, or is larger and cropped at the border of the cell. A rectangle of another object
may hide a part of it (CutMix, Yun et al. 2019, https://arxiv.org/abs/1905.04899; here each patch
is labelled with the object that it shows). The caption names every object that was drawn, even if
another object hides it completely, which is rare. Like a grid sample, a scene is a pure function
of (seed, split, index).

Shapes: B samples of a batch, N patches of a picture, S side of a picture in pixels.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpt2v.config.scenes import LayoutConfig, SceneConfig
from gpt2v.data import rng
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import TileBank, class_of
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.resizing import resize

NOTHING = -1  # in place of a class or of a column of `Scenes.classes`: no object


@dataclass(frozen=True)
class Scenes:
    """B scenes with their captions.

    Attributes:
        pixels: (B, S, S, 3).
        classes: (B, n_cells) class of the object in each cell, or NOTHING. If the configuration
            has cuts, (B, 2 * n_cells): then the class of the object that hides a part of each
            cell, or NOTHING.
        patch_objects: (B, N) column in `classes` of the object at each patch's centre, or NOTHING.
        captions: one for each scene.
        index: (B,) numbers of the scenes.
    """

    pixels: Pixels
    classes: Ints
    patch_objects: Ints
    captions: list[str]
    index: Ints

    @property
    def side(self) -> int:
        """S."""
        return int(self.pixels.shape[1])

    @property
    def n_supervised(self) -> int:
        """1: the contrastive loss is one number for a whole batch."""
        return 1

    @property
    def n_tokens(self) -> int:
        """Number of patches in the batch."""
        return int(self.patch_objects.size)


def object_caption(name: str) -> str:
    """The caption of a single object."""
    return f"a picture of a {name}."


def scene_caption(names: list[str]) -> str:
    """The caption of a whole scene; `names` are the different objects in it."""
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
    """Draw scenes.

    Args:
        config: layouts, random changes and share of cuts.
        bank: tiles of the objects.
        geometry: size of a picture and of a patch.
        seed: of all random draws.
        split: the split that the tiles are from; they are augmented in `train` only.
        batch: number of the batch; it decides the layout and the scale of the objects.
        index: (B,) numbers of the scenes.
    """
    purpose = f"{split}/scenes"
    shared = rng.bits(rng.keys(seed, f"{purpose}/layout", np.array([batch])), 2)[0]
    shares = np.cumsum([layout.weight for layout in config.layouts])
    chosen = int(np.searchsorted(shares, rng.unit(shared[0]) * shares[-1], side="right"))
    layout = config.layouts[min(chosen, len(shares) - 1)]
    lattice, (low, high) = layout.lattice, layout.scale
    cell_side = geometry.image_size // lattice
    side = max(4, round(cell_side * (low + (high - low) * float(rng.unit(shared[1])))))

    size, n_cells = len(index), lattice * lattice
    sides = (cell_side, side)
    objects = _draw_objects(config, layout, bank, sides, seed, purpose, split, index)
    shown, cells = np.where(objects.covered, 0, NOTHING), objects.pixels
    classes = objects.classes.reshape(size, -1)
    if config.cut:
        others = _draw_objects(config, layout, bank, sides, seed, f"{purpose}/cut", split, index)
        hidden = _rectangles(
            seed, purpose, index, n_cells, cell_side, geometry.patch_size, config.cut
        )
        cells = np.where(hidden[..., None], others.pixels, cells)
        shown = np.where(hidden, np.where(others.covered, 1, NOTHING), shown)
        present = np.where(hidden.any((1, 2)), others.classes, NOTHING)
        classes = np.concatenate([classes, present.reshape(size, -1)], axis=1)

    canvas = np.repeat(
        np.repeat(objects.ground[:, None, None, :], geometry.image_size, 1), geometry.image_size, 2
    ).astype(np.uint8)
    edge = lattice * cell_side
    canvas[:, :edge, :edge] = _tile_up(cells, size, lattice)
    columns = np.full((size, geometry.image_size, geometry.image_size), NOTHING)  # of each pixel
    cell_of = np.tile(np.arange(n_cells), size)[:, None, None]
    column = np.where(shown == NOTHING, NOTHING, cell_of + n_cells * shown)
    columns[:, :edge, :edge] = _tile_up(column[..., None], size, lattice)[..., 0]
    centres = np.arange(geometry.patch_size // 2, geometry.image_size, geometry.patch_size)
    captions = [
        scene_caption([bank.class_names[c] for c in dict.fromkeys(row[row != NOTHING].tolist())])
        for row in classes
    ]
    patches = columns[:, centres][:, :, centres].reshape(size, -1)
    return Scenes(canvas, classes, patches, captions, index)


@dataclass(frozen=True)
class _Objects:
    """One object in each cell of B scenes; all_cells = B * n_cells.

    Attributes:
        pixels: (all_cells, cell_side, cell_side, 3).
        covered: (all_cells, cell_side, cell_side) whether the object covers the pixel.
        classes: (all_cells,) class of the object, or NOTHING.
        ground: (B, 3) colour of the pixels that no object covers.
    """

    pixels: Pixels
    covered: NDArray[np.bool_]
    classes: Ints
    ground: Ints


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
    """Draw an object for each cell; `sides` are the sides of a cell and of an object in pixels."""
    cell_side, side = sides
    size, n_cells = len(index), layout.lattice**2
    words = rng.bits(rng.keys(seed, purpose, index), n_cells * 8 + 3)
    per_cell = words[:, : n_cells * 8].reshape(size * n_cells, 8).T
    mirror = rng.unit(per_cell[5]) < 0.5
    if config.turns:
        number = (index[:, None] * n_cells + np.arange(n_cells)).reshape(-1)
        tiles, mirror = _in_turns(bank, split, seed, purpose, number)
        classes = class_of(tiles)
    else:
        classes = rng.below(per_cell[0], len(bank.class_names))
        tiles = bank.pick(split, classes, per_cell[2])
    present = rng.unit(per_cell[1]) < layout.occupancy
    classes = np.where(present, classes, NOTHING)

    keys = rng.bits(rng.keys(seed, f"{purpose}/tiles", index), n_cells).reshape(-1)
    drawn = bank.take(tiles, keys) if split == "train" else bank.take(tiles)
    pictures = _jitter(resize(drawn, side, side), per_cell[6:8], config.jitter)
    offsets = [  # of the object in its cell; negative if the cell crops it
        min(0, cell_side - side) + rng.below(word, abs(cell_side - side) + 1)
        for word in per_cell[3:5]
    ]
    mirror &= config.flip
    # for rows and columns: pixel of the object at each pixel of its cell, (all_cells, cell_side)
    object_pixels = [np.arange(cell_side)[None, :] - offset[:, None] for offset in offsets]
    inside = [(axis >= 0) & (axis < side) for axis in object_pixels]
    object_pixels[1] = np.where(mirror[:, None], side - 1 - object_pixels[1], object_pixels[1])
    y, x = (np.clip(axis, 0, side - 1) for axis in object_pixels)
    cells = pictures[np.arange(len(tiles))[:, None, None], y[:, :, None], x[:, None, :]]
    covered = inside[0][:, :, None] & inside[1][:, None, :] & present[:, None, None]
    ground = rng.below(words[:, -3:], 256)
    beside = np.repeat(ground, n_cells, axis=0)[:, None, None, :]
    cells = np.where(covered[..., None], np.rint(cells), beside).astype(np.uint8)
    return _Objects(cells, covered, classes, ground)


def _in_turns(
    bank: TileBank, split: str, seed: int, purpose: str, number: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """The tile of each object, (n_objects,), and whether it is mirrored.

    Objects are numbered through all batches. Every turn shows each tile once, in an order of its
    own. A random half of the tiles is mirrored in the even turns, the others in the odd ones
    (Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6).

    Args:
        number: (n_objects,) number of each object.
    """
    every = bank.tiles(split)
    turn, place = np.divmod(number, len(every))
    row = np.empty_like(place)
    for t in rng.different(turn):
        row[turn == t] = _order(seed, f"{purpose}/turn {t}", len(every))[place[turn == t]]
    half = rng.unit(rng.keys(seed, f"{purpose}/mirrored", row)) < 0.5
    return every[row], half ^ (turn % 2 == 1)


@lru_cache(maxsize=8)  # of the turns of the last batches, and of their cuts
def _order(seed: int, purpose: str, n: int) -> Ints:
    """A random permutation of 0..n-1."""
    order: Ints = rng.permutations(rng.keys(seed, purpose, np.zeros(1, np.int64)), n)[0]
    return order


def _rectangles(
    seed: int, purpose: str, index: Ints, n_cells: int, cell_side: int, patch: int, share: float
) -> NDArray[np.bool_]:
    """Whether another object hides each pixel of each cell, (all_cells, cell_side, cell_side).

    A share `share` of the cells has a hidden rectangle. It consists of whole patches (counted from
    the corner of the cell) and is smaller than the cell.
    """
    n = cell_side // patch
    words = rng.bits(rng.keys(seed, f"{purpose}/rectangles", index), n_cells * 5)
    word = words.reshape(-1, 5).T
    if n < 2:
        return np.zeros((word.shape[1], cell_side, cell_side), bool)
    inside = []
    for length_word, start_word in ((word[0], word[1]), (word[2], word[3])):
        length = 1 + rng.below(length_word, n - 1)
        first = rng.below(start_word, n - length + 1)
        at = np.arange(cell_side) // patch
        inside.append((at >= first[:, None]) & (at < (first + length)[:, None]))
    cut = rng.unit(word[4]) < share
    hidden: NDArray[np.bool_] = inside[0][:, :, None] & inside[1][:, None, :] & cut[:, None, None]
    return hidden


def _tile_up(cells: NDArray[np.generic], size: int, lattice: int) -> NDArray[np.generic]:
    """Join the cells of `size` scenes, row by row.

    (all_cells, cell_side, cell_side, channels) -> (size, lattice * cell_side, the same, channels)
    """
    cell_side = cells.shape[1]
    grid = cells.reshape(size, lattice, lattice, cell_side, cell_side, -1)
    grid = grid.transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(size, lattice * cell_side, lattice * cell_side, -1)


def _jitter(pictures: Pixels, words: rng.U64, strength: float) -> NDArray[np.generic]:
    """Random contrast and brightness; each changes by a factor or share of up to `strength`."""
    if strength == 0:
        return pictures
    amount = ((2 * rng.unit(words) - 1) * strength).astype(np.float32)[:, :, None, None, None]
    changed: NDArray[np.float32] = (pictures.astype(np.float32) - 128) * (1 + amount[0]) + 128 * (
        1 + amount[1]
    )
    return np.clip(changed, 0, 255)
