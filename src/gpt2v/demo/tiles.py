"""The tiles of a demo, which its other parts depend on, and the preset that suits them."""

from typing import Any

from gpt2v.config.base import Config
from gpt2v.config.load import merge, validate
from gpt2v.config.origins import told
from gpt2v.config.pictures import DRAWN, TilesConfig

# Pictures in a folder from which on the long training on photographs pays. It shows each picture of
# a smaller folder thousands of times.
MANY = 10_000
PHOTOGRAPHS = "photographs"


class _Tiles(Config):
    """The part of a demo's configuration that is read first."""

    tiles: TilesConfig = TilesConfig()


def tiles_of(content: dict[str, Any], overrides: dict[str, Any], origin: str) -> TilesConfig:
    """The tiles of a demo.

    Args:
        content: of a preset or a file.
        overrides: values for dotted keys.
        origin: name of the preset or file, for messages.

    Raises:
        UserError: a value is wrong.
    """
    given = {key: value for key, value in overrides.items() if key.partition(".")[0] == "tiles"}
    tiles = merge(content, given, origin).get("tiles", {})
    return validate(_Tiles, {"tiles": tiles}, origin, overrides=overrides).tiles


def suited_preset(overrides: dict[str, Any]) -> tuple[str, str]:
    """The preset for the tiles that options ask for, and the reason, for the user.

    Raises:
        UserError: there are no such tiles.
    """
    tiles = tiles_of({}, overrides, "command line")
    if tiles.source in DRAWN:
        return "default", "drawn tiles"
    if tiles.source != "folder":
        return PHOTOGRAPHS, f"{tiles.source} tiles"
    from gpt2v.data.tiles.folder import classes_in

    with told("", overrides):
        found = classes_in(tiles)
    there = f"{len(found.names)} classes with {len(found.files):,} pictures"
    if len(found.files) < MANY:
        return "default", f"{there}; photographs, for {MANY:,} or more, takes far longer"
    return PHOTOGRAPHS, there
