"""Tiles from a folder of image files: folder/class/file.png.

The names of the sub-folders are the class names. The different files of a class are sorted by the
hash of their bytes: the first tenth is the val split and the next tenth is the test split.
"""

from pathlib import Path

import numpy as np

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.bank import SPLITS, VAL_SHARE, TileBank, sorted_by_class
from gpt2v.data.tiles.image_files import PictureFiles, Pixels, decode_all, refuse_or_skip
from gpt2v.errors import UserError
from gpt2v.registry import TILE_SOURCES

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


@TILE_SOURCES.register("folder")
def folder_bank(config: TilesConfig) -> TileBank:
    """A tile for each image file directly in the folder of each class.

    With `decode: on-the-fly` each file is decoded once now, as a check, and again for each use.

    Raises:
        UserError: no such folder, fewer than two classes, unreadable files, or one picture in two
            classes.
    """
    if config.path is None:
        raise UserError(
            "tiles.path: missing; folder tiles need a folder with one sub-folder for each class"
        )
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UserError(
            f"tiles.path: {root}: no such folder; expected one with a sub-folder for each class"
        )
    try:
        class_names, files, labels = _listed(root)
    except OSError as error:
        where = error.filename or root
        raise UserError(f"tiles.path: {where}: cannot be read: {error.strerror}") from None
    decoded = decode_all(
        lambda i: files[i].read_bytes(),
        [str(file) for file in files],
        config.size,
        "tiles: folder",
        with_pixels=config.decode == "once",
    )
    refuse_or_skip(decoded.faults, len(files), root, config.corrupt)
    readable = np.flatnonzero(decoded.readable)
    files, labels = [files[i] for i in readable], labels[readable]
    digests = decoded.digests[readable]
    whole: Pixels | PictureFiles = (
        PictureFiles(tuple(files), digests, config.size)
        if decoded.pixels is None
        else decoded.pixels[readable]
    )
    split = _split(files, labels, digests)
    splits = {}
    for number, name in enumerate(SPLITS):
        own = np.flatnonzero(split == number)
        splits[name] = sorted_by_class(
            labels[own],
            len(class_names),
            [str(files[i]) for i in own],
            lambda order, own=own: _chosen(whole, own[order]),  # type: ignore[misc]
            digests[own],
        )
    return TileBank("folder", class_names, config.size, splits)


def _chosen(whole: Pixels | PictureFiles, which: Ints) -> Pixels | PictureFiles:
    """The pictures with these numbers (n,); pictures on disk are not read."""
    if isinstance(whole, PictureFiles):
        files = tuple(whole.files[i] for i in which.tolist())
        return PictureFiles(files, whole.digests[which], whole.side)
    return whole[which]


def _listed(root: Path) -> tuple[tuple[str, ...], list[Path], Ints]:
    """Class names, all image files sorted by class and name, and their classes (n_files,)."""
    class_names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir()))
    if len(class_names) < 2:
        raise UserError(
            f"tiles.path: {root}: found {len(class_names)} class folders, need 2 or more"
        )
    labelled = [
        (label, file)
        for label, name in enumerate(class_names)
        for file in sorted((root / name).iterdir())
        if file.suffix.lower() in _PICTURES and file.is_file()
    ]
    labels = np.array([label for label, _ in labelled], np.int64)
    return class_names, [file for _, file in labelled], labels


def _split(files: list[Path], labels: Ints, digests: U64) -> Ints:
    """Index into SPLITS for each file, (n_files,)."""
    split = np.zeros(len(files), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        unique, rank = np.unique(digests[own], return_inverse=True)
        held_out = max(1, round(len(unique) * VAL_SHARE))
        split[own] = np.select([rank < held_out, rank < 2 * held_out], [1, 2], 0)
    for digest in np.unique(digests[split > 0]):  # the same picture under two class names
        same = np.flatnonzero(digests == digest)
        if len(set(labels[same])) > 1:
            raise UserError(
                f"tiles.path: {files[same[0]]} and {files[same[-1]]} are the same picture "
                "in two classes; keep one"
            )
    return split
