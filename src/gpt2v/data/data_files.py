"""Which files of a folder are data, and of which split: rules that text and tiles share.

The names of splits are those of the Hugging Face hub: words such as `train`, `valid` or `test` in
the names of files and folders (https://huggingface.co/docs/hub/datasets-file-names-and-splits). A
set of shards (`train-00000-of-00003.parquet`, ...) must be whole. What is not read is listed with
the reason, so that it can be said in one line.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gpt2v.errors import UserError

LeftOut = Mapping[str, Sequence[Path]]  # reason -> files and folders that are not read

SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
BESIDE_WORDS = "-._ 0-9"  # on the hub, one of these stands on each side of a word, or nothing does
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}
# Here every sign that is no letter may stand there, as in `test(1)` and `split=test`, and a word
# may be part of one, as in `testset` and `MyTestData`: that is no way into the training either.
_BESIDE = rf"[{BESIDE_WORDS}\W_]"
_WORD = re.compile(
    rf"(?:^|(?<={_BESIDE})|(?<=[a-z])(?=[A-Z]))(?P<word>(?i:{'|'.join(_SPLIT_OF)}))"
    rf"(?:(?i:set|data|split)(?={_BESIDE}|[A-Z]|$)|(?={_BESIDE}|$))"
)
_SHARD = re.compile(  # also `1of3` and `1 of 3`, but not `top 10 of 2023`
    r"(?P<set>.*?)(?P<number>\d+)(?:[-_]of[-_]|[-_ ]?of[-_ ]?(?=\d{1,3}(?!\d)))(?P<total>\d+)(?!\d)"
    r"(?P<rest>.*)",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"(readme|licen[cs]e|notice|citation)(\.\w+)?", re.IGNORECASE)
_POINTER = b"version https://git-lfs.github.com/spec/"
_NAMED = 3  # so many names of one kind are listed

_HIDDEN, _BELOW, _LOOP, _ABOUT_DATA = (
    "hidden",
    "sub-folder",
    "link to a folder above",
    "about the data",
)
OTHER_FORMAT = "other format"


def list_files(
    root: Path, why_not: Callable[[Path], str], deep: bool
) -> tuple[list[Path], dict[str, list[Path]]]:
    """The data files in a folder, sorted, and everything else with the reason why it is not data.

    Args:
        root: the folder.
        why_not: from a file's name, the reason why it is not data; empty: it is.
        deep: also those in its sub-folders; hidden ones are never entered.

    Raises:
        OSError: a folder cannot be read.
        UserError: a data file is a link that leads to nothing.
    """
    found: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    for path, reason in _walk(root, why_not, deep, frozenset()):
        (left_out.setdefault(reason, []) if reason else found).append(path)
    return sorted(found), left_out


def _walk(
    folder: Path, why_not: Callable[[Path], str], deep: bool, above: frozenset[Path]
) -> Iterator[tuple[Path, str]]:
    """Each file with the reason why it is not data, or an empty one."""
    above |= {folder.resolve()}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            yield path, _HIDDEN
        elif path.is_dir():
            if not deep:
                yield path, _BELOW
            elif path.resolve() in above:
                yield path, _LOOP
            else:
                yield from _walk(path, why_not, deep, above)
        elif _ABOUT.fullmatch(path.name):
            yield path, _ABOUT_DATA
        elif reason := why_not(path):
            yield path, reason
        elif not path.is_file():
            raise UserError(f"{path}: is no file, or a link that leads to none; remove it")
        else:
            yield path, ""


def split_of(root: Path, path: Path) -> str | None:
    """The split (a key of SPLIT_WORDS) that the folders below `root` or the file name; None: none.

    Raises:
        UserError: they name different splits.
    """
    splits = list(
        dict.fromkeys(s for part in path.relative_to(root).parts for s in splits_in(part))
    )
    if splits[1:]:
        raise UserError(f"{path}: its name says both {splits[0]} and {splits[1]}; rename it")
    return splits[0] if splits else None


def splits_in(name: str) -> list[str]:
    """The splits (keys of SPLIT_WORDS) that a name says, in order."""
    return [_SPLIT_OF[word["word"].lower()] for word in _WORD.finditer(name)]


def without_splits(name: str) -> str:
    """A name without the words for splits in it."""
    return _WORD.sub("", name)


def by_split(root: Path, files: Iterable[Path]) -> dict[str | None, list[Path]]:
    """The files of each split, in the same order; under None those that name no split.

    Raises:
        UserError: see `split_of`.
    """
    splits: dict[str | None, list[Path]] = {}
    for path in files:
        splits.setdefault(split_of(root, path), []).append(path)
    return splits


def check_different(files: Sequence[Path]) -> None:
    """Check that no two paths lead to the same file, and that each file is the data itself.

    Raises:
        UserError: two are links to one file, or one is a pointer of Git LFS.
    """
    seen: dict[tuple[int, int], Path] = {}
    for path in files:
        check_here(path)
        stat = path.stat()
        other = seen.setdefault((stat.st_dev, stat.st_ino), path)
        if other != path and stat.st_ino:  # 0: some file systems of Windows have no numbers
            raise UserError(f"{other} and {path} are the same file; remove one")


def is_pointer(start: bytes) -> bool:
    """Whether a file that begins so is only a pointer of Git LFS to data that are elsewhere."""
    return start.startswith(_POINTER)


def check_here(path: Path) -> None:
    """Raise UserError if the file is only a pointer of Git LFS to data that are elsewhere."""
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if is_pointer(start):
        raise UserError(f"{path}: is a pointer of Git LFS, not the data; run git lfs pull")


def check_shards(files: Sequence[Path], others: Iterable[Path] = ()) -> None:
    """Check that each set of shards, `NAME-00000-of-00003` and so on, is whole.

    Args:
        files: those that are read. Other names are in no set.
        others: files that are not read; the error names those that belong to the set.

    Raises:
        UserError: a shard is missing or there twice, or they disagree on the number of shards or on
            the format.
    """
    sets: dict[tuple[Path, str], list[tuple[Path, re.Match[str]]]] = {}
    for path in files:
        if shard := _SHARD.fullmatch(path.name):
            sets.setdefault((path.parent, shard["set"]), []).append((path, shard))
    for (folder, name), shards in sets.items():
        (first, shape), *_ = shards
        where = f"{folder / name}*"
        total = int(shape["total"])
        kind = _kind(shape)
        by_number: dict[int, Path] = {}
        for path, shard in shards:
            if int(shard["total"]) != total:
                raise UserError(
                    f"{where}: {first.name} is one of {total} files, but {path.name} is one of "
                    f"{int(shard['total'])}; keep the files of one set"
                )
            if _kind(shard) != kind:
                raise UserError(f"{where}: {first.name} and {path.name} have different formats")
            other = by_number.setdefault(int(shard["number"]), path)
            if other != path:
                raise UserError(f"{where}: {other.name} and {path.name} have the same number")
        start = 1 if total in by_number and 0 not in by_number else 0
        absent = (i for i in range(start, start + total) if i not in by_number)
        missing = next(absent, None)
        if missing is not None:
            unread = [path.name for path in others if _set_of(path) == (folder, name)]
            also = f"; not read: {some_of(unread)}" if unread else ""
            raise UserError(
                f"{where}: number {missing:0{len(shape['number'])}d} is missing: "
                f"{len(by_number)} of {total} files are here{also}"
            )
        if len(by_number) > total:
            raise UserError(
                f"{where}: {len(by_number)} files are here, but their names say {total}"
            )


def _set_of(path: Path) -> tuple[Path, str] | None:
    """Folder and name of the set that a file belongs to; None: it is no shard."""
    shard = _SHARD.fullmatch(path.name)
    return (path.parent, shard["set"]) if shard else None


def _kind(shard: re.Match[str]) -> str:
    """The suffixes of a shard's file; the hub puts a hash before them."""
    return "." + shard["rest"].partition(".")[2].lower()


def other_shards(path: Path) -> list[Path]:
    """The other files of the set that this shard belongs to; empty if it is no shard."""
    own = _set_of(path)
    beside = sorted(path.parent.iterdir()) if own else []
    return [other for other in beside if _set_of(other) == own and other.name != path.name]


def some_of(names: Sequence[str]) -> str:
    """The names, or the first three and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
    return ", ".join(names[:_NAMED]) + more


def described(root: Path, left_out: LeftOut) -> str:
    """What is left out, e.g. `test.txt (test split); .a.txt (hidden)`."""
    parts = []
    for reason, paths in left_out.items():
        if paths:
            parts.append(f"{some_of(names_below(root, paths))} ({reason})")
    return "; ".join(parts)


def names_below(root: Path, paths: Iterable[Path]) -> list[str]:
    """Names of files for messages and logs; what is not UTF-8 in them is replaced."""
    names = (path.relative_to(root).as_posix() for path in paths)
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]
