"""`gpt2v data export`: write all shards, then the files of the whole export, then the manifest.

An export without a manifest is unfinished. The same command, run again, continues it: it writes the
shards that have no receipt. The work files for this are in `.export/`, which is deleted at the end.
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

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
from gpt2v.extensions import copies, imported
from gpt2v.progress import progress
from gpt2v.runs import remove_directory, sync

_KIND = "export"
_CONFIG = "config.yaml"


class _Making(Config):
    """The facts, besides its configuration, that an export depends on."""

    format: str
    data_hash: str
    versions: dict[str, str]
    imports: list[str] = Field([], description="sha256 of the user's own files")

    def plain(self) -> dict[str, Any]:
        """For the manifest."""
        return self.model_dump(exclude=None if self.imports else {"imports"})


def export(
    config: AnyExport,
    to: Path,
    format_name: str,
    executor: Any = "serial",
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an export, or the rest of an unfinished one.

    Args:
        to: the folder of the export.
        executor: name of an executor, or a mapping with a name and options.
        workers: number of workers; None lets the executor choose.
        overwrite: replace an export that is in the folder.

    Returns:
        The path of the manifest.

    Raises:
        UserError: an argument is wrong, a file cannot be written, or the folder has files that will
            not be replaced.
    """
    format, execute = format_of(format_name), executor_of(executor, workers)
    plan = plan_of(config)
    for part in plan.parts:
        format.check(part)
    folder = ExportFolder(to)
    _check_folder(folder, overwrite)
    bank = bank_of(plan.tiles)
    plan.check(bank)
    hashes = [(part.name, part.data(bank).hash) for part in plan.parts]
    making = _Making(
        format=format_name,
        data_hash=hash_of(*hashes),
        versions=versions(),
        imports=sorted(sha256 for _, sha256 in imported()),
    )
    if (manifest := _manifest(folder)) and not overwrite:  # stopped between its last two steps
        if any(manifest.get(k) != v for k, v in {**making.plain(), **_plain(config)}.items()):
            raise _finished_error(folder)
        shutil.rmtree(folder.work)
        return folder.manifest
    _begin(folder, config, making, overwrite)

    work = Work(plan, format_name, str(to), making.versions)
    missing = [i for i, shard in enumerate(plan.shards) if read_receipt(folder, shard) is None]
    done = len(plan.shards) - len(missing)
    with progress("export: shards", len(plan.shards), done) as report:
        for number in execute(work, missing, workers) if missing else ():
            report(plan.shards[number].name)
    _finish(folder, plan, format, making)
    return folder.manifest


def _check_folder(folder: ExportFolder, overwrite: bool) -> None:
    """Check that the folder is new or empty, or has an export to continue or to overwrite."""
    root = folder.root
    if root.exists() and not root.is_dir():
        raise UserError(f"--to: {root}: is a file; an export needs a folder")
    if not root.is_dir():
        return
    try:
        names = {entry.name for entry in root.iterdir()}
    except OSError as error:
        raise UserError(f"--to: {root}: cannot be read: {error.strerror}") from None
    if _manifest(folder):
        if not overwrite and WORK not in names:
            raise _finished_error(folder)
    elif not (names <= {WORK} or _begun(folder)):
        raise UserError(f"--to: {root}: is not empty and is no export; it will not be overwritten")


def _manifest(folder: ExportFolder) -> dict[str, Any]:
    """The content of the manifest; empty if there is no finished export."""
    try:
        content = json.loads(folder.manifest.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("kind") == _KIND else {}


def _finished_error(folder: ExportFolder) -> UserError:
    return UserError(
        f"--to: {folder.root}: already holds a finished export; choose another, or --overwrite it"
    )


def _plain(config: AnyExport) -> dict[str, Any]:
    return {"config": config.model_dump()}


def _begun(folder: ExportFolder) -> bool:
    return (folder.work / _CONFIG).is_file()


def _check_same(folder: ExportFolder, config: AnyExport, making: _Making) -> None:
    """Check that the unfinished export has the same configuration, data and versions."""
    for name, current in ((_CONFIG, config), ("making.yaml", making)):
        if (folder.work / name).is_file() and (changed := difference(folder.work / name, current)):
            raise UserError(
                f"--to: {folder.root}: holds an export of something else: {changed}; choose "
                "another, or --overwrite it"
            )


def _begin(folder: ExportFolder, config: AnyExport, making: _Making, overwrite: bool) -> None:
    """Make the folder and write the work files, or check that an unfinished export is the same."""
    try:
        if _manifest(folder) or (_begun(folder) and overwrite):
            remove_directory(folder.root)
        elif _begun(folder):
            _check_same(folder, config, making)
        folder.prepare()
    except OSError as error:
        raise UserError(f"--to: {folder.root}: cannot be written: {error.strerror}") from None
    if not _begun(folder):
        for name, written in (("making.yaml", making), (_CONFIG, config)):
            folder.write([(f"{WORK}/{name}", [dump(written).encode()])])


def _finish(folder: ExportFolder, plan: Plan, format: Format, making: _Making) -> None:
    """Write the files of the whole export, then the manifest, and delete the work files."""
    receipts: list[dict[str, Any]] = []
    for shard in plan.shards:
        receipt = read_receipt(folder, shard)
        if receipt is None:
            raise UserError(f"--executor: shard {shard.name} was not written; rerun to continue")
        receipts.append(receipt)

    def lines(which: int) -> Iterator[str]:
        for shard in plan.shards:
            if shard.part == which:
                with (folder.root / folder.lines(shard.name)).open(encoding="utf-8") as file:
                    yield from (line.rstrip("\n") for line in file)

    pairs = list(zip(plan.shards, receipts, strict=True))
    tallies = [
        pooled(tally_of(receipt) for shard, receipt in pairs if shard.part == which)
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
        **making.plain(),
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
    """The command that makes the same export again, run in the folder with its config.yaml."""
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
