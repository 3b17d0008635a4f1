"""Write one shard. Its receipt is written when all its files are on the disk."""

import importlib.metadata
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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
from gpt2v.extensions import import_all, imported


@lru_cache(maxsize=1)
def bank_of(tiles: TilesConfig) -> TileBank:
    """The tile bank; each process loads it once."""
    return load_bank(tiles)


def versions() -> dict[str, str]:
    """Versions of the packages that the bytes of an export may depend on."""
    packages = ("numpy", "pillow", "pyarrow")
    return {"gpt2v": __version__, **{name: importlib.metadata.version(name) for name in packages}}


@dataclass(frozen=True)
class Work:
    """Everything that a worker needs to write a shard of an export."""

    plan: Plan
    format: str
    root: str
    versions: dict[str, str]

    def __reduce__(self) -> Any:
        """Pickle as text with absolute paths, because a worker may run in another folder."""
        config = self.plan.config
        content = config.model_dump()
        path = config.tiles.path
        if path and Path(path).exists():
            content["tiles"]["path"] = str(Path(path).absolute())
        work = {
            "suite": isinstance(config, SuiteExportConfig),
            "config": content,
            "format": self.format,
            "root": str(Path(self.root).absolute()),
            "versions": self.versions,
            "imports": imported(),
        }
        return _work_of, (json.dumps(work),)

    def write(self, number: int) -> int:
        """Write one shard of the plan; returns its number.

        Raises:
            UserError: a file cannot be written, or this process has other versions of the packages
                that the bytes depend on.
        """
        own = versions()
        for name, version in self.versions.items():
            if own[name] != version:
                raise UserError(f"a worker has {name} {own[name]}, but the export needs {version}")
        shard, folder = self.plan.shards[number], ExportFolder(Path(self.root))
        part, bank = self.plan.parts[shard.part], bank_of(self.plan.tiles)
        samples = part.data(bank).samples(np.arange(shard.start, shard.stop))
        items = examples_of(samples, part.grid, bank)
        written = format_of(self.format).shard(part, shard, items)
        entries = folder.write((name, [content]) for name, content in written.files.items())
        lines = "".join(f"{line}\n" for line in written.lines)
        folder.write([(folder.lines(shard.name), [lines.encode()])])
        receipt = {"files": entries, "tally": tally(samples)}
        folder.write([(folder.receipt(shard.name), [json.dumps(receipt).encode()])])
        return number


@lru_cache(maxsize=4)
def _work_of(text: str) -> Work:
    """The Work in a pickled text; first imports the user's own files."""
    work = json.loads(text)
    import_all(work["imports"])
    kind = SuiteExportConfig if work["suite"] else ExportConfig
    plan = plan_of(kind.model_validate(work["config"]))
    return Work(plan, work["format"], work["root"], work["versions"])


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
