"""Tiles from CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html).

Both are read as parquet in the schema of `uoft-cs/cifar10` and `uoft-cs/cifar100`, from a folder or
from the Hugging Face hub, or as the binary version. The Python version is not supported, because it
is pickled.

A tenth of the training tiles, chosen by a hash of each tile, is the validation split. A training
tile that also occurs in the test files is left out. The hash is over the image file (PNG) in
parquet and over the raw pixels in the binary version. So both formats agree in pixels, labels and
test tiles, but have different training tiles in the validation split.
"""

from pathlib import Path

import numpy as np

from gpt2v.config.pictures import TilesConfig
from gpt2v.data import rng
from gpt2v.data.rng import Ints
from gpt2v.data.tiles import sprites
from gpt2v.data.tiles.bank import SPLITS, VAL_SHARE, TileBank, sorted_by_class
from gpt2v.data.tiles.cifar_formats import (
    PARTS,
    CifarFiles,
    Version,
    read_binary,
    read_hub,
    read_parquet,
)
from gpt2v.data.tiles.image_files import Decoded, Pixels, decode_all, digest, refuse_or_skip
from gpt2v.errors import UserError, first_line
from gpt2v.hub import looks_local
from gpt2v.registry import TILE_SOURCES

_VERSIONS = {
    "cifar10": Version(
        hub="uoft-cs/cifar10",
        label="label",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
        class_names=sprites.CLASS_NAMES,  # the same ten, in CIFAR-10's order
    ),
    "cifar100": Version(
        hub="uoft-cs/cifar100",
        label="fine_label",
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


@TILE_SOURCES.register("cifar100")
@TILE_SOURCES.register("cifar10")
def cifar_bank(config: TilesConfig) -> TileBank:
    """The tiles of CIFAR-10 or CIFAR-100, from a folder or from the hub.

    Raises:
        UserError: there is no complete copy in one of the formats. Also when a split is drawn, if
            it has unreadable tiles.
    """
    data = _read(config, _VERSIONS[config.source])
    for part in PARTS:
        _check_labels(data, part)
    parts = [(part, i) for part in PARTS for i in range(len(data.blobs[part]))]
    blobs = [blob for part in PARTS for blob in data.blobs[part]]
    labels = np.concatenate([data.labels[part] for part in PARTS])
    sources = [f"{data.name}/{part}/{i}" for part, i in parts]

    def decoded(which: Ints, split: str = "", with_pixels: bool = True) -> Decoded:
        names = [sources[i] for i in which.tolist()]
        label = f"tiles: {config.source} {split}".rstrip()
        return decode_all(
            lambda i: blobs[which[i]],
            names,
            config.size,
            label,
            data.decode,
            with_pixels=with_pixels,
        )

    def pixels(which: Ints, split: str) -> Pixels:
        own = decoded(which, split)
        refuse_or_skip(own.faults, len(which), data.where, "refuse")
        assert own.pixels is not None
        return own.pixels

    readable = np.ones(len(blobs), bool)
    if config.corrupt == "skip":  # decode all now, to know which are readable
        tried = decoded(np.arange(len(blobs)), with_pixels=False)
        refuse_or_skip(tried.faults, len(blobs), data.where, "skip")
        readable = tried.readable
    digests = np.array([digest(blob) for blob in blobs], np.uint64)
    split = np.where(rng.unit(digests) < VAL_SHARE, SPLITS.index("val"), SPLITS.index("train"))
    is_test = np.arange(len(blobs)) < len(data.blobs["test"])
    split[is_test] = SPLITS.index("test")
    usable = readable & (is_test | ~np.isin(digests, digests[is_test]))
    splits = {}
    for number, name in enumerate(SPLITS):
        own = np.flatnonzero(usable & (split == number))
        splits[name] = sorted_by_class(
            labels[own],
            len(data.class_names),
            [sources[i] for i in own.tolist()],
            lambda order, own=own, name=name: pixels(own[order], name),  # type: ignore[misc]
            digests[own],
        )
    return TileBank(config.source, data.class_names, config.size, splits)


def _check_labels(data: CifarFiles, part: str) -> None:
    """Raise UserError if a part has no pictures or a label out of range."""
    labels, last = data.labels[part], len(data.class_names) - 1
    if not len(labels):
        raise UserError(f"tiles.path: {data.where}: the {part} files hold no pictures")
    wrong = np.flatnonzero((labels < 0) | (labels > last))
    if len(wrong):
        raise UserError(
            f"tiles.path: {data.where}: labels must lie in 0..{last}, but picture {wrong[0]} of "
            f"the {part} files has {labels[wrong[0]]}"
        )


def _read(config: TilesConfig, version: Version) -> CifarFiles:
    """Read the data in the format of the files at the configured path."""
    if config.path is None:
        return read_hub(version.hub, version, "")
    root = Path(config.path).expanduser()
    if not root.is_dir():
        if root.exists() or looks_local(config.path) or config.path.count("/") != 1:
            raise UserError(
                f"tiles.path: {root}: no such folder; expected one with {version.expected}, or a "
                f"hub id such as {version.hub}"
            )
        return read_hub(config.path, version, "no such folder here, and ")
    try:
        files = sorted(file for file in root.rglob("*") if file.is_file())
        parquet = {p: [f for f in files if f.match(f"{p}-*.parquet")] for p in PARTS}
        if any(parquet.values()):
            return read_parquet(root, parquet, version)
        binary = {f.parent for f in files if f.name in (*version.train, version.test)}
        if binary:
            return read_binary(root, sorted(binary), version)
    except OSError as error:
        raise UserError(
            f"tiles.path: {error.filename or root}: cannot be read: {first_line(error)}"
        ) from None
    raise UserError(
        f"tiles.path: {root}: expected {version.expected} in it; the Python version is not "
        "supported"
    )
