"""Readers of CIFAR-10 and CIFAR-100: parquet from files or the hub, and the binary version."""

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
_SIDE = 32  # side of a picture in the binary version, in pixels


@dataclass(frozen=True)
class Version:
    """The differences between CIFAR-10 and CIFAR-100."""

    hub: str  # id of the data set on the hub
    label: str  # the parquet column with the class
    train: tuple[str, ...]  # training files of the binary version
    test: str  # test file of the binary version
    names: str  # file with the class names of the binary version
    label_bytes: int  # before each picture in the binary version; the last one is the class
    class_names: tuple[str, ...] = ()  # for parquet without class names in its metadata

    @property
    def expected(self) -> str:
        """The files that a folder should hold, for error messages."""
        return (
            f"train-*.parquet and test-*.parquet, or the binary version's {self.train[0]} and "
            f"{self.test}"
        )


@dataclass(frozen=True)
class CifarFiles:
    """What a reader returns: all pictures, not decoded yet, with their classes."""

    where: str  # for error messages
    name: str  # the source of each tile begins with it
    class_names: tuple[str, ...]
    blobs: dict[str, list[bytes]]  # part -> bytes of each picture
    labels: dict[str, Ints]  # part -> class of each picture, (n_pictures,)
    decode: Callable[[bytes, int], Pixels]  # bytes and size in pixels -> (size, size, 3)


def read_parquet(root: Path, files: dict[str, list[Path]], version: Version) -> CifarFiles:
    """Read parquet files with the columns `img` {bytes, path} and a label.

    Args:
        root: the folder that the files are in.
        files: files of each part, in order.
        version: CIFAR-10 or CIFAR-100.

    Raises:
        UserError: a file is missing, is damaged or has another schema.
    """
    tables: dict[str, pyarrow.Table] = {}
    for part in PARTS:
        if not files[part]:
            raise UserError(f"tiles.path: {root}: no {part}-*.parquet below this folder")
        parts = []
        for file in files[part]:
            try:
                table = pq.read_table(file)
            except (pyarrow.ArrowException, OSError) as error:
                raise UserError(
                    f"tiles.path: {file}: not a readable parquet file ({first_line(error)})"
                ) from None
            _check_columns(table, str(file), version)
            parts.append(table.select(["img", version.label]))
        tables[part] = pyarrow.concat_tables(parts, promote_options="permissive")
    names = _class_names(pq.read_schema(files["train"][0]), str(files["train"][0]), version)
    return _from_tables(str(root), root.name, names, tables, version)


def read_hub(name: str, version: Version, failed: str) -> CifarFiles:
    """Read a data set with the same columns from the hub.

    Args:
        name: hub id.
        version: CIFAR-10 or CIFAR-100.
        failed: for error messages: what was tried before, or empty.

    Raises:
        UserError: the data set cannot be read or has another schema.
    """
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints every retry
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
            f"folder needs {version.expected}"
        ) from None
    for part in PARTS:
        _check_columns(tables[part], f"{name} ({part})", version)
    names = tuple(names or ()) or _fallback_names(name, version)
    return _from_tables(name, name, names, tables, version)


def _check_columns(table: pyarrow.Table, where: str, version: Version) -> None:
    """Raise UserError if a column is missing, has another type or has missing values."""
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
    """Bytes of each image file."""
    return pyarrow.compute.struct_field(table["img"], "bytes")


def _class_names(schema: pyarrow.Schema, where: str, version: Version) -> tuple[str, ...]:
    """Class names from the metadata of a parquet file, or else those of `version`."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(features[version.label]["names"])
    except (KeyError, ValueError, TypeError):
        return _fallback_names(where, version)


def _fallback_names(where: str, version: Version) -> tuple[str, ...]:
    """The class names of `version`; UserError if it has none."""
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
) -> CifarFiles:
    blobs = {part: _blobs(table).to_pylist() for part, table in tables.items()}
    labels = {p: t[version.label].to_numpy().astype(np.int64) for p, t in tables.items()}
    return CifarFiles(where, name, class_names, blobs, labels, decode)


def read_binary(root: Path, folders: list[Path], version: Version) -> CifarFiles:
    """Read the binary version.

    Args:
        root: the configured folder, for error messages.
        folders: the folders in it that hold files of the binary version; must be one.
        version: CIFAR-10 or CIFAR-100.

    Raises:
        UserError: several folders, or a file is missing or incomplete.
    """
    if folders[1:]:
        raise UserError(
            f"tiles.path: {root}: holds the binary version in {len(folders)} folders; name one, "
            f"e.g. {folders[0]}"
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
    return CifarFiles(str(folder), folder.name, class_names, blobs, labels, _raw)


def _records(file: Path, version: Version) -> Pixels:
    """Label and pixel bytes of each picture of a file, (n_pictures, n_bytes)."""
    content = np.frombuffer(file.read_bytes(), np.uint8)
    length = version.label_bytes + 3 * _SIDE**2
    if len(content) % length:
        raise UserError(
            f"tiles.path: {file}: {len(content)} bytes is not a multiple of {length}, the length "
            "of a record: the file is incomplete or has another format"
        )
    return content.reshape(-1, length)


def _raw(blob: bytes, size: int) -> Pixels:
    """Decode a picture of the binary version: red, green and blue planes, row by row."""
    planes = np.frombuffer(blob, np.uint8).reshape(3, _SIDE, _SIDE)
    return fit(Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))), size)
