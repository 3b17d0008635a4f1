"""What a run directory holds: our mark, and the files that gpt2v writes. Only these are removed."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2v import __version__
from gpt2v.extensions import copies
from gpt2v.storage.disk import remove_file
from gpt2v.storage.files import write_bytes, write_json
from gpt2v.storage.folders import remove_directory
from gpt2v.storage.manifest import MANIFEST, read_manifest
from gpt2v.storage.names import is_passing
from gpt2v.storage.replacing import FolderKind

MARK, CONFIG, FINISHED = "run.json", "config.yaml", "results.json"
METRICS, RECORDS, CHECKPOINTS = "metrics.jsonl", "records.parquet", "checkpoints"
ATTENTION = "attention.parquet"  # of an evaluation that was asked to keep it
SHARDS = "shards"  # of the records of an evaluation that is not finished
STATES = "states"  # hidden states of a probe that is not finished
DECODERS = "decoders"  # of a probe
_FORMAT = 3  # increase it when older runs can no longer be continued
_OURS = re.compile(
    r"run\.json|config\.yaml|results\.json|metrics\.jsonl|(records|attention)\.parquet"
    rf"|{SHARDS}/\d{{6}}\.parquet"
    rf"|{STATES}/[0-9a-f]{{16}}/([\w.-]+\.npy|state\.json)|{DECODERS}/[\w.-]+\.safetensors"
    r"|imports/(imports\.json|[0-9a-f]{12}-[^/]+\.py)"
    r"|examples/\d+(-\d+)?\.png|report/index\.html"
    r"|tensorboard/events\.out\.tfevents\.[^/]+"
    r"|wandb/((offline-)?run-[^/]+/.+|latest-run|debug[^/]*\.log)"
)
_STEP = re.compile(r"step-\d+")
_CHECKPOINT = re.compile(rf"({CHECKPOINTS}/{_STEP.pattern})/([^/]+)")
_WEIGHTS = re.compile(r"[\w.-]+\.(json|safetensors|jinja|txt)")  # of a damaged checkpoint


def mark(run: Path, sub_runs: tuple[str, ...] = ()) -> None:
    """Write our mark into a run, and copies of the files that the user imported.

    Args:
        sub_runs: names of folders in the run that are runs themselves, and belong to it.
    """
    parts: dict[str, Any] = {"sub_runs": sub_runs} if sub_runs else {}
    write_json(run / MARK, {"format": _FORMAT, "gpt2v": __version__, **parts})
    for name, content in copies().items():
        write_bytes(run / name, content)


def has_this_format(run: Path) -> bool:
    """Whether the run was made by a version of gpt2v with the same format of runs."""
    return _read_mark(run).get("format") == _FORMAT


def _read_mark(run: Path) -> dict[str, Any]:
    """The content of the mark that gpt2v writes into its runs; empty: there is no such mark."""
    try:
        found = json.loads((run / MARK).read_text("utf-8"))
        known = isinstance(found["format"], int) and isinstance(found["gpt2v"], str)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if known else {}


def is_finished(run: Path) -> bool:
    """Whether a run has its results."""
    return (run / FINISHED).is_file()


def checkpoints_of(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    found = [path for path in (run / CHECKPOINTS).glob("step-*") if _STEP.fullmatch(path.name)]
    return sorted((p for p in found if p.is_dir()), key=lambda p: (len(p.name), p.name))


def step_of(checkpoint: Path) -> int | None:
    """The step of a checkpoint in a run, by its name; None: it is not named after a step."""
    return int(checkpoint.name[5:]) if _STEP.fullmatch(checkpoint.name) else None


def has_checkpoint(run: Path) -> bool:
    """Whether a run, or a sub-run, has a checkpoint: this may be hours of training."""
    return any(checkpoints_of(one) for one in (run, *_sub_runs(run)))


def has_shard(run: Path) -> bool:
    """Whether an evaluation has scored a part of its grids."""
    return any((run / SHARDS).glob("*.parquet"))


def has_log(run: Path) -> bool:
    """Whether a training has logged a step."""
    try:
        return any((one / METRICS).stat().st_size for one in (run, *_sub_runs(run)))
    except OSError:
        return False


def _sub_runs(run: Path) -> list[Path]:
    names = _read_mark(run).get("sub_runs", ())
    known = isinstance(names, list) and all(re.fullmatch(r"\w+", str(name)) for name in names)
    return [run / str(name) for name in names if (run / str(name)).is_dir()] if known else []


class RunKind(FolderKind):
    """Runs, in storage's rules for what may be replaced."""

    name, option = "run", "--out"

    def is_ours(self, path: Path) -> bool:
        """Whether it has our mark; other tools have files called config.yaml, too."""
        return bool(_read_mark(path))

    def is_finished(self, path: Path) -> bool:
        """Whether it has its results."""
        return is_finished(path)

    def has_value(self, path: Path) -> bool:
        """Whether it, or a sub-run, has a checkpoint, results or a part of them."""
        each = (path, *_sub_runs(path))
        return has_checkpoint(path) or any(is_finished(one) or has_shard(one) for one in each)

    def foreign(self, path: Path) -> Iterator[Path]:
        """The files in it that gpt2v did not write, sub-runs included."""
        below = _sub_runs(path)
        for one in below:
            yield from _foreign(one, [], marked=True)
        yield from _foreign(path, below, marked=self.is_ours(path))

    def remove(self, path: Path) -> None:
        """Remove it, but for foreign files and their folders."""
        others = set(self.foreign(path))
        if not others:
            remove_directory(path)
            return
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                if Path(folder, name) not in others:
                    remove_file(Path(folder, name))
            for one in (Path(folder, name) for name in folders):
                if not (one.is_symlink() or any(one.iterdir())):
                    one.rmdir()


RUNS = RunKind()


def _foreign(run: Path, below: list[Path], marked: bool) -> Iterator[Path]:
    for folder, folders, files in os.walk(run):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in [*files, *links]:
            known = marked and _is_run_file(run, (here / name).relative_to(run).as_posix())
            if not (known or is_passing(name)):
                yield here / name
        folders[:] = [n for n in folders if here / n not in below and not is_passing(n)]


def _is_run_file(run: Path, name: str) -> bool:
    """Whether gpt2v writes files with this name below a run."""
    if _OURS.fullmatch(name):
        return True
    found = _CHECKPOINT.fullmatch(name)
    if not found:
        return False
    folder, file = found.groups()
    try:
        names = read_manifest(run / folder)
    except ValueError:  # damaged
        return bool(_WEIGHTS.fullmatch(file))
    return names is not None and (file in names or file == MANIFEST)
