"""The built-in tile sources. Each is called with a `TilesConfig` and returns a `TileBank`.

Their functions are in `data.tiles`.
"""

from gpt2v.registry import TILE_SOURCES

_TILES = "gpt2v.data.tiles"


@TILE_SOURCES.register("sprites", at=f"{_TILES}.load:sprite_bank")
def sprites() -> None:
    """Drawn tiles. Each variant number of a class is one source picture."""


@TILE_SOURCES.register("colours", at=f"{_TILES}.solid:colour_bank")
def colours() -> None:
    """Solid squares of ten colours, each tile in a shade of its own."""


@TILE_SOURCES.register("cifar10", at=f"{_TILES}.cifar:cifar_bank")
@TILE_SOURCES.register("cifar100", at=f"{_TILES}.cifar:cifar_bank")
def cifar() -> None:
    """The tiles of CIFAR-10 or CIFAR-100, from a folder or from the hub."""


@TILE_SOURCES.register("folder", at=f"{_TILES}.folder:folder_bank")
def folder() -> None:
    """A tile for each image file directly in the folder of each class."""
