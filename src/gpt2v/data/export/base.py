"""What a format is, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from gpt2v.data.export.plan import Part, Plan, Shard
from gpt2v.data.grids.baselines import Tally
from gpt2v.data.render.examples import Example

Files = Iterator[tuple[str, Iterable[bytes]]]  # names below the export's folder, and contents


@dataclass(frozen=True)
class Written:
    """What a format makes of one shard."""

    files: dict[str, bytes]  # by their name below the export's folder
    lines: list[str] = field(default_factory=list)  # kept for `finish`, then thrown away


@dataclass(frozen=True)
class Gathered:
    """What is known once every shard is written."""

    plan: Plan
    command: str  # that makes the same export again
    data_hash: str
    tallies: tuple[Tally, ...]  # of each part
    examples: tuple[Example, ...]  # the first sample of each part
    lines: Callable[[int], Iterator[str]]  # of all shards of a part, in order


class Format(ABC):
    """One kind of files. A shard's files must depend on (plan, shard) alone."""

    name: ClassVar[str]

    def check(self, part: Part) -> None:  # noqa: B027
        """Refuse a part that the format cannot hold."""

    @abstractmethod
    def shard(self, part: Part, shard: Shard, items: list[Example]) -> Written:
        """The files of one shard."""

    @abstractmethod
    def finish(self, gathered: Gathered) -> Files:
        """The files that belong to the whole export."""
