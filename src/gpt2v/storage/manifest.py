"""Checksums of files: MANIFEST.json in a folder has the sha256 of each of its other files."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpt2v.progress import waited

MANIFEST = "MANIFEST.json"


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Write the manifest of all files directly in a folder."""
    sums = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    text = json.dumps(sums, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")


def read_manifest(folder: Path) -> dict[str, str] | None:
    """The checksums by file name; None: there is no manifest.

    Raises:
        ValueError: it is damaged.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(str(error)) from None
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise ValueError("not a list of checksums")
    return content


def verify(folder: Path) -> str:
    """Check a folder's files: an error message that names the damaged file, or `""`.

    A folder without a manifest, which another tool wrote, is not checked.
    """
    try:
        sums = read_manifest(folder)
    except ValueError:
        return f"{folder / MANIFEST}: damaged (not a list of checksums)"
    name = damaged(folder, sums or {})
    return f"{folder / name}: damaged (it differs from {MANIFEST})" if name else ""


def damaged(folder: Path, sums: Mapping[str, str]) -> str | None:
    """The first file that is missing or has another checksum; None: all are as they should be.

    The files are read and hashed at the same time.
    """

    def is_whole(name: str) -> bool:
        try:
            return sha256(folder / name) == sums[name]
        except OSError:
            return False

    def check() -> dict[str, bool]:
        with ThreadPoolExecutor(max_workers=8) as pool:
            return dict(zip(sums, pool.map(is_whole, sums), strict=True))

    whole = waited(f"{folder}: checking its files", check)
    return next((name for name in sums if not whole[name]), None)
