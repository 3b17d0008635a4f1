"""Readers of CIFAR-10 and CIFAR-100: parquet from files or the hub, and the binary version."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet as pq
from PIL import Image

from gpt2v.data.data_files import some_of
from gpt2v.data.rng import Ints
from gpt2v.data.tiles.cifar_classes import Names, agreed_names, names_of_lines, relabelled
from gpt2v.data.tiles.decoding import decode, fit
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.errors import UserError, first_line
from gpt2v.hub import HubError, load_dataset
from gpt2v.messages import say_from_first
from gpt2v.progress import waited

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
        files: files of each part, in order; at least one.
        version: CIFAR-10 or CIFAR-100.

    Raises:
        UserError: a file is damaged, has another schema or other classes.
    """
    read: dict[str, list[_File]] = {}
    for part in PARTS:
        read[part] = []
        for file in files[part]:
            try:
                with file.open("rb") as content:  # pyarrow takes only names in UTF-8
                    table = waited(f"tiles: reading {file}", partial(pq.read_table, content))
            except (pyarrow.ArrowException, OSError) as error:
                raise UserError(
                    f"tiles.path: {file}: not a readable parquet file ({first_line(error)})"
                ) from None
            names = _class_names(table.schema, str(file), version)
            read[part].append(_checked(table, names, str(file), version))
    return _from_files(str(root), root.name, read, version)


def read_hub(name: str, version: Version, failed: str) -> CifarFiles:
    """Read a data set with the same columns from the hub.

    Args:
        name: hub id.
        version: CIFAR-10 or CIFAR-100.
        failed: for error messages: what was tried before, or empty.

    Raises:
        UserError: the data set cannot be read or has another schema.
    """
    read: dict[str, tuple[pyarrow.Table, Names]] = {}
    try:
        for part in PARTS:
            rows = load_dataset(name, split=part)
            names = tuple(getattr(rows.features.get(version.label), "names", None) or ())
            every = partial(rows.with_format("arrow").__getitem__, slice(None))
            read[part] = waited(f"tiles: reading {name} ({part})", every), names
    except HubError as error:
        raise UserError(
            f"tiles.path: {name}: {failed}{error.reason}; a folder needs {version.expected}"
        ) from None
    except Exception as error:  # hub, network and format errors have no common type
        raise UserError(
            f"tiles.path: {name}: {failed}cannot be read from the hub: {first_line(error)}; a "
            f"folder needs {version.expected}"
        ) from None
    files = {
        part: [_checked(table, names, f"{name} ({part})", version)]
        for part, (table, names) in read.items()
    }
    return _from_files(name, name, files, version)


@dataclass(frozen=True)
class _File:
    """The pictures of one file, or of one part of a hub data set."""

    where: str  # for error messages
    names: Names  # its own class names
    blobs: list[bytes]
    labels: Ints  # (n_pictures,) numbers of its own class names


def _checked(table: pyarrow.Table, names: Names, where: str, version: Version) -> _File:
    """The pictures of a table.

    Raises:
        UserError: a column is missing, has another type or has missing values.
    """
    if not {"img", version.label} <= set(table.column_names):
        raise UserError(
            f"tiles.path: {where}: columns are {table.column_names}, expected 'img' and "
            f"'{version.label}'"
        )
    img, label = (table.schema.field(name).type for name in ("img", version.label))
    fields = {f.name: f.type for f in img} if pyarrow.types.is_struct(img) else {}
    blob = fields.get("bytes", pyarrow.null())
    types = pyarrow.types
    if not (types.is_binary(blob) or types.is_large_binary(blob) or types.is_binary_view(blob)):
        raise UserError(f"tiles.path: {where}: column 'img' is {img}, expected a struct with bytes")
    if not pyarrow.types.is_integer(label):
        raise UserError(
            f"tiles.path: {where}: column '{version.label}' is {label}, expected integers"
        )
    for name, column in (("img", _blobs(table)), (version.label, table[version.label])):
        if column.null_count:
            raise UserError(f"tiles.path: {where}: column '{name}' has rows without a value")
    labels = table[version.label].to_numpy().astype(np.int64)
    return _File(where, names, _blobs(table).to_pylist(), labels)


def _blobs(table: pyarrow.Table) -> pyarrow.ChunkedArray:
    """Bytes of each image file."""
    return pyarrow.compute.struct_field(table["img"], "bytes")


def _class_names(schema: pyarrow.Schema, where: str, version: Version) -> Names:
    """Class names from the metadata of a parquet file; empty: it names none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = tuple(features[version.label]["names"])
    except (KeyError, ValueError, TypeError):
        return ()
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"tiles.path: {where}: the class names in its metadata are not text")
    return names


def _from_files(
    where: str, name: str, files: Mapping[str, Sequence[_File]], version: Version
) -> CifarFiles:
    """The pictures of all files; their labels number the classes of the first training file."""
    everyone = [file for part in reversed(PARTS) for file in files[part]]
    for file in everyone:
        if not (file.names or version.class_names):
            raise UserError(
                f"tiles.path: {file.where}: its metadata must name the classes of "
                f"'{version.label}', as that of {version.hub} does"
            )
    own_names = {file.where: file.names or version.class_names for file in everyone}
    for part, own in files.items():
        check_labels(where, part, [(file.labels, len(own_names[file.where])) for file in own])
    names = agreed_names([(file.where, file.names) for file in everyone], version.class_names)
    others = [file.where for file in everyone if own_names[file.where] != names]
    if others:
        say_from_first(
            f"tiles.path: {some_of(others)}: numbers the classes in another order than "
            f"{everyone[0].where}; labels are matched by the names of the classes"
        )
    return CifarFiles(
        where,
        name,
        names,
        {part: [blob for file in own for blob in file.blobs] for part, own in files.items()},
        {
            part: np.concatenate([relabelled(f.labels, own_names[f.where], names) for f in own])
            for part, own in files.items()
        },
        decode,
    )


def check_labels(where: str, part: str, labelled: Sequence[tuple[Ints, int]]) -> None:
    """Check that a part has pictures, and labels in range.

    Args:
        labelled: labels (n,) and number of classes of each file of the part.

    Raises:
        UserError: it has none, or a label is out of range.
    """
    before = 0  # pictures in the files before
    for labels, n_classes in labelled:
        wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
        if len(wrong):
            raise UserError(
                f"tiles.path: {where}: labels must lie in 0..{n_classes - 1}, but picture "
                f"{before + wrong[0]} of the {part} files has {labels[wrong[0]]}"
            )
        before += len(labels)
    if not before:
        raise UserError(f"tiles.path: {where}: the {part} files hold no pictures")


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
        lines = (folder / version.names).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"tiles.path: {folder / version.names}: not a text file") from None
    class_names = names_of_lines(lines, str(folder / version.names))
    if class_names != version.class_names and set(class_names) == set(version.class_names):
        say_from_first(
            f"tiles.path: {folder / version.names}: names the classes in another order than "
            f"{version.hub}; label 0 is '{class_names[0]}' here, '{version.class_names[0]}' there"
        )
    blobs, labels = {}, {}
    for part, names in (("test", [version.test]), ("train", version.train)):
        records = np.concatenate([_records(folder / name, version) for name in names])
        labels[part] = records[:, version.label_bytes - 1].astype(np.int64)
        blobs[part] = [record.tobytes() for record in records[:, version.label_bytes :]]
        check_labels(str(folder), part, [(labels[part], len(class_names))])
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
