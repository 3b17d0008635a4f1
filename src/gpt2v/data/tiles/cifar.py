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
from numpy.typing import NDArray

from gpt2v.config.pictures import TilesConfig
from gpt2v.data import rng
from gpt2v.data.data_files import (
    OTHER_FORMAT,
    LeftOut,
    by_split,
    check_different,
    check_shards,
    described,
    list_files,
    names_below,
    some_of,
)
from gpt2v.data.rng import U64, Ints
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
from gpt2v.data.tiles.decoding import recipe_of
from gpt2v.data.tiles.image_files import Decoded, Pixels, decode_all, digest, refuse_or_skip
from gpt2v.data.tiles.kept import keeping
from gpt2v.errors import UserError, first_line, within
from gpt2v.hub import looks_local
from gpt2v.messages import say_from_first
from gpt2v.paths import expanded

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


def cifar_bank(config: TilesConfig) -> TileBank:
    """The tiles of CIFAR-10 or CIFAR-100, from a folder or from the hub.

    Raises:
        UserError: there is no complete copy in one of the formats. Also when a split is drawn, if
            it has unreadable tiles.
    """
    data = _read(config, _VERSIONS[config.source])
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
    _say_copies(data.where, digests, labels, is_test)
    usable = readable & (is_test | ~np.isin(digests, digests[is_test]))
    splits = {}
    for number, name in enumerate(SPLITS):
        own = np.flatnonzero(usable & (split == number))
        tiles = sorted_by_class(
            labels[own],
            len(data.class_names),
            [sources[i] for i in own.tolist()],
            lambda order, own=own, name=name: pixels(own[order], name),  # type: ignore[misc]
            digests[own],
            recipe_of(config.size),
        )
        splits[name] = keeping(tiles, config.size)
    return TileBank(config.source, data.class_names, config.size, splits)


def _say_copies(where: str, digests: U64, labels: Ints, is_test: NDArray[np.bool_]) -> None:
    """Say how many training pictures are also in the test files, or in the files several times.

    Args:
        digests: (n_pictures,) hash of each picture.
        labels: (n_pictures,) class of each picture.
        is_test: (n_pictures,) whether it is in the test files.
    """
    train = np.stack([digests[~is_test], labels[~is_test].astype(np.uint64)], axis=1)
    in_test = np.isin(train[:, 0], digests[is_test])
    train = train[~in_test]
    n_pictures, n_pairs = len(np.unique(train[:, 0])), len(np.unique(train, axis=0))
    found = {
        "are left out, as they are in the test files": int(in_test.sum()),
        "are copies of others": len(train) - n_pictures,
        "are in a second class": n_pairs - n_pictures,
    }
    if any(found.values()):
        told = ", ".join(f"{n} {what}" for what, n in found.items() if n)
        say_from_first(f"tiles.path: {where}: of {len(in_test)} training pictures, {told}")


def _read(config: TilesConfig, version: Version) -> CifarFiles:
    """Read the data in the format of the files at the configured path."""
    if config.path is None:
        return read_hub(version.hub, version, "")
    root = expanded(config.path)
    if not root.is_dir():
        if root.exists() or looks_local(config.path) or config.path.count("/") != 1:
            raise UserError(
                f"tiles.path: {root}: no such folder; expected one with {version.expected}, or a "
                f"hub id such as {version.hub}"
            )
        return read_hub(config.path, version, "no such folder here, and ")
    try:
        with within("tiles.path: "):
            parquet, binary, left_out = _chosen(root, version)
        if any(parquet.values()):
            data = read_parquet(root, parquet, version)
        else:
            data = read_binary(root, binary, version)
    except OSError as error:
        raise UserError(
            f"tiles.path: {error.filename or root}: cannot be read: {first_line(error)}"
        ) from None
    if others := described(root, left_out):
        names = names_below(root, [file for own in parquet.values() for file in own] or binary)
        say_from_first(f"tiles.path: {root}: reads {some_of(names)}; left out: {others}")
    return data


def _chosen(root: Path, version: Version) -> tuple[dict[str, list[Path]], list[Path], LeftOut]:
    """The files in a folder: parquet files of each part, or else the folders with the binary
    version; and what is not read.

    Raises:
        UserError: there is neither, or a set of files is not whole or there twice.
    """
    binary_names = (*version.train, version.test, version.names)

    def why_not(path: Path) -> str:
        known = path.suffix.lower() == ".parquet" or path.name in binary_names
        return "" if known else OTHER_FORMAT

    files, left_out = list_files(root, why_not, deep=True)
    binary = [file for file in files if file.name in binary_names]
    splits = by_split(root, [file for file in files if file not in binary])
    parquet = {part: splits.pop(part, []) for part in PARTS}
    for split, own in splits.items():
        left_out[f"{split} split" if split else "no split in its name"] = own
    read = [file for own in parquet.values() for file in own]
    check_different(read or binary)
    if read:
        left_out["binary version"] = binary
        for part, own in parquet.items():
            if not own:
                there = described(root, left_out)
                raise UserError(
                    f"{root}: no {part}-*.parquet below this folder"
                    + (f"; not read: {there}" if there else "")
                )
            folders = sorted({file.parent for file in own})
            if folders[1:]:
                raise UserError(
                    f"{root}: holds {part} files in {len(folders)} folders; name one, e.g. "
                    f"{folders[0]}"
                )
            check_shards(own, [file for others in left_out.values() for file in others])
        return parquet, [], left_out
    folders = sorted({file.parent for file in binary if file.name != version.names})
    if not folders:
        there = described(root, left_out)
        raise UserError(
            f"{root}: expected {version.expected} in it; the Python version is not supported"
            + (f"; not read: {there}" if there else "")
        )
    return parquet, folders, left_out
