"""Tiles for notebooks."""

from typing import TYPE_CHECKING, Any

from gpt2v.api.configs import Source, config_of
from gpt2v.config.pictures import TilesConfig

if TYPE_CHECKING:
    from gpt2v.data.tiles.bank import TileBank


def load_bank(tiles: Source = None, **fields: Any) -> "TileBank":
    """The tiles that grids are made of; by default sprites of ten classes, 32 pixels wide.

    A tile is drawn or decoded when a picture first needs its split.

    Args:
        tiles: a YAML file or a `TilesConfig`; none: the defaults.
        fields: fields of `TilesConfig`, e.g. `source="folder", path="photos", size=32`.

    Raises:
        UserError: a value is wrong, a file is missing or damaged, or a class has too few pictures.
    """
    config = config_of(TilesConfig, tiles, fields)
    from gpt2v.data.tiles.load import load_bank as load

    return load(config)
