"""Tiles from a folder of pictures: folder/class/picture.png.

The class names are the names of the folders. Of the different pictures of a class, the tenth with
the lowest hash of their bytes is held out for val and the next tenth for test.
"""

from pathlib import Path

import numpy as np

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.bank import SPLITS, VAL_SHARE, TileBank, sorted_by_class
from gpt2v.data.tiles.image_files import PictureFiles, Pixels, decode_all, refuse_or_skip
from gpt2v.errors import UserError

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def folder_bank(config: TilesConfig) -> TileBank:
    """Every picture directly below each class's folder.

    With `decode: on-the-fly` every picture is tried once, and decoded again when it is asked for.

    Raises:
        UserError: there is no such folder, too little in it, or pictures that cannot be read.
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
    found = decode_all(
        lambda i: files[i].read_bytes(),
        [str(file) for file in files],
        config.size,
        "tiles: folder",
        keep=config.decode == "once",
    )
    refuse_or_skip(found.faults, len(files), root, config.corrupt)
    kept = np.flatnonzero(found.readable)
    files, labels = [files[i] for i in kept], labels[kept]
    digests = found.digests[kept]
    whole: Pixels | PictureFiles = (
        PictureFiles(tuple(files), digests, config.size)
        if found.pixels is None
        else found.pixels[kept]
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
        )
    return TileBank("folder", class_names, config.size, splits)


def _chosen(whole: Pixels | PictureFiles, which: Ints) -> Pixels | PictureFiles:
    """Some of the pictures; those on disk stay there."""
    if isinstance(whole, PictureFiles):
        files = tuple(whole.files[i] for i in which.tolist())
        return PictureFiles(files, whole.digests[which], whole.side)
    return whole[which]


def _listed(root: Path) -> tuple[tuple[str, ...], list[Path], Ints]:
    """Class names, and every picture's file and class, by name."""
    class_names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir()))
    if len(class_names) < 2:
        raise UserError(
            f"tiles.path: {root}: found {len(class_names)} class folders, need 2 or more"
        )
    found = [
        (label, file)
        for label, name in enumerate(class_names)
        for file in sorted((root / name).iterdir())
        if file.suffix.lower() in _PICTURES and file.is_file()
    ]
    labels = np.array([label for label, _ in found], np.int64)
    return class_names, [file for _, file in found], labels


def _split(files: list[Path], labels: Ints, digests: U64) -> Ints:
    """Which split each picture is in, (N,)."""
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
