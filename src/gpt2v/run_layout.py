"""What a run directory holds: our mark, and the files that gpt2v writes. Only these are removed."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2v import __version__
from gpt2v.extensions import copies
from gpt2v.storage.files import OF_SYSTEM, UNFINISHED, write_bytes, write_json
from gpt2v.storage.folders import remove_directory
from gpt2v.storage.manifest import MANIFEST, read_manifest

MARK, CONFIG, FINISHED = "run.json", "config.yaml", "results.json"
METRICS, RECORDS, CHECKPOINTS = "metrics.jsonl", "records.parquet", "checkpoints"
_FORMAT = 2  # increase it when older runs can no longer be continued
_OURS = re.compile(
    r"(run\.json|config\.yaml|results\.json|metrics\.jsonl|records\.parquet"
    r"|imports/(imports\.json|[0-9a-f]{12}-[^/]+\.py)"
    r"|examples/\d+(-\d+)?\.png|report/index\.html"
    r"|tensorboard/events\.out\.tfevents\.[^/]+|wandb/.+"
    rf"|(.*/)?\.[^/]+{re.escape(UNFINISHED)}(/.*)?)"
)
_CHECKPOINT = re.compile(rf"({CHECKPOINTS}/step-\d+)/([^/]+)")


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


def is_ours(run: Path) -> bool:
    """Whether gpt2v made this directory, so that it may be replaced: by its mark alone, since
    other tools have files called config.yaml too.
    """
    return bool(_read_mark(run))


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


def has_checkpoint(run: Path) -> bool:
    """Whether a run, or a sub-run, has a checkpoint: this may be hours of training."""
    return any(any((one / CHECKPOINTS).glob("step-*")) for one in (run, *_sub_runs(run)))


def has_value(run: Path) -> bool:
    """Whether a run, or a sub-run, has a checkpoint or results."""
    return has_checkpoint(run) or any(is_finished(one) for one in (run, *_sub_runs(run)))


def _sub_runs(run: Path) -> list[Path]:
    names = _read_mark(run).get("sub_runs", ())
    return [run / str(name) for name in names if (run / str(name)).is_dir()]


def foreign(run: Path) -> Iterator[Path]:
    """The files in a run that gpt2v did not write, sub-runs included."""
    below = _sub_runs(run)
    for one in below:
        yield from foreign(one)
    sums: dict[str, set[str] | None] = {}  # names in the manifest of each checkpoint
    for folder, folders, files in os.walk(run):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in [*files, *links]:
            if not _is_our_file(run, (here / name).relative_to(run).as_posix(), sums):
                yield here / name
        folders[:] = [name for name in folders if here / name not in below]


def _is_our_file(run: Path, name: str, sums: dict[str, set[str] | None]) -> bool:
    if _OURS.fullmatch(name) or name.rpartition("/")[2] in OF_SYSTEM:
        return True
    found = _CHECKPOINT.fullmatch(name)
    if not found:
        return False
    folder, file = found.groups()
    if folder not in sums:
        try:
            sums[folder] = set(read_manifest(run / folder) or ()) or None
        except ValueError:
            sums[folder] = None
    names = sums[folder]
    return names is None or file in {MANIFEST, *names}


def remove_run(run: Path, keep_folder: bool = False) -> None:
    """Remove what gpt2v wrote into a run, and its folder, if nothing else is in it.

    Args:
        keep_folder: it was there before the run.
    """
    others = set(foreign(run))
    if not (others or keep_folder):
        remove_directory(run)
        return
    for folder, folders, files in os.walk(run, topdown=False):
        for name in files:
            if Path(folder, name) not in others:
                Path(folder, name).unlink(missing_ok=True)
        for name in folders:
            path = Path(folder, name)
            if not (path.is_symlink() or any(path.iterdir())):
                path.rmdir()
