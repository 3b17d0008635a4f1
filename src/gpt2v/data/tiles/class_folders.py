"""What is a class and what is a picture in a folder of class folders: folder/class/file.png.

Nothing is left out in silence, except what operating systems and editors add.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2v.data.data_files import SPLIT_WORDS, some_of, splits_in, without_splits
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.names import in_one_form
from gpt2v.errors import UserError
from gpt2v.messages import one_line

# Suffixes of pictures. Those in formats that are not read are refused when they are decoded.
_PICTURES = frozenset({
    ".apng", ".avif", ".bmp", ".cr2", ".cur", ".dib", ".dng", ".emf", ".eps", ".exr", ".gif",
    ".hdr", ".heic", ".heif", ".icns", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jpf", ".jpx", ".jxl", ".jxr", ".mpo", ".nef", ".orf", ".pbm", ".pcx", ".pfm", ".pgm",
    ".png", ".pnm", ".ppm", ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2", ".sgi", ".svg",
    ".tga", ".tif", ".tiff", ".webp", ".wmf", ".xbm", ".xcf", ".xpm",
})  # fmt: skip
# And files that begin with ._, where macOS keeps properties of files.
_SYSTEM = frozenset({
    "__macosx", "@eadir", "$recycle.bin", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found",
    "system volume information", "recycler", "found.000", "#recycle", "@recycle", "@tmp",
    "__pycache__", "icon\r", ".appledouble", ".temporaryitems", ".documentrevisions-v100",
    ".ds_store", ".git", ".gitignore", ".gitattributes", ".gitkeep", ".ipynb_checkpoints",
    ".directory", ".localized", ".trashes", ".spotlight-v100", ".fseventsd", ".cache", ".nomedia",
})  # fmt: skip
_SPLITS = frozenset(word for words in SPLIT_WORDS.values() for word in words)
_CLASS = "train"  # a vehicle, and a class of CIFAR-100


@dataclass(frozen=True)
class ClassFolders:
    """The classes of a folder and their files.

    Attributes:
        names: of the classes, as they are on the disk, sorted.
        files: all image files, sorted by class and name.
        labels: (n_files,) class of each file.
        notes: lines for the user: what was left out, and what may be a mistake.
    """

    names: tuple[str, ...]
    files: list[Path]
    labels: Ints
    notes: tuple[str, ...]


def find_classes(root: Path) -> ClassFolders:
    """The class folders in `root` and the image files directly in them.

    Raises:
        UserError: fewer than two class folders, one without pictures or with pictures deeper in
            it, or folders for splits.
        OSError: a folder cannot be read.
    """
    inside = list(_entries(root))
    folders = [entry for entry in inside if entry.is_dir() and not _is_hidden(entry)]
    left_out = [_told(entry, "beside the class folders") for entry in set(inside) - set(folders)]
    files: list[Path] = []
    labels: list[int] = []
    notes: list[str] = []
    for label, folder in enumerate(folders):
        notes += _check_split(root, folder)
        own = []
        for entry in _entries(folder):
            if entry.is_dir():
                _check_nested(root, folder, entry)
                left_out += [_told(entry)] * any(entry.iterdir())
            elif _is_picture(entry):
                own.append(entry)
            else:
                left_out.append(_told(entry))
        if not own:
            raise UserError(f"tiles.path: {folder}: this class folder has no picture")
        files += own
        labels += [label] * len(own)
    _check_all_splits(root, folders)
    if len(folders) < 2:
        raise UserError(f"tiles.path: {root}: found {len(folders)} class folders, need 2 or more")
    if left_out:
        counts = ", ".join(f"{what} ({n})" for what, n in sorted(Counter(left_out).items()))
        line = f"tiles.path: {root}: left out, as no pictures of a class: {counts}"
        notes.append(one_line(line))
    names = tuple(folder.name for folder in folders)
    return ClassFolders(names, files, np.array(labels, np.int64), tuple(notes))


def _entries(folder: Path) -> Iterator[Path]:
    """What is in a folder, sorted by name, without what operating systems add.

    The order is the same on every system, whichever Unicode form it writes names in.
    """
    for entry in sorted(folder.iterdir(), key=lambda entry: (in_one_form(entry.name), entry.name)):
        if entry.name.lower() not in _SYSTEM and not entry.name.startswith("._"):
            yield entry


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


def _is_picture(entry: Path) -> bool:
    return entry.suffix.lower() in _PICTURES and not _is_hidden(entry)


def _check_split(root: Path, folder: Path) -> list[str]:
    """Raise UserError for a folder that is named like a split; a note if it may be a class."""
    name = folder.name.casefold()
    if name not in _SPLITS:
        return []
    inner = [entry for entry in _entries(folder) if entry.is_dir() and not _is_hidden(entry)]
    if inner or name != _CLASS:
        raise UserError(
            f"tiles.path: {folder}: is named like a split, not like a class; expected "
            f"{root / 'CLASS' / 'picture.png'}. gpt2v makes its own splits; rename it if it is a "
            "class"
        )
    return [f"tiles.path: {folder}: is read as a class named '{folder.name}', not as a split"]


def _check_all_splits(root: Path, folders: list[Path]) -> None:
    """Raise UserError if the folders differ only in words for splits, as `train_x` and `test_x`."""
    splits = {split for folder in folders for split in splits_in(folder.name)}
    if len(folders) > 1 and splits and len({without_splits(f.name) for f in folders}) == 1:
        names = some_of([folder.name for folder in folders])
        raise UserError(
            f"tiles.path: {root}: {names}: are named like splits, not like classes; expected "
            f"{root / 'CLASS' / 'picture.png'}. gpt2v makes its own splits"
        )


def _check_nested(root: Path, folder: Path, inner: Path) -> None:
    """Raise UserError if there are pictures in a folder in a class folder."""
    if _is_hidden(inner):
        return
    for where, _, names in os.walk(inner):
        for name in sorted(names):
            if _is_picture(Path(name)):
                raise UserError(
                    f"tiles.path: {Path(where) / name}: too deep; expected "
                    f"{root / folder.name / 'picture.png'}. Move the pictures in {inner}, or "
                    "remove it"
                )


def _told(entry: Path, where: str = "") -> str:
    """The kind of what is left out, e.g. `.txt files`."""
    if entry.is_dir():
        return "hidden folders" if _is_hidden(entry) else "folders"
    if _is_hidden(entry):
        return "hidden files"
    if _is_picture(entry):
        return f"pictures {where}"
    return f"{entry.suffix.lower()} files" if entry.suffix else "files without a suffix"
