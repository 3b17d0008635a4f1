"""Write one shard. Its receipt is written when all its files are on the disk."""

import importlib.metadata
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from gpt2v import __version__
from gpt2v.config.measuring import ExportConfig, SuiteExportConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.export.files import ExportFolder
from gpt2v.data.export.formats import format_of
from gpt2v.data.export.plan import Plan, Shard, plan_of
from gpt2v.data.grids.baselines import Baselines, Tally, tally
from gpt2v.data.render.examples import examples_of
from gpt2v.data.tiles.bank import TileBank
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.execute.job import Job
from gpt2v.paths import expanded


@lru_cache(maxsize=1)
def bank_of(tiles: TilesConfig) -> TileBank:
    """The tile bank; each process loads it once."""
    return load_bank(tiles)


def versions() -> dict[str, str]:
    """Versions of the packages that the bytes of an export may depend on."""
    packages = ("numpy", "pillow", "pyarrow")
    return {"gpt2v": __version__, **{name: importlib.metadata.version(name) for name in packages}}


@dataclass(frozen=True)
class ExportJob(Job):
    """The shards of an export as the pieces of a job.

    Args:
        attempt: names the folder of unfinished files. The owner of an export chooses a new one, so
            that workers of an owner that was killed cannot finish a file any more.
    """

    plan: Plan
    format: str
    root: str
    versions: dict[str, str]
    attempt: str

    @property
    def pieces(self) -> list[str]:
        """The names of the shards."""
        return [shard.name for shard in self.plan.shards]

    @property
    def folder(self) -> ExportFolder:
        """The folder of the export."""
        return ExportFolder(Path(self.root), self.attempt)

    def is_done(self, piece: int) -> bool:
        """Whether the shard has a receipt, and its files are there."""
        return read_receipt(self.folder, self.plan.shards[piece]) is not None

    def do(self, piece: int) -> None:
        """Write a shard.

        Raises:
            UserError: a file cannot be written, or this process has other versions of the packages
                that the bytes depend on.
        """
        own = versions()
        for name, version in self.versions.items():
            if own[name] != version:
                raise UserError(f"a worker has {name} {own[name]}, but the export needs {version}")
        shard, folder = self.plan.shards[piece], self.folder
        part, bank = self.plan.parts[shard.part], bank_of(self.plan.tiles)
        samples = part.data(bank).samples(np.arange(shard.start, shard.stop))
        items = examples_of(samples, part.grid, bank)
        written = format_of(self.format).shard(part, shard, items)
        folder.note(shard.name, written.files)
        entries = folder.write((name, [content]) for name, content in written.files.items())
        lines = "".join(f"{line}\n" for line in written.lines)
        folder.write([(folder.lines(shard.name), [lines.encode()])])
        receipt = {"files": entries, "tally": tally(samples)}
        folder.write([(folder.receipt(shard.name), [json.dumps(receipt).encode()])])

    def spec(self) -> dict[str, Any]:
        """Everything that a worker needs; a worker may run in another folder."""
        config = self.plan.config
        content = config.model_dump()
        path = config.tiles.path
        if path and expanded(path).exists():
            content["tiles"]["path"] = str(expanded(path).absolute())
        return {
            "suite": isinstance(config, SuiteExportConfig),
            "config": content,
            "format": self.format,
            "root": str(Path(self.root).absolute()),
            "versions": self.versions,
            "attempt": self.attempt,
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """The job that `spec` describes."""
        kind = SuiteExportConfig if spec["suite"] else ExportConfig
        plan = plan_of(kind.model_validate(spec["config"]))
        return cls(plan, spec["format"], spec["root"], spec["versions"], spec["attempt"])


def read_receipt(folder: ExportFolder, shard: Shard) -> dict[str, Any] | None:
    """The receipt of a shard; None if the shard is not written, or a file of it is not complete."""
    try:
        path = folder.root / folder.receipt(shard.name)
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        sizes = {name: (folder.root / name).stat().st_size for name in receipt["files"]}
    except (OSError, ValueError):
        return None
    complete = all(sizes[name] == entry["bytes"] for name, entry in receipt["files"].items())
    return receipt if complete else None


def tally_of(receipt: dict[str, Any]) -> Tally:
    """The tally of a shard's samples."""
    return {name: (n, Baselines(*rates)) for name, (n, rates) in receipt["tally"].items()}
