"""The base of all formats, and the data that a format reads and returns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpt2v.data.export.plan import Part, Plan, Shard
from gpt2v.data.grids.baselines import Tally
from gpt2v.data.render.examples import Example
from gpt2v.data.tiles.bank import TileBank

Files = Iterator[tuple[str, Iterable[bytes]]]  # (name below the export's folder, contents)


@dataclass(frozen=True)
class Written:
    """What a format writes for one shard."""

    files: dict[str, bytes]  # name below the export's folder -> content
    lines: list[str] = field(default_factory=list)  # lines for `finish`; deleted after the export


@dataclass(frozen=True)
class Gathered:
    """What is known when all shards are written."""

    plan: Plan
    bank: TileBank
    command: str  # the command that makes the same export again
    data_hash: str
    tallies: tuple[Tally, ...]  # of each part
    examples: tuple[Example, ...]  # the first sample of each part
    lines: Callable[[int], Iterator[str]]  # of all shards of a part, in order


class Format(ABC):
    """A file format. The files of a shard must depend on (plan, shard) alone."""

    def check(self, part: Part) -> None:  # noqa: B027
        """Check that the format can hold this part.

        Raises:
            UserError: it cannot.
        """

    def check_path(self, to: Path) -> None:  # noqa: B027
        """Check that the reader of this format can open a folder with this path.

        Raises:
            UserError: it cannot.
        """

    @abstractmethod
    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        """The files of one shard, which holds these samples."""

    @abstractmethod
    def finish(self, gathered: Gathered) -> Files:
        """The files of the whole export."""
