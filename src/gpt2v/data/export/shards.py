"""One shard: drawn, written, and receipted once it is whole on the disk."""

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
    """The tile bank, which each process loads once."""
    return load_bank(tiles)


def versions() -> dict[str, str]:
    """Versions that the bytes of an export may depend on."""
    packages = ("numpy", "pillow", "pyarrow")
    return {"gpt2v": __version__, **{name: importlib.metadata.version(name) for name in packages}}


@dataclass(frozen=True)
class Work:
    """All that a worker must know to write any shard of an export."""

    plan: Plan
    format: str
    root: str
    versions: dict[str, str]

    def __reduce__(self) -> Any:
        """Pickled as text, for a worker that may run in another folder."""
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
            UserError: a file cannot be written, or a worker has other versions of what the bytes
                depend on.
        """
        here = versions()
        for name, version in self.versions.items():
            if here[name] != version:
                raise UserError(f"a worker has {name} {here[name]}, but the export {version}")
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
    """A pickled Work, once the user's own files are imported."""
    work = json.loads(text)
    import_all(work["imports"])
    kind = SuiteExportConfig if work["suite"] else ExportConfig
    plan = plan_of(kind.model_validate(work["config"]))
    return Work(plan, work["format"], work["root"], work["versions"])


def read_receipt(folder: ExportFolder, shard: Shard) -> dict[str, Any] | None:
    """The receipt of a shard whose files are all there; none if it is yet to be written."""
    try:
        found: dict[str, Any] = json.loads((folder.root / folder.receipt(shard.name)).read_bytes())
        sizes = {name: (folder.root / name).stat().st_size for name in found["files"]}
    except (OSError, ValueError):
        return None
    whole = all(sizes[name] == entry["bytes"] for name, entry in found["files"].items())
    return found if whole else None


def tally_of(receipt: dict[str, Any]) -> Tally:
    """The baselines of a shard's samples."""
    return {name: (n, Baselines(*found)) for name, (n, found) in receipt["tally"].items()}
