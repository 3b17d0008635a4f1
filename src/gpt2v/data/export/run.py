"""`gpt2v data export`: write all shards, then the files of the whole export, then the manifest.

An export without a manifest is unfinished. The same command, run again, continues it: it writes the
shards that have no receipt. An export that is replaced is kept until the new one is finished.
"""

import json
import secrets
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from gpt2v.config.base import Config, hash_of
from gpt2v.config.load import difference, dump
from gpt2v.config.measuring import ExportConfig, SuiteExportConfig
from gpt2v.data.export.base import Format, Gathered
from gpt2v.data.export.files import CONFIG, EXPORTS, KIND, MAKING, WORK, Entry, ExportFolder
from gpt2v.data.export.formats import format_of
from gpt2v.data.export.plan import AnyExport, Plan, plan_of
from gpt2v.data.export.shards import ExportJob, bank_of, read_receipt, tally_of, versions
from gpt2v.data.grids.baselines import pooled
from gpt2v.errors import UserError, within
from gpt2v.execute.executors import executor_of
from gpt2v.execute.job import do_all
from gpt2v.extensions import copies, imported
from gpt2v.storage.disk import sync
from gpt2v.storage.files import writing
from gpt2v.storage.folders import remove_directory, remove_unfinished
from gpt2v.storage.ownership import owned


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
    with within("--to: "):
        format.check_path(to)
    with ExitStack() as stack:
        with within("--to: "):
            stack.enter_context(owned(to))
            EXPORTS.restore(to)
            remove_unfinished(to)
        folder = ExportFolder(to, secrets.token_hex(4))
        finished, replaces = folder.read_manifest(), _check_folder(folder, overwrite)
        bank = bank_of(plan.tiles)
        plan.check(bank)
        hashes = [(part.name, part.data(bank).hash) for part in plan.parts]
        making = _Making(
            format=format_name,
            data_hash=hash_of(*hashes),
            versions=versions(),
            imports=sorted(sha256 for _, sha256 in imported()),
        )
        if finished and not replaces:  # stopped before its last step
            if any(finished.get(k) != v for k, v in {**making.plain(), **_plain(config)}.items()):
                raise _finished_error(folder)
            _clean_up(folder)
        else:
            if folder.is_begun() and not replaces:
                _check_same(folder, config, making)
            with EXPORTS.replacing(to, there=replaces):
                _begin(folder, config, making)
                job = ExportJob(plan, format_name, str(to), making.versions, folder.attempt)
                do_all(job, "export: shards", lambda job, pieces: execute(job, pieces, workers))
                _finish(folder, plan, format, making)
                _clean_up(folder)
    return folder.manifest


def _check_folder(folder: ExportFolder, overwrite: bool) -> bool:
    """Check that the folder is new or empty, or has an export to continue or to replace.

    Returns:
        whether it has an export to replace.
    """
    root = folder.root
    if not root.exists():
        return False
    with within("--to: "), writing(root, "read"):
        ours = EXPORTS.is_ours(root)
        if root.is_dir() and not ours and next(folder.foreign(), None) is None:
            return False
        if not ours or overwrite:
            EXPORTS.check_replaceable(root, overwrite, "")
            return True
    if EXPORTS.is_finished(root) and not folder.work.exists():
        raise _finished_error(folder)
    return False


def _finished_error(folder: ExportFolder) -> UserError:
    return UserError(
        f"--to: {folder.root}: already holds a finished export; choose another, or --overwrite it"
    )


def _plain(config: AnyExport) -> dict[str, Any]:
    return {"config": config.model_dump()}


def _check_same(folder: ExportFolder, config: AnyExport, making: _Making) -> None:
    """Check that the unfinished export has the same configuration, data and versions."""
    for name, current in ((CONFIG, config), (MAKING, making)):
        if changed := difference(folder.work / name, current):
            raise UserError(
                f"--to: {folder.root}: holds an export of something else: {changed}; choose "
                "another, or --overwrite it"
            )


def _begin(folder: ExportFolder, config: AnyExport, making: _Making) -> None:
    """Make the folder and write the work files, if they are not there."""
    with within("--to: "):
        folder.prepare()
    if not folder.is_begun():
        for name, written in ((MAKING, making), (CONFIG, config)):
            folder.write([(f"{WORK}/{name}", [dump(written).encode()])])


def _finish(folder: ExportFolder, plan: Plan, format: Format, making: _Making) -> None:
    """Write the files of the whole export, then the manifest."""
    receipts = [read_receipt(folder, shard) or {} for shard in plan.shards]

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
        bank,
        command=_command(plan.config, making.format),
        data_hash=making.data_hash,
        tallies=tuple(tallies),
        examples=tuple(examples),
        lines=lines,
    )
    entries: dict[str, Entry] = {}
    for receipt in receipts:
        entries |= receipt["files"]
    last = [(name, [content]) for name, content in copies().items()]
    if isinstance(plan.config, ExportConfig):
        last.append((CONFIG, [dump(plan.config).encode()]))
    entries |= folder.write_last(chain(format.finish(gathered), last))
    manifest = {
        "kind": KIND,
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


def _clean_up(folder: ExportFolder) -> None:
    """Remove the work files of a finished export."""
    with within("--to: "), writing(folder.root):
        remove_directory(folder.work)
        sync(folder.root)


def _command(config: AnyExport, format_name: str) -> str:
    """The command that makes the same export again, run in the folder with its config.yaml."""
    words = [CONFIG]
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
