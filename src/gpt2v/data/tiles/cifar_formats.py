"""The formats of CIFAR-10 and CIFAR-100: parquet, from files or the hub, and the binary version."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet as pq
from PIL import Image

from gpt2v.data.rng import Ints
from gpt2v.data.tiles.image_files import Pixels, decode, fit
from gpt2v.errors import UserError, first_line

PARTS = ("test", "train")
_SIDE = 32  # of a picture in the binary version


@dataclass(frozen=True)
class Version:
    """What tells CIFAR-10 and CIFAR-100 apart."""

    hub: str
    label: str  # the parquet column
    train: tuple[str, ...]  # files of the binary version
    test: str
    names: str
    label_bytes: int  # before a picture in the binary version; the last of them is the class
    class_names: tuple[str, ...] = ()  # for parquet whose metadata has none

    @property
    def expected(self) -> str:
        """The files that a folder should hold, for messages."""
        return (
            f"train-*.parquet and test-*.parquet, or the binary version's {self.train[0]} and "
            f"{self.test}"
        )


@dataclass(frozen=True)
class Found:
    """What a reader has found."""

    where: str  # for messages
    name: str  # begins the source ids
    class_names: tuple[str, ...]
    blobs: dict[str, list[bytes]]  # each picture of each part
    labels: dict[str, Ints]
    decode: Callable[[bytes, int], Pixels]


def read_parquet(root: Path, files: dict[str, list[Path]], version: Version) -> Found:
    """The files of each part, one after another, with `img` {bytes, path} and a label.

    Raises:
        UserError: a file is missing, damaged or of another schema.
    """
    tables: dict[str, pyarrow.Table] = {}
    for part in PARTS:
        if not files[part]:
            raise UserError(f"tiles.path: {root}: no {part}-*.parquet below this folder")
        read = []
        for file in files[part]:
            try:
                table = pq.read_table(file)
            except (pyarrow.ArrowException, OSError) as error:
                raise UserError(
                    f"tiles.path: {file}: not a readable parquet file ({first_line(error)})"
                ) from None
            _check_columns(table, str(file), version)
            read.append(table.select(["img", version.label]))
        tables[part] = pyarrow.concat_tables(read, promote_options="permissive")
    names = _class_names(pq.read_schema(files["train"][0]), str(files["train"][0]), version)
    return _from_tables(str(root), root.name, names, tables, version)


def read_hub(name: str, version: Version, failed: str) -> Found:
    """A data set of the hub with the same columns; `failed` is what was tried before, if anything.

    Raises:
        UserError: it cannot be reached, or is of another schema.
    """
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of every retry
    tables: dict[str, pyarrow.Table] = {}
    names: Any = None
    try:
        for part in PARTS:
            rows = datasets.load_dataset(name, split=part)
            tables[part] = rows.with_format("arrow")[:]
            names = getattr(rows.features.get(version.label), "names", None)
    except Exception as error:  # hub, network and format errors have no common type
        raise UserError(
            f"tiles.path: {name}: {failed}cannot be read from the hub: {first_line(error)}; a "
            f"folder would need {version.expected}"
        ) from None
    for part in PARTS:
        _check_columns(tables[part], f"{name} ({part})", version)
    names = tuple(names or ()) or _fallback_names(name, version)
    return _from_tables(name, name, names, tables, version)


def _check_columns(table: pyarrow.Table, where: str, version: Version) -> None:
    if not {"img", version.label} <= set(table.column_names):
        raise UserError(
            f"tiles.path: {where}: columns are {table.column_names}, expected 'img' and "
            f"'{version.label}'"
        )
    img, label = (table.schema.field(name).type for name in ("img", version.label))
    fields = {f.name: f.type for f in img} if pyarrow.types.is_struct(img) else {}
    blob = fields.get("bytes", pyarrow.null())
    if not (pyarrow.types.is_binary(blob) or pyarrow.types.is_large_binary(blob)):
        raise UserError(f"tiles.path: {where}: column 'img' is {img}, expected a struct with bytes")
    if not pyarrow.types.is_integer(label):
        raise UserError(
            f"tiles.path: {where}: column '{version.label}' is {label}, expected integers"
        )
    for name, column in (("img", _blobs(table)), (version.label, table[version.label])):
        if column.null_count:
            raise UserError(f"tiles.path: {where}: column '{name}' has rows without a value")


def _blobs(table: pyarrow.Table) -> pyarrow.ChunkedArray:
    return pyarrow.compute.struct_field(table["img"], "bytes")


def _class_names(schema: pyarrow.Schema, where: str, version: Version) -> tuple[str, ...]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(features[version.label]["names"])
    except (KeyError, ValueError, TypeError):
        return _fallback_names(where, version)


def _fallback_names(where: str, version: Version) -> tuple[str, ...]:
    if not version.class_names:
        raise UserError(
            f"tiles.path: {where}: its metadata must name the classes of '{version.label}', as "
            f"that of {version.hub} does"
        )
    return version.class_names


def _from_tables(
    where: str,
    name: str,
    class_names: tuple[str, ...],
    tables: dict[str, pyarrow.Table],
    version: Version,
) -> Found:
    blobs = {part: _blobs(table).to_pylist() for part, table in tables.items()}
    labels = {p: t[version.label].to_numpy().astype(np.int64) for p, t in tables.items()}
    return Found(where, name, class_names, blobs, labels, decode)


def read_binary(root: Path, folders: list[Path], version: Version) -> Found:
    """The binary version, from the one folder below `root` that holds it.

    Raises:
        UserError: there are several, or a file is missing or not whole.
    """
    if folders[1:]:
        raise UserError(
            f"tiles.path: {root}: holds the binary version in {len(folders)} folders; name one, "
            f"as {folders[0]}"
        )
    folder = folders[0]
    for name in (*version.train, version.test, version.names):
        if not (folder / name).is_file():
            raise UserError(f"tiles.path: {folder}: {name} is missing from the binary version")
    try:
        lines = (folder / version.names).read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"tiles.path: {folder / version.names}: not a text file") from None
    class_names = tuple(line.strip() for line in lines if line.strip())
    blobs, labels = {}, {}
    for part, names in (("test", [version.test]), ("train", version.train)):
        records = np.concatenate([_records(folder / name, version) for name in names])
        labels[part] = records[:, version.label_bytes - 1].astype(np.int64)
        blobs[part] = [record.tobytes() for record in records[:, version.label_bytes :]]
    return Found(str(folder), folder.name, class_names, blobs, labels, _raw)


def _records(file: Path, version: Version) -> Pixels:
    """One row of label and pixel bytes for each picture of a file."""
    content = np.frombuffer(file.read_bytes(), np.uint8)
    length = version.label_bytes + 3 * _SIDE**2
    if len(content) % length:
        raise UserError(
            f"tiles.path: {file}: {len(content)} bytes are no multiple of {length}, the length of "
            "a record: the file is not whole, or another one"
        )
    return content.reshape(-1, length)


def _raw(blob: bytes, size: int) -> Pixels:
    """The binary version's pixels: red, green and blue planes, row by row."""
    planes = np.frombuffer(blob, np.uint8).reshape(3, _SIDE, _SIDE)
    return fit(Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))), size)
