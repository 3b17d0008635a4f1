"""A cache on disk of tiles that are slow to draw or to decode.

An entry is a folder with one `.npy` file for each array and a manifest with their checksums; its
name is a hash of what decides the arrays. They are mapped into memory, so that only what is shown
is read, but for the checksums. Without a cache that can be written, everything is made each time.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2v.data.tiles.bank import SplitTiles
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.storage.cache import cache_folder, open_or_make
from gpt2v.storage.files import writing
from gpt2v.storage.folders import whole_directory
from gpt2v.storage.manifest import read_manifest, verify, write_manifest

Arrays = Mapping[str, NDArray[Any]]  # name -> array

FEWEST = 500  # fewer tiles are drawn in 0.1 s
MOST_BYTES = 2 * 10**9  # of the pixels of an entry


class _NotMade(Exception):
    """What a user's mistake becomes inside the cache, which has user's mistakes of its own."""

    def __init__(self, mistake: UserError) -> None:
        super().__init__()
        self.mistake = mistake


def keeping(own: SplitTiles, size: int) -> SplitTiles:
    """The same tiles, whose pixels are kept in the cache. `size` is their side in pixels."""

    def make() -> Arrays:
        return {"pixels": np.asarray(own.draw())}

    def draw() -> Pixels:
        return kept(own.content, len(own.labels), size, make)["pixels"]

    return replace(own, draw=draw)


def kept(content: str, n_tiles: int, size: int, make: Callable[[], Arrays]) -> Arrays:
    """The arrays that `make` returns, from the cache if they are there.

    Args:
        content: what decides the arrays, versions of their code included.
        n_tiles: number of tiles; small and huge banks are not kept.
        size: side of a tile in pixels.

    Raises:
        UserError: `make` raises it.
    """
    if n_tiles < FEWEST or n_tiles * size**2 * 3 > MOST_BYTES:
        return make()
    made: list[Arrays] = []
    try:
        entry = cache_folder("tiles") / sha256(content.encode()).hexdigest()[:32]

        def make_entry() -> None:
            try:
                made.append(make())
            except UserError as error:
                raise _NotMade(error) from None
            with writing(entry), whole_directory(entry) as folder:
                for name, array in made[0].items():
                    np.save(folder / f"{name}.npy", array, allow_pickle=False)
                write_manifest(folder)

        return open_or_make(entry, lambda: _opened(entry), make_entry)
    except _NotMade as error:
        raise error.mistake from None
    except UserError as error:  # of the cache
        say(f"tiles: {error}; they are not kept")
        return made[0] if made else make()


def _opened(entry: Path) -> Arrays:
    """The arrays of an entry, mapped from disk.

    Raises:
        UserError: it is damaged.
    """
    fault = verify(entry)
    names = read_manifest(entry) if not fault else None
    if not names:
        raise UserError(fault or f"{entry}: has no manifest")
    try:
        mapped = {name: np.load(entry / name, mmap_mode="r", allow_pickle=False) for name in names}
    except (OSError, ValueError) as error:
        raise UserError(f"{entry}: cannot be read: {error}") from None
    return {Path(name).stem: array.view(np.ndarray) for name, array in mapped.items()}
