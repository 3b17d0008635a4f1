"""`gpt2v data export`: plan, shards, the files of the whole, and the manifest last of all.

Until the manifest is there an export is unfinished, and the same command goes on with the shards
that have no receipt yet. What it needs for that lies in `.export/`, which is gone afterwards.
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2v.config.base import Config, hash_of
from gpt2v.config.load import difference, dump
from gpt2v.config.measuring import ExportConfig, SuiteExportConfig
from gpt2v.data.export.base import Format, Gathered
from gpt2v.data.export.executors import executor_of
from gpt2v.data.export.files import WORK, Entry, ExportFolder
from gpt2v.data.export.formats import format_of
from gpt2v.data.export.plan import AnyExport, Plan, plan_of
from gpt2v.data.export.shards import Work, bank_of, read_receipt, tally_of, versions
from gpt2v.data.grids.baselines import pooled
from gpt2v.errors import UserError
from gpt2v.extensions import copies
from gpt2v.progress import progress
from gpt2v.runs import remove_directory, sync

_KIND = "export"
_CONFIG = "config.yaml"


class _Making(Config):
    """What an export depends on beside its configuration."""

    format: str
    data_hash: str
    versions: dict[str, str]


def export(
    config: AnyExport,
    to: Path,
    format_name: str,
    executor: Any = "serial",
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an export, or the rest of one; returns its manifest.

    Raises:
        UserError: an argument is wrong, or `to` holds something that may not be replaced.
    """
    format, work_with = format_of(format_name), executor_of(executor, workers)
    plan = plan_of(config)
    for part in plan.parts:
        format.check(part)
    folder = ExportFolder(to)
    _check_folder(folder, overwrite)
    bank = bank_of(plan.tiles)
    plan.check(bank)
    hashes = [(part.name, part.data(bank).hash) for part in plan.parts]
    making = _Making(format=format_name, data_hash=hash_of(*hashes), versions=versions())
    if (found := _finished(folder)) and not overwrite:  # it was stopped between its last two steps
        if any(found[k] != v for k, v in {**making.model_dump(), **_plain(config)}.items()):
            raise _is_finished(folder)
        shutil.rmtree(folder.work)
        return folder.manifest
    _begin(folder, config, making, overwrite)

    work = Work(plan, format_name, str(to), making.versions)
    missing = [i for i, shard in enumerate(plan.shards) if read_receipt(folder, shard) is None]
    done = len(plan.shards) - len(missing)
    with progress("export: shards", len(plan.shards), done) as report:
        for number in work_with(work, missing, workers) if missing else ():
            report(plan.shards[number].name)
    _finish(folder, plan, format, making)
    return folder.manifest


def _check_folder(folder: ExportFolder, overwrite: bool) -> None:
    """Refuse a folder that holds anything but an unfinished export, or one to be overwritten."""
    root = folder.root
    if root.exists() and not root.is_dir():
        raise UserError(f"--to: {root}: is a file; an export needs a folder")
    if not root.is_dir():
        return
    try:
        names = {entry.name for entry in root.iterdir()}
    except OSError as error:
        raise UserError(f"--to: {root}: cannot be read: {error.strerror}") from None
    if _finished(folder):
        if not overwrite and WORK not in names:
            raise _is_finished(folder)
    elif not (names <= {WORK} or _begun(folder)):
        raise UserError(f"--to: {root}: is not empty and is no export; it will not be overwritten")


def _finished(folder: ExportFolder) -> dict[str, Any]:
    """The manifest of a finished export; empty where there is none."""
    try:
        found = json.loads(folder.manifest.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("kind") == _KIND else {}


def _is_finished(folder: ExportFolder) -> UserError:
    return UserError(
        f"--to: {folder.root}: already holds a finished export; choose another, or --overwrite it"
    )


def _plain(config: AnyExport) -> dict[str, Any]:
    return {"config": config.model_dump()}


def _begun(folder: ExportFolder) -> bool:
    return (folder.work / _CONFIG).is_file()


def _same(folder: ExportFolder, config: AnyExport, making: _Making) -> None:
    """Refuse to go on with an export that was begun from something else."""
    for name, now in ((_CONFIG, config), ("making.yaml", making)):
        if (folder.work / name).is_file() and (changed := difference(folder.work / name, now)):
            raise UserError(
                f"--to: {folder.root}: holds an export of something else: {changed}; choose "
                "another, or --overwrite it"
            )


def _begin(folder: ExportFolder, config: AnyExport, making: _Making, overwrite: bool) -> None:
    """Make the folder and say in it what is written there, or check that it is the same."""
    try:
        if _finished(folder) or (_begun(folder) and overwrite):
            remove_directory(folder.root)
        elif _begun(folder):
            _same(folder, config, making)
        folder.prepare()
    except OSError as error:
        raise UserError(f"--to: {folder.root}: cannot be written: {error.strerror}") from None
    if not _begun(folder):
        for name, written in (("making.yaml", making), (_CONFIG, config)):
            folder.write([(f"{WORK}/{name}", [dump(written).encode()])])


def _finish(folder: ExportFolder, plan: Plan, format: Format, making: _Making) -> None:
    """Write the files of the whole, then the manifest, then clear the notes away."""
    receipts: list[dict[str, Any]] = []
    for shard in plan.shards:
        receipt = read_receipt(folder, shard)
        assert receipt is not None, f"shard {shard.name} is not whole"
        receipts.append(receipt)

    def lines(which: int) -> Iterator[str]:
        for shard in plan.shards:
            if shard.part == which:
                with (folder.root / folder.lines(shard.name)).open(encoding="utf-8") as file:
                    yield from (line.rstrip("\n") for line in file)

    both = list(zip(plan.shards, receipts, strict=True))
    tallies = [
        pooled(tally_of(receipt) for shard, receipt in both if shard.part == which)
        for which in range(len(plan.parts))
    ]
    bank = bank_of(plan.tiles)
    examples = [part.data(bank)[0] for part in plan.parts]
    gathered = Gathered(
        plan,
        command=_command(plan.config, making.format),
        data_hash=making.data_hash,
        tallies=tuple(tallies),
        examples=tuple(examples),
        lines=lines,
    )
    entries: dict[str, Entry] = {}
    for receipt in receipts:
        entries |= receipt["files"]
    entries |= folder.write(format.finish(gathered))
    entries |= folder.write((name, [content]) for name, content in copies().items())
    if isinstance(plan.config, ExportConfig):
        entries |= folder.write([(_CONFIG, [dump(plan.config).encode()])])
    manifest = {
        "kind": _KIND,
        **making.model_dump(),
        **_plain(plan.config),
        "parts": [
            {"name": part.name, "split": part.split, "n_images": part.n_images}
            | {"instructions": {k: {"n_questions": n, **b._asdict()} for k, (n, b) in t.items()}}
            for part, t in zip(plan.parts, tallies, strict=True)
        ],
        "files": entries,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    folder.write([(folder.manifest.name, [text.encode()])])
    shutil.rmtree(folder.work)
    sync(folder.root)


def _command(config: AnyExport, format_name: str) -> str:
    """The command that makes the same export, in the folder of this one's config.yaml."""
    words = [_CONFIG]
    if isinstance(config, SuiteExportConfig):
        words = [config.suite, *_options("tiles", config.tiles.model_dump(exclude_defaults=True))]
        default = SuiteExportConfig.model_fields["shard_size"].default
        if config.shard_size != default:
            words += ["--shard_size", str(config.shard_size)]
    return shlex.join(["gpt2v", "data", "export", *words, "--to", "DIR", "--format", format_name])


def _options(prefix: str, values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _options(f"{prefix}.{name}", value)
        else:
            yield from (f"--{prefix}.{name}", str(value))
