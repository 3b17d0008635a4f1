"""Whole files: each appears complete and on the disk, or not at all."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2v.errors import UserError
from gpt2v.runs import sync, whole_file

Entry = dict[str, str | int]  # a file in the manifest: its sha256 and its bytes

WORK = ".export"  # what an unfinished export needs, below its folder
_TEMPORARY = "temporary"


@dataclass(frozen=True)
class Place:
    """The folder of an export, and the corner of it where an unfinished one keeps its notes."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / WORK

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    def receipt(self, shard: str) -> str:
        return f"{WORK}/shards/{shard}.json"

    def lines(self, shard: str) -> str:
        return f"{WORK}/lines/{shard}"

    def prepare(self) -> None:
        """Make the folders of the notes."""
        for name in ("shards", "lines", _TEMPORARY):
            (self.work / name).mkdir(parents=True, exist_ok=True)

    def write(self, contents: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, Entry]:
        """Write files by their names below the root, and wait until they are on the disk.

        Raises:
            UserError: one cannot be written.
        """
        entries, folders = {}, set()
        for name, chunks in contents:
            path = self.root / name
            try:
                made = not path.parent.is_dir()
                path.parent.mkdir(parents=True, exist_ok=True)
                folders |= set(path.parents) if made else {path.parent}
                entries[name] = self._one(path, chunks)
            except OSError as error:
                raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
        for folder in sorted(folders):
            if folder == self.root or self.root in folder.parents:
                sync(folder)
        return entries

    def _one(self, path: Path, chunks: Iterable[bytes]) -> Entry:
        digest, size = hashlib.sha256(), 0
        with whole_file(path, self.work / _TEMPORARY) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        return {"sha256": digest.hexdigest(), "bytes": size}
