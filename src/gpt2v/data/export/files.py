"""Files of an export: readers see a whole file or none of it, and it is on the disk."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpt2v.errors import UserError
from gpt2v.runs import sync, whole_file

Entry = dict[str, str | int]  # a file in the manifest: its sha256 and its size in bytes

WORK = ".export"  # subfolder for the work files of an unfinished export
_TEMPORARY = "temporary"


@dataclass(frozen=True)
class ExportFolder:
    """The folder of an export, and in it the subfolder of an unfinished export's work files."""

    root: Path

    @property
    def work(self) -> Path:
        """The subfolder of the work files."""
        return self.root / WORK

    @property
    def manifest(self) -> Path:
        """The manifest, which only a finished export has."""
        return self.root / "manifest.json"

    def receipt(self, shard: str) -> str:
        """Name below the root of a shard's receipt."""
        return f"{WORK}/shards/{shard}.json"

    def lines(self, shard: str) -> str:
        """Name below the root of the file with a shard's lines for `Format.finish`."""
        return f"{WORK}/lines/{shard}"

    def prepare(self) -> None:
        """Make the folders of the work files."""
        for name in ("shards", "lines", _TEMPORARY):
            (self.work / name).mkdir(parents=True, exist_ok=True)

    def write(self, contents: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, Entry]:
        """Write files, and wait until they are on the disk.

        Args:
            contents: pairs of a file's name below the root, and the chunks of its content.

        Returns:
            The entries of the manifest, by name.

        Raises:
            UserError: a file cannot be written, or would not be below the root.
        """
        entries, folders = {}, set()
        for name, chunks in contents:
            path = self.root / name
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise UserError(f"--format: {name}: must be a file below the export's folder")
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
        """Write one file; returns its entry."""
        digest, size = hashlib.sha256(), 0
        with whole_file(path, self.work / _TEMPORARY) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        return {"sha256": digest.hexdigest(), "bytes": size}
