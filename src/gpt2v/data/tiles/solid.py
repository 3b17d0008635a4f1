"""Solid tiles: squares of one colour each, in ten classes that are named for their colours.

The tiles of a class are shades around its colour. The nearest of the ten colours to a shade is
always its own, in RGB and in CIELAB. No shade is in two splits, whatever the seed and the number of
tiles: the sum of its distances from the colour in red, green and blue, divided by 3, leaves a
remainder that is the number of the split.
"""

import numpy as np

from gpt2v.config.pictures import TilesConfig
from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.bank import SPLITS, SplitTiles, TileBank
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.load import drawn_numbers

COLOURS = {  # red, green and blue of each
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "orange": (240, 130, 20),
    "purple": (130, 40, 170),
    "pink": (240, 150, 200),
    "brown": (120, 70, 30),
    "black": (15, 15, 15),
    "white": (240, 240, 240),
}
# Part of every hash of these tiles. Increase it when any colour changes.
VERSION = 1
REACH = 13  # largest distance of a shade from its colour in red, green and blue, in grey levels
_SIDE = 2 * REACH + 1
_EACH = _SIDE**2 * (_SIDE // 3)  # shades of a class in one split


def colour_bank(config: TilesConfig) -> TileBank:
    """Solid tiles, in the numbers of sprites. After `_EACH` of a class, its shades repeat."""
    numbers = drawn_numbers(config, len(COLOURS))
    splits = {split: _solid(config, split, n) for split, n in numbers.items()}
    return TileBank("colours", tuple(COLOURS), config.size, splits)


def _solid(config: TilesConfig, split: str, n: int) -> SplitTiles:
    """The first `n` tiles of every class in a split."""
    colours = shades(config.seed, split, n)

    def draw() -> Pixels:
        shape = (len(colours), config.size, config.size, 3)
        return np.broadcast_to(colours[:, None, None].astype(np.uint8), shape).copy()

    sources = ["colours/{}-{}-{}".format(*colour) for colour in colours.tolist()]
    recipe = ("colours", VERSION, config.size, config.seed)
    return SplitTiles(np.full(len(COLOURS), n), sources, draw, recipe=recipe)


def shades(seed: int, split: str, n: int) -> Ints:
    """Red, green and blue of the first `n` tiles of every class, (n_classes * n, 3), by class."""
    keys = rng.keys(seed, f"{split}/shades", np.arange(len(COLOURS)))
    order = rng.permutations(keys, _EACH)  # no shade occurs twice before all have occurred
    number = order[:, np.arange(n) % _EACH].reshape(-1)
    red, green, third = number // _SIDE % _SIDE, number % _SIDE, number // _SIDE**2
    blue = 3 * third + (SPLITS.index(split) - red - green) % 3  # counted from -REACH, as the others
    away = np.stack([red, green, blue], axis=1) - REACH
    centre = np.repeat(np.array(list(COLOURS.values()), np.int64), n, axis=0)
    return np.asarray(centre + away)
