"""The records of an evaluation in shards: files that are whole or not there, and made only once.

A stopped evaluation continues with the shards that are missing. Scoring a shard does not depend on
the others, so the records are the same bytes as without a stop.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import pyarrow as pa
import pyarrow.parquet as pq

from gpt2v import runs
from gpt2v.data.rng import Ints
from gpt2v.errors import UserError, first_line
from gpt2v.eval.records import record_table
from gpt2v.eval.series import Series
from gpt2v.execute.job import Job
from gpt2v.hardware.device import hardware_facts
from gpt2v.model.scoring import COLUMNS, portions_of, score_all
from gpt2v.run_layout import SHARDS
from gpt2v.storage.files import write_parquet, writing
from gpt2v.storage.folders import remove_directory

_GRIDS = 250  # in a shard at most, in portions that are scored together
_STAMP = b"gpt2v"  # key of a shard's metadata


class EvaluationJob(Job):
    """The shards of all series, in a folder of the run. The models are in this process only."""

    def __init__(self, series: Sequence[Series], run: Path) -> None:
        self.series, self.folder = series, run / SHARDS
        self._each = [(one, shard) for one in series for shard in _shards(one)]

    @property
    def pieces(self) -> list[str]:
        return [", ".join(one.names.values()) for one, _ in self._each]

    def is_done(self, piece: int) -> bool:
        return self._path(piece).is_file()

    def do(self, piece: int) -> None:
        one, portions = self._each[piece]
        scorer, part = one.model.scorer, one.part
        records = score_all(scorer, part.data, one.modality, portions=portions, mode=part.mode)
        table = record_table(records, **one.columns)
        stamp = {_STAMP: json.dumps(self._stamp(one)).encode()}
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        write_parquet(self._path(piece), [table.replace_schema_metadata(stamp)])

    def spec(self) -> Never:
        raise UserError("an evaluation has its models in one process; --executor serial does it")

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Never:
        raise UserError("an evaluation has its models in one process; --executor serial does it")

    def check_begun(self) -> None:
        """Check that the shards that are there are of these weights, samples and versions.

        Raises:
            UserError: one is not; it names the first difference.
        """
        for piece, (one, _) in enumerate(self._each):
            if not self.is_done(piece):
                continue
            path, now = self._path(piece), self._stamp(one)
            try:
                before = json.loads(pq.read_schema(path).metadata[_STAMP])
            except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
                raise _unreadable(path, error) from None
            for key, value in now.items():
                if before.get(key) != value:
                    raise UserError(
                        f"{path}: {key}: was {before.get(key)}, and is {value} now; --resume needs "
                        "the same; --overwrite starts again"
                    )

    def table(self, series: Series, columns: Sequence[str] | None) -> pa.Table:
        """The records of one of the series.

        Args:
            columns: those that are read; None: all.
        """
        return pa.concat_tables(
            self._shard(piece, columns)
            for piece, (one, _) in enumerate(self._each)
            if one is series
        )

    def write(self, path: Path) -> None:
        """Write the records of all series into one file, shard by shard."""
        write_parquet(path, (self._shard(piece) for piece in range(len(self._each))))

    def _shard(self, piece: int, columns: Sequence[str] | None = None) -> pa.Table:
        path = self._path(piece)
        try:
            shard = pq.read_table(path, columns=columns and list(columns))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None
        return shard.replace_schema_metadata()

    def remove(self) -> None:
        """Remove the shards, if they are there; their records are elsewhere."""
        if self.folder.is_dir():
            remove_directory(self.folder)

    def _path(self, piece: int) -> Path:
        return self.folder / f"{piece:06d}.parquet"

    def _stamp(self, one: Series) -> dict[str, Any]:
        """What the records of a shard depend on, beside the configuration."""
        return {
            "data": one.part.data.hash,
            "weights": one.model.identity.get("weights"),
            "device": hardware_facts()["device"],
            "columns": list(COLUMNS),
            **{f"version of {name}": version for name, version in runs.versions().items()},
        }


def _unreadable(path: Path, error: Exception) -> UserError:
    """What is said of a shard that is damaged or gone."""
    return UserError(f"{path}: cannot be read ({first_line(error)}); --overwrite starts again")


def _shards(one: Series) -> list[list[Ints]]:
    """The numbers of the samples in each shard, in portions that are scored together."""
    portions = portions_of(one.part.data, one.modality)
    several = _GRIDS // len(portions[0])
    return [portions[at : at + several] for at in range(0, len(portions), several)]
