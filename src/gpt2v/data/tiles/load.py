"""Load a tile bank as configured: sprites, colours, CIFAR-10, CIFAR-100 or folders of image files.

Sprites and colours are drawn by our own code, the others are read from files. A tile source is
registered in `TILE_SOURCES`, the built-in ones by `config.tile_sources`, and called as
`source(config)` with a `TilesConfig`; it returns a `TileBank`.
"""

from dataclasses import replace

import numpy as np

from gpt2v.config.choice import choose
from gpt2v.config.pictures import MAX_SPRITES, TilesConfig
from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.data.tiles import sprites
from gpt2v.data.tiles.bank import SPLITS, VAL_SHARE, SplitTiles, TileBank
from gpt2v.data.tiles.folder import classes_in
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.data.tiles.kept import keeping
from gpt2v.data.tiles.names import class_names
from gpt2v.errors import UserError
from gpt2v.hardware.memory import check_fits
from gpt2v.progress import track
from gpt2v.registry import TILE_SOURCES

_CIFAR = {"cifar10": 10, "cifar100": 100}  # source -> number of classes


def load_bank(config: TilesConfig) -> TileBank:
    """The tile bank of a configuration.

    Raises:
        UserError: a file is missing or damaged, a class has no tile in some split, or the name of a
            class cannot be used in text.
    """
    made: TileBank = choose(TILE_SOURCES, config.source).load()(config)
    where = config.path or config.source
    names = class_names(made.class_names, where)
    bank = replace(made, class_names=names, augment=config.augment)
    empty = np.argwhere(bank.counts == 0)
    if len(empty):
        split, label = empty[0]
        raise UserError(
            f"tiles.path: {where}: class '{names[label]}' has no picture left for the "
            f"{SPLITS[split]} split; it needs more pictures"
        )
    return bank


def n_classes_of(config: TilesConfig) -> int:
    """Number of classes of the tile bank of a configuration. No file of the built-in sources is
    opened for it.

    Raises:
        UserError: see `load_bank`.
    """
    if config.source in _CIFAR:
        return _CIFAR[config.source]
    if config.source == "folder":
        return len(classes_in(config).names)
    return len(load_bank(config).class_names)


def sprite_bank(config: TilesConfig) -> TileBank:
    """Drawn tiles. Each variant number of a class is one source picture.

    Each split has its own range of variant numbers. So no held-out tile of one bank is in the
    training split of another bank, even if the banks have different numbers of tiles.
    """
    numbers = drawn_numbers(config, len(sprites.CLASS_NAMES))
    splits = {
        split: _sprites(config, split, i * MAX_SPRITES + np.arange(n))
        for i, (split, n) in enumerate(numbers.items())
    }
    return TileBank("sprites", sprites.CLASS_NAMES, config.size, splits)


def drawn_numbers(config: TilesConfig, n_classes: int) -> dict[str, int]:
    """How many tiles of a class are drawn for each split.

    Raises:
        UserError: they are too many for the memory.
    """
    held_out = max(1, round(config.per_class * VAL_SHARE))
    numbers = (config.per_class, held_out, config.test_per_class or held_out)
    most, key = max((config.per_class, "per_class"), (numbers[2], "test_per_class"))
    n_bytes = n_classes * most * config.size**2 * 3
    check_fits(n_bytes, f"tiles.{key}: {most} {config.source} per class")
    return dict(zip(SPLITS, numbers, strict=True))


def _sprites(config: TilesConfig, split: str, variants: Ints) -> SplitTiles:
    """The given variants (n_variants,) of every class."""
    n_classes = len(sprites.CLASS_NAMES)
    labels = np.repeat(np.arange(n_classes), len(variants))
    keys = rng.mix(np.tile(variants, n_classes).astype(np.uint64) + np.uint64(config.seed << 32))

    def draw() -> Pixels:
        chunks = np.array_split(np.arange(len(labels)), max(1, len(labels) // 500))
        drawn = [
            sprites.draw_sprites(labels[chunk], keys[chunk], config.size)
            for chunk in track(chunks, f"tiles: {split} sprites")
        ]
        return np.concatenate(drawn)

    pairs = zip(labels.tolist(), np.tile(variants, n_classes).tolist(), strict=True)
    sources = [f"sprites/{config.seed}/{label}/{variant}" for label, variant in pairs]
    recipe = ("sprites", sprites.VERSION, config.size, config.seed, int(variants[0]))
    own = SplitTiles(np.full(n_classes, len(variants)), sources, draw, recipe=recipe)
    return keeping(own, config.size)
