"""The samples of an export: parts with the samples of one data spec each, cut into shards."""

from dataclasses import dataclass
from functools import cached_property

from gpt2v.config.grids import DocumentGridConfig, HeldOutGridConfig
from gpt2v.config.measuring import ExportConfig, SuiteExportConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.suites.load import as_suited, load_suite, with_tiles
from gpt2v.data.suites.samples import check_bank
from gpt2v.data.tiles.bank import TileBank
from gpt2v.errors import within

AnyExport = ExportConfig | SuiteExportConfig


@dataclass(frozen=True)
class Part:
    """The first `n_images` samples of one data spec."""

    name: str  # of a suite's part; empty if the export is one data spec
    grid: HeldOutGridConfig
    split: str
    seed: int
    n_images: int
    modalities: tuple[str, ...] = ("text", "image")  # in which its questions may be asked

    def data(self, bank: TileBank) -> GridDataset:
        """The samples of the part."""
        key = "" if self.name else "grid."
        return GridDataset(self.grid, bank, self.seed, self.split, self.n_images, key)

    @property
    def mode(self) -> str:
        """Whether a question sees the earlier ones: `chained`, or `independent`."""
        return self.grid.mode if isinstance(self.grid, DocumentGridConfig) else "independent"

    @property
    def folder(self) -> str:
        """The folder of its files below the export's folder, with a final `/`; empty for none."""
        return f"{self.name}/" if self.name else ""

    @property
    def several(self) -> bool:
        """Whether a sample has a picture for each of its cells."""
        return self.grid.picture.layout == "multi"

    def picture_names(self, stem: str, n: int) -> list[str]:
        """`stem.png`; or with a picture for each cell `stem-0.png` and so on, in raster order."""
        return [f"{stem}-{k}.png" for k in range(n)] if self.several else [f"{stem}.png"]


@dataclass(frozen=True)
class Shard:
    """Some samples of one part, in files of their own."""

    part: int  # index into the plan's parts
    number: int  # index within its part
    n: int  # number of shards of its part
    start: int  # index of the first sample
    stop: int  # index of its last sample, plus one

    @property
    def name(self) -> str:
        """Name of the shard, unique in the export."""
        return f"{self.part:03d}-{self.number:05d}"

    def file(self, split: str) -> str:
        """Name of its file without suffix, if the format writes one file for each shard."""
        return f"{split}-{self.number:05d}-of-{self.n:05d}"


@dataclass(frozen=True)
class Plan:
    """Everything that an export is made from."""

    title: str  # a short name
    description: str  # one sentence
    config: AnyExport
    parts: tuple[Part, ...]

    @property
    def tiles(self) -> TilesConfig:
        """The configuration of the tiles."""
        return self.config.tiles

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, in order."""
        shards = []
        for which, part in enumerate(self.parts):
            starts = range(0, part.n_images, self.config.shard_size)
            for number, start in enumerate(starts):
                stop = min(start + self.config.shard_size, part.n_images)
                shards.append(Shard(which, number, len(starts), start, stop))
        return tuple(shards)

    def check(self, bank: TileBank) -> None:
        """Check that the samples can be made from these tiles.

        Raises:
            UserError: they cannot.
        """
        if isinstance(self.config, SuiteExportConfig):
            check_bank(load_suite(self.config.suite), self.config.suite, bank)
        else:
            for part in self.parts:
                with within("grid."):
                    part.data(bank).first()


def plan_of(config: AnyExport) -> Plan:
    """The plan of a configuration: the parts of its suite, or the one part that it describes.

    Raises:
        UserError: no such suite.
    """
    if isinstance(config, ExportConfig):
        grid = config.grid
        asked = " and ".join(grid.instructions)
        description = (
            f"Grids of {grid.size} pictured objects, each as text ({grid.shown('text')}) and as a "
            f"picture, with questions ({asked})."
        )
        part = Part("", grid, config.split, config.seed, config.n_images)
        return Plan(grid.size, description, config, (part,))
    suite = load_suite(config.suite)
    config = with_tiles(as_suited(config), config.tiles.test_per_class)
    parts = tuple(
        Part(part.name, part.grid, suite.split, suite.seed, part.n_images, tuple(part.modalities))
        for part in suite.parts
    )
    return Plan(config.suite, suite.description, config, parts)
