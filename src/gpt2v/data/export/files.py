"""Files of an export: readers see a whole file or none of it, and it is on the disk.

A finished export has a manifest with the names of its files. An unfinished one has work files in
`.export/`: `making.yaml` and `config.yaml`, from what it is made; `names/`, the names of files
before they are written; `shards/`, a receipt for each shard that is written; `lines/`, what shards
keep for the files of the whole export.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2v.errors import UserError
from gpt2v.messages import say
from gpt2v.storage.disk import sync
from gpt2v.storage.files import whole_file, writing
from gpt2v.storage.folders import remove_directory
from gpt2v.storage.names import is_passing
from gpt2v.storage.replacing import FolderKind

Entry = dict[str, str | int]  # a file in the manifest: its sha256 and its size in bytes

KIND = "export"
WORK = ".export"  # subfolder for the work files of an unfinished export
CONFIG, MAKING = "config.yaml", "making.yaml"
_SUBFOLDERS = ("names", "shards", "lines")


@dataclass(frozen=True)
class ExportFolder:
    """The folder of an export, and in it the subfolder of an unfinished export's work files."""

    root: Path
    attempt: str = ""  # see `shards.ExportJob`

    @property
    def work(self) -> Path:
        """The subfolder of the work files."""
        return self.root / WORK

    @property
    def temporary(self) -> Path:
        """The folder of files that are being written."""
        return self.work / f"temporary-{self.attempt}"

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
        """Make the folders of the work files; unfinished files of earlier attempts are removed.

        Raises:
            UserError: they cannot be made.
        """
        with writing(self.root):
            for old in self.work.glob("temporary-*"):
                if names := sorted(path.name for path in old.iterdir()):
                    left = ", ".join(names)
                    say(f"{self.root}: removed what a stopped process left unfinished: {left}")
                remove_directory(old)
            for folder in (*(self.work / name for name in _SUBFOLDERS), self.temporary):
                folder.mkdir(parents=True, exist_ok=True)

    def is_begun(self) -> bool:
        """Whether an unfinished export of ours is here."""
        return (self.work / MAKING).is_file() and (self.work / CONFIG).is_file()

    def read_manifest(self) -> dict[str, Any]:
        """The content of the manifest; empty if there is no finished export of ours."""
        content = _read(self.manifest)
        ours = isinstance(content, dict) and content.get("kind") == KIND and "files" in content
        return content if ours else {}

    def foreign(self) -> Iterator[Path]:
        """The files below the root that are not the export's, or not as it has written them."""
        manifest = self.read_manifest()
        sizes = {name: entry["bytes"] for name, entry in manifest.get("files", {}).items()}
        ours = {self.manifest.name} if manifest else set()
        for names in (self.work / "names").glob("*.json"):
            ours |= set(_read(names) or ())
        derived = {"__pycache__"}  # by Python, when lm_eval runs the helper of its tasks
        if manifest or (self.work / MAKING).is_file():
            derived.add(WORK)
        for folder, folders, files in os.walk(self.root):
            here = Path(folder)
            folders[:] = [n for n in folders if n not in derived and not is_passing(n)]
            links = [name for name in folders if (here / name).is_symlink()]
            for path in (here / name for name in [*files, *links]):
                name = path.relative_to(self.root).as_posix()
                known = name in ours or sizes.get(name) == path.lstat().st_size
                if not (known or is_passing(path.name)):
                    yield path

    def note(self, what: str, names: Iterable[str]) -> None:
        """Write down, for `foreign`, the names of files that will be written.

        Args:
            what: whose files they are: a shard's, or "last".
        """
        self.write([(f"{WORK}/names/{what}.json", [json.dumps(list(names)).encode()])])

    def write_last(self, contents: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, Entry]:
        """`write` for the files of the whole export, whose names are known one by one."""
        names: list[str] = []

        def noted() -> Iterator[tuple[str, Iterable[bytes]]]:
            for name, chunks in contents:
                names.append(name)
                self.note("last", names)
                yield name, chunks

        return self.write(noted())

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
            with writing(path):
                made = not path.parent.is_dir()
                path.parent.mkdir(parents=True, exist_ok=True)
                folders |= set(path.parents) if made else {path.parent}
                entries[name] = self._one(path, chunks)
        for folder in sorted(folders):
            if folder == self.root or self.root in folder.parents:
                with writing(folder):
                    sync(folder)
        return entries

    def _one(self, path: Path, chunks: Iterable[bytes]) -> Entry:
        """Write one file; returns its entry."""
        digest, size = hashlib.sha256(), 0
        with whole_file(path, self.temporary) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        return {"sha256": digest.hexdigest(), "bytes": size}


class ExportKind(FolderKind):
    """Exports, in storage's rules for what may be replaced."""

    name, option = "export", "--to"

    def is_ours(self, path: Path) -> bool:
        """Whether an export is here, finished or not."""
        folder = ExportFolder(path)
        return folder.is_begun() or self.is_finished(path)

    def is_finished(self, path: Path) -> bool:
        """Whether it has its manifest."""
        return bool(ExportFolder(path).read_manifest())

    def has_value(self, path: Path) -> bool:
        """Whether it is finished, or has a shard."""
        shards = (ExportFolder(path).work / "shards").glob("*.json")
        return self.is_finished(path) or any(shards)

    def foreign(self, path: Path) -> Iterator[Path]:
        """The files that are not the export's."""
        return ExportFolder(path).foreign()


EXPORTS = ExportKind()


def _read(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
