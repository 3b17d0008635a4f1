"""Which files of plain text are read: a file by its name, or those of a split of a folder.

The rules, also in docs/data.md: the files directly in a folder are read; only if there are none,
those in its sub-folders are. Words in their names tell the split. Files that name no split are the
training text if no file is named so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2v.data.corpus.compressed import COMPRESSIONS
from gpt2v.data.data_files import (
    OTHER_FORMAT,
    LeftOut,
    by_split,
    check_different,
    check_here,
    check_shards,
    described,
    list_files,
    other_shards,
)
from gpt2v.errors import UserError, within
from gpt2v.hub import looks_local
from gpt2v.paths import expanded

_FORMATS = (".txt", ".jsonl", ".parquet")
_KINDS = {*_FORMATS, *(f + c for f in (".txt", ".jsonl") for c in COMPRESSIONS)}
_PACKED = {*COMPRESSIONS, ".zst", ".zip", ".lz4", ".lzma", ".br", ".7z", ".rar", ".tar", ".tgz"}
_EXPECTED = "a .txt, .jsonl or .parquet file"
_UNREAD_PACKED = "compressed in a way that is not read"


@dataclass(frozen=True)
class TextFiles:
    """The files of text below a path.

    Attributes:
        root: the folder, or that of the only file.
        splits: files of each split; None: they name no split.
        left_out: reason -> files that are never read.
        is_folder: whether the path is that of the folder.
        key: name of the setting, for error messages.
    """

    root: Path
    splits: dict[str | None, list[Path]]
    left_out: LeftOut
    is_folder: bool
    key: str

    def has(self, split: str) -> bool:
        """Whether the names of some files name this split."""
        return split in self.splits

    def has_kind(self, kind: str) -> bool:
        """Whether there are files of a kind, e.g. `.txt`, compressed or not."""
        files = [file for own in self.splits.values() for file in own]
        return any(text_kind(file).startswith(kind) for file in files)

    def of(self, split: str) -> list[Path]:
        """The files of a split: those that name it, or else those that name none.

        Raises:
            UserError: there are none, or a set of shards is not whole.
        """
        files = self.splits.get(split) or self.splits.get(None)
        if not files:
            there = {f"{name} split": own for name, own in self.splits.items()}
            raise UserError(
                f"{self.key}: {self.root}: no file of the {split} split, only "
                f"{described(self.root, there)}; name a file, or rename them"
            )
        if self.is_folder:
            with within(f"{self.key}: "):
                check_shards(files, [path for paths in self.left_out.values() for path in paths])
        return [file for file in files if not _is_empty(file)]

    def rest(self, read: Iterable[Path]) -> str:
        """All but the files that are read, with reasons, for a message; empty: there are none."""
        taken = set(read)
        others: dict[str, list[Path]] = {}
        for split, files in self.splits.items():
            for file in files:
                reason = f"{split} split" if split else "no split in its name"
                if _is_empty(file):
                    others.setdefault("empty", []).append(file)
                elif file not in taken:
                    others.setdefault(reason, []).append(file)
        return described(self.root, {**others, **self.left_out})


def text_kind(path: Path) -> str:
    """The kind of a file of text by its name, e.g. `.txt` or `.jsonl.gz`; empty: it is none."""
    last = path.suffix.lower()
    kind = Path(path.stem).suffix.lower() + last if last in COMPRESSIONS else last
    return kind if kind in _KINDS else ""


def local_path(path_or_id: str, key: str) -> Path | None:
    """The file or folder with this name; None for a hub id.

    Raises:
        UserError: it looks like a path, but no such file or folder exists.
    """
    path = expanded(path_or_id)
    if path.exists():
        return path
    if looks_local(path_or_id) or text_kind(path) or path.suffix.lower() in _PACKED:
        raise UserError(f"{key}: {path_or_id}: no such file or folder")
    return None


def text_files(path: Path, key: str) -> TextFiles:
    """The files of text at a path: the path itself, or those in a folder.

    Args:
        path: a file or a folder that exists.
        key: name of the setting, for error messages.

    Raises:
        UserError: no file of text, one that is there twice, or names that contradict each other.
    """
    try:
        with within(f"{key}: "):
            return _in_folder(path, key) if path.is_dir() else _alone(path, key)
    except OSError as error:
        raise UserError(
            f"{key}: {error.filename or path}: cannot be read: {error.strerror}"
        ) from None


def _alone(path: Path, key: str) -> TextFiles:
    """A file that is named is read, whatever its name says; of a set of shards it is read alone."""
    if not text_kind(path):
        reason = f"expected {_EXPECTED}, or a folder"
        if _is_packed(path):
            reason = (
                "cannot be read; decompress it first, or use .txt or .jsonl with .gz, .bz2, .xz"
            )
        elif _is_json_lines(path):
            reason += "; name it .jsonl if it has one object in each line"
        raise UserError(f"{path}: {reason}")
    if not path.is_file():
        raise UserError(f"{path}: is no regular file")
    check_here(path)
    left_out = {"of the same set": other_shards(path)}
    return TextFiles(path.parent, {None: [path]}, left_out, is_folder=False, key=key)


def _in_folder(root: Path, key: str) -> TextFiles:
    for deep in (False, True):
        files, left_out = list_files(root, _why_not, deep)
        if any(not _is_empty(file) for file in files):
            break
    if not files:
        there = described(root, left_out)
        raise UserError(
            f"{root}: no .txt, .jsonl or .parquet file in this folder"
            + (f"; not read: {there}" if there else "")
        )
    check_different(files)
    seen: dict[str, Path] = {}
    for file in files:
        name = str(file)[: -len(text_kind(file))]
        if name in seen:
            raise UserError(
                f"{seen[name]} and {file.name} look like the same text in two formats; keep one"
            )
        seen[name] = file
    return TextFiles(root, by_split(root, files), left_out, is_folder=True, key=key)


def _why_not(path: Path) -> str:
    """Why a file with this name is not read; empty: it is."""
    if text_kind(path):
        return ""
    return _UNREAD_PACKED if _is_packed(path) else OTHER_FORMAT


def _is_packed(path: Path) -> bool:
    """Whether a file that is not read may be text that is compressed in another way."""
    last, inner = path.suffix.lower(), Path(path.stem).suffix.lower()
    return last in _PACKED and (last not in COMPRESSIONS or inner in ("", ".tar", *_FORMATS))


def _is_json_lines(path: Path) -> bool:
    """Whether a file may be what is read as .jsonl, under another name."""
    name = path.stem if path.suffix.lower() in COMPRESSIONS else path.name
    return Path(name).suffix.lower() in (".json", ".ndjson", ".jsonlines")


def _is_empty(file: Path) -> bool:
    """Whether it has no bytes at all; an empty file of the other kinds is damaged."""
    return text_kind(file) in (".txt", ".jsonl") and not file.stat().st_size
