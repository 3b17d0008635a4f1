"""Which weights a measurement is about: the checkpoint, its step and a hash of its weights."""

from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpt2v.hub import needed_file
from gpt2v.progress import waited
from gpt2v.run_layout import step_of
from gpt2v.storage.manifest import read_manifest
from gpt2v.storage.manifest import sha256 as sha256_of
from gpt2v.trained.compare import recorded
from gpt2v.trained.record import TrainedOn


class Traceable:
    """A model from a checkpoint, whose training and weights can be told.

    Attributes:
        name: a run, a checkpoint or a hub id, as the user named it.
        path: the checkpoint directory or hub id that was loaded.
    """

    name: str
    path: str

    @cached_property
    def trained_on(self) -> TrainedOn | None:
        """What it was trained on; None: that cannot be told."""
        return recorded(self.name, self.path)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Which weights these are, for results.json; see `identity`."""
        return identity(self.name, self.path)


def identity(name: str, path: str) -> dict[str, Any]:
    """What results tell about the model that they measure.

    Args:
        name: a run, a checkpoint or a hub id, as the user named it.
        path: the checkpoint directory or hub id that was loaded.

    Returns:
        `model` (the name), `checkpoint` (its last part), `chosen` (`newest`: of a run, or `named`),
        `step` (None: unknown) and `weights` (16 digits of the SHA-256 over its safetensors files).
    """
    folder = Path(path) if Path(path).exists() else needed_file(path, "config.json").parent
    is_own = folder.resolve() != Path(name).resolve() and Path(name).exists()
    return {
        "model": name,
        "checkpoint": folder.name if is_own else Path(path).name,
        "chosen": "newest" if is_own else "named",
        "step": step_of(folder),
        "weights": _hash_of_weights(folder),
    }


def _hash_of_weights(folder: Path) -> str:
    files = [f for f in sorted(folder.glob("*.safetensors")) if f.name != "optimizer.safetensors"]
    known = read_manifest(folder) or {}  # was compared with the files when they were loaded
    digest = sha256()
    for file in files:
        sums = known.get(file.name) or waited(f"hashing {file}", partial(sha256_of, file))
        digest.update(sums.encode())
    return digest.hexdigest()[:16]
