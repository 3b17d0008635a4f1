"""Tiles from a folder of image files: folder/class/file.png.

The names of the sub-folders are the class names. The different pictures of a class are sorted by
the hash of their files' bytes: the first tenth is the val split and the next tenth is the test
split. Files with other bytes but the same tile are the same picture.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.bank import SPLITS, VAL_SHARE, TileBank, sorted_by_class
from gpt2v.data.tiles.class_folders import ClassFolders, find_classes
from gpt2v.data.tiles.decoding import Unreadable, decode, recipe_of
from gpt2v.data.tiles.image_files import (
    Decoded,
    PictureFiles,
    Pixels,
    decode_all,
    digest,
    refuse_or_skip,
)
from gpt2v.data.tiles.kept import Arrays, kept
from gpt2v.data.tiles.names import in_one_form
from gpt2v.errors import UserError
from gpt2v.messages import show
from gpt2v.paths import expanded
from gpt2v.progress import track


def folder_bank(config: TilesConfig) -> TileBank:
    """A tile for each image file directly in the folder of each class.

    With `decode: on-the-fly` each file is decoded once now, as a check, and again for each use.

    Raises:
        UserError: no such folder, no folder of class folders, unreadable files, or one picture in
            two classes.
    """
    found, root = classes_in(config), expanded(str(config.path))
    for note in found.notes:
        show(note)
    files = found.files
    decoded = _decoded(files, config)
    refuse_or_skip(decoded.faults, len(files), root, config.corrupt)
    readable = np.flatnonzero(decoded.readable)
    files, labels = [files[i] for i in readable], found.labels[readable]
    digests = decoded.digests[readable]
    whole: Pixels | PictureFiles = (
        PictureFiles(tuple(files), digests, config.size)
        if decoded.pixels is None
        else decoded.pixels[readable]
    )
    pictures = _of_equal_tiles(digests, decoded.looks[readable])
    different = [len(set(pictures[labels == label])) for label in range(len(found.names))]
    _check_enough(root, found.names, np.array(different), "different pictures that can be read")
    split = _split(files, labels, pictures)
    splits = {}
    for number, name in enumerate(SPLITS):
        own = np.flatnonzero(split == number)
        splits[name] = sorted_by_class(
            labels[own],
            len(found.names),
            [str(files[i]) for i in own],
            lambda order, own=own: _chosen(whole, own[order]),  # type: ignore[misc]
            digests[own],
            recipe_of(config.size),
        )
    return TileBank("folder", found.names, config.size, splits)


def classes_in(config: TilesConfig) -> ClassFolders:
    """The classes of folder tiles and their files; no picture is opened.

    Raises:
        UserError: no such folder, no folder of class folders, or too few files in a class.
    """
    if config.path is None:
        raise UserError(
            "tiles.path: missing; folder tiles need a folder with one sub-folder for each class"
        )
    root = expanded(config.path)
    if not root.is_dir():
        raise UserError(
            f"tiles.path: {root}: no such folder; expected one with a sub-folder for each class"
        )
    try:
        found = find_classes(root)
    except OSError as error:
        where = error.filename or root
        raise UserError(f"tiles.path: {where}: cannot be read: {error.strerror}") from None
    _check_enough(root, found.names, np.bincount(found.labels), "pictures")
    return found


def _check_enough(root: Path, names: Sequence[str], counts: Ints, what: str) -> None:
    """Raise UserError if a class has fewer pictures than there are splits."""
    for name, n in zip(names, counts.tolist(), strict=True):
        if n < len(SPLITS):
            raise UserError(
                f"tiles.path: {root}: class '{in_one_form(name)}' has {n} {what}, but "
                f"{len(SPLITS)} splits ({', '.join(SPLITS)}) need at least {len(SPLITS)}"
            )


class _NotKept(Exception):
    """What was decoded cannot be kept: some files are faulty, or were changed meanwhile."""

    def __init__(self, decoded: Decoded) -> None:
        super().__init__()
        self.decoded = decoded


def _decoded(files: Sequence[Path], config: TilesConfig) -> Decoded:
    """All files decoded, or their tiles from the cache, if it has been filled from equal files."""
    with_pixels = config.decode == "once"
    digests = _digests(files)

    def make() -> Arrays:
        names = [str(file) for file in files]
        decoded = decode_all(
            lambda i: _content(files[i]), names, config.size, "tiles: folder", decode, with_pixels
        )
        if decoded.digests.tolist() != digests or decoded.faults:
            raise _NotKept(decoded)
        pixels = {} if decoded.pixels is None else {"pixels": decoded.pixels}
        return {"looks": decoded.looks, **pixels}

    try:
        what = json.dumps([digests, with_pixels, *recipe_of(config.size)])
        arrays = kept(what, len(files), config.size, make)
    except _NotKept as error:
        return error.decoded
    whole = np.ones(len(files), bool)
    return Decoded(arrays.get("pixels"), np.array(digests, np.uint64), arrays["looks"], whole, [])


def _digests(files: Sequence[Path]) -> list[int]:
    """The hash of each file; 0 for one that cannot be read, which decoding will find out."""
    digests = []
    for file in track(files, "tiles: reading the folder"):
        try:
            digests.append(digest(_content(file)))
        except (Unreadable, OSError):
            digests.append(0)
    return digests


def _chosen(whole: Pixels | PictureFiles, which: Ints) -> Pixels | PictureFiles:
    """The pictures with these numbers (n,); pictures on disk are not read."""
    if isinstance(whole, PictureFiles):
        files = tuple(whole.files[i] for i in which.tolist())
        return PictureFiles(files, whole.digests[which], whole.side)
    return whole[which]


def _content(file: Path) -> bytes:
    """The bytes of a file; a pipe or a device, which may never end, is not read."""
    if file.exists() and not file.is_file():
        raise Unreadable("no regular file")
    return file.read_bytes()


def _of_equal_tiles(digests: U64, looks: U64) -> U64:
    """The digest of each picture (n_files,), of equal tiles the smallest one."""
    _, look = np.unique(looks, return_inverse=True)
    smallest = np.full(len(digests), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, look, digests)
    return smallest[look]


def _split(files: list[Path], labels: Ints, digests: U64) -> Ints:
    """Index into SPLITS for each file, (n_files,)."""
    split = np.zeros(len(files), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        unique, rank = np.unique(digests[own], return_inverse=True)
        held_out = max(1, round(len(unique) * VAL_SHARE))
        split[own] = np.select([rank < held_out, rank < 2 * held_out], [1, 2], 0)
    order = np.lexsort((labels, digests))  # the same picture under two class names is adjacent
    twice = (np.diff(digests[order]) == 0) & (np.diff(labels[order]) != 0)
    for at in np.flatnonzero(twice)[:1].tolist():
        one, other = (files[i] for i in order[at : at + 2].tolist())
        raise UserError(
            f"tiles.path: {one} and {other} are the same picture in two classes; keep one"
        )
    return split
