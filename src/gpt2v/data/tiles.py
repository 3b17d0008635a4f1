"""Tile banks: every small picture of one source, split so that no picture is in two splits.

Sources: `sprites` (drawn by our own code), `cifar10` (parquet in the `uoft-cs/cifar10` schema) and
`folder` (folder/class/picture.png). A bank holds its pictures in memory, sorted by split and class.
"""

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gpt2v.config import MAX_SPRITES, TilesConfig
from gpt2v.data import rng, sprites
from gpt2v.data.rng import U64, Ints
from gpt2v.errors import UserError
from gpt2v.progress import track

SPLITS = ("train", "val", "test")
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_VAL_SHARE = 0.1  # of the training pictures, where a source has no validation split of its own

_UNREADABLE = (
    UnidentifiedImageError,
    SyntaxError,  # what Pillow raises for a broken PNG chunk
    EOFError,
    Image.DecompressionBombError,
    OSError,
    ValueError,
    TypeError,
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class TileBank:
    """All tiles of one source."""

    name: str
    class_names: tuple[str, ...]
    pixels: Pixels  # (N, S, S, 3)
    labels: Ints  # (N,) class of each tile
    split: Ints  # (N,) index into SPLITS
    source: tuple[str, ...]  # (N,) where each tile comes from: never in two splits

    @property
    def size(self) -> int:
        """Side of a tile in pixels."""
        return int(self.pixels.shape[1])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over the class names, the split, the labels and every pixel."""
        digest = hashlib.sha256("/".join(self.class_names).encode())
        for array in (self.split, self.labels, self.pixels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @cached_property
    def _members(self) -> tuple[Ints, Ints, Ints]:
        """Tiles sorted by (split, class), with start and count of each pair, (3, C)."""
        n_classes = len(self.class_names)
        group = self.split * n_classes + self.labels
        counts = np.bincount(group, minlength=len(SPLITS) * n_classes)
        starts = np.cumsum(counts) - counts
        shape = (len(SPLITS), n_classes)
        return np.argsort(group, kind="stable"), starts.reshape(shape), counts.reshape(shape)

    def members(self, split: str, label: int) -> Ints:
        """Indices of the tiles of one split and class."""
        order, starts, counts = self._members
        start = starts[SPLITS.index(split), label]
        found: Ints = order[start : start + counts[SPLITS.index(split), label]]
        return found

    def pick(self, split: str, classes: Ints, words: U64) -> Ints:
        """A uniformly random tile of `split` for each class, from 64 random bits each."""
        order, starts, counts = self._members
        which = SPLITS.index(split)
        place: Ints = starts[which][classes] + rng.below(words, counts[which][classes])
        tiles: Ints = order[place]
        return tiles


def load_bank(config: TilesConfig) -> TileBank:
    """Build the bank that the configuration names.

    Raises:
        UserError: a file is missing or corrupt, or a class has no tile in some split.
    """
    bank = _SOURCES[config.source](config)
    empty = np.argwhere(bank._members[2] == 0)
    if len(empty):
        split, label = empty[0]
        raise UserError(
            f"tiles.path: {config.path or config.source}: class '{bank.class_names[label]}' "
            f"has no picture left for the {SPLITS[split]} split; it needs more pictures"
        )
    for name in bank.class_names:  # at other borders, tokenizers join a name with its neighbours
        if not (name and name[0].isalnum() and name[-1].isalnum() and name.isprintable()):
            raise UserError(
                f"tiles.path: {config.path or config.source}: class name {name!r} must begin and "
                "end with a letter or a digit"
            )
    return bank


def _sprite_bank(config: TilesConfig) -> TileBank:
    """Drawn tiles; the variant number is the source picture.

    Each split counts in a range of its own, so that what one bank holds out is in no other bank's
    training split, however many tiles they have.
    """
    n_classes = len(sprites.CLASS_NAMES)
    held_out = max(1, round(config.per_class * _VAL_SHARE))
    counts = (config.per_class, held_out, held_out)
    split = np.repeat(np.arange(len(SPLITS)), counts)
    variants = np.concatenate([i * MAX_SPRITES + np.arange(n) for i, n in enumerate(counts)])
    labels = np.repeat(np.arange(n_classes), len(variants))
    all_variants = np.tile(variants, n_classes)
    key = rng.mix(all_variants.astype(np.uint64) + np.uint64(config.seed << 32))
    chunks = np.array_split(np.arange(len(labels)), max(1, len(labels) // 500))
    drawn = [
        sprites.draw_sprites(labels[chunk], key[chunk], config.size)
        for chunk in track(chunks, "tiles: sprites")
    ]
    return TileBank(
        name="sprites",
        class_names=sprites.CLASS_NAMES,
        pixels=np.concatenate(drawn),
        labels=labels,
        split=np.tile(split, n_classes),
        source=tuple(
            f"sprites/{config.seed}/{a}/{b}" for a, b in zip(labels, all_variants, strict=True)
        ),
    )


def _cifar10_bank(config: TilesConfig) -> TileBank:
    """`uoft-cs/cifar10` parquet: columns img {bytes, path} and label; class names in its metadata.

    A tenth of the training pictures, chosen by a hash of their bytes, is the validation split.
    Training pictures that also stand in the test files are left out.
    """
    root = _existing(config, "the folder that holds train-*.parquet and test-*.parquet")
    pixels, labels, digests, source = [], [], [], []
    for part in ("test", "train"):
        files = sorted(root.rglob(f"{part}-*.parquet"))
        if not files:
            raise UserError(f"tiles.path: {root}: no {part}-*.parquet below this folder")
        tables = [_read_cifar10_table(file) for file in files]
        blobs = [row["bytes"] for table in tables for row in table["img"].to_pylist()]
        names = [f"{root.name}/{part}/{i}" for i in range(len(blobs))]
        pixels.append(_decode_all(blobs, names, config.size, f"tiles: cifar10 {part}"))
        labels.append(np.concatenate([table["label"].to_numpy() for table in tables]))
        digests.append(_digests(blobs))
        source += names
    n_test = len(labels[0])
    label = np.concatenate(labels).astype(np.int64)
    class_names = _cifar10_class_names(files[0])
    if label.min() < 0 or label.max() >= len(class_names):
        raise UserError(f"tiles.path: {root}: labels must lie in 0..{len(class_names) - 1}")
    split = np.where(rng.unit(np.concatenate(digests)) < _VAL_SHARE, 1, 0)
    split[:n_test] = 2
    keep = np.concatenate([np.full(n_test, True), ~np.isin(digests[1], digests[0])])
    return TileBank(
        name="cifar10",
        class_names=class_names,
        pixels=np.concatenate(pixels)[keep],
        labels=label[keep],
        split=split[keep],
        source=tuple(np.array(source)[keep]),
    )


def _read_cifar10_table(file: Path) -> pyarrow.Table:
    try:
        table = pq.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"tiles.path: {file}: not a readable parquet file ({error})") from None
    if not {"img", "label"} <= set(table.column_names):
        raise UserError(
            f"tiles.path: {file}: columns are {table.column_names}, expected 'img' and 'label'"
        )
    img, label = table.schema.field("img").type, table.schema.field("label").type
    fields = {f.name: f.type for f in img} if pyarrow.types.is_struct(img) else {}
    if not pyarrow.types.is_binary(fields.get("bytes", pyarrow.null())):
        raise UserError(f"tiles.path: {file}: column 'img' is {img}, expected a struct with bytes")
    if not pyarrow.types.is_integer(label):
        raise UserError(f"tiles.path: {file}: column 'label' is {label}, expected integers")
    nulls = [name for name in ("img", "label") if table[name].null_count]
    if nulls:
        raise UserError(f"tiles.path: {file}: column '{nulls[0]}' has rows without a value")
    return table


def _cifar10_class_names(file: Path) -> tuple[str, ...]:
    metadata = pq.read_schema(file).metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(features["label"]["names"])
    except (KeyError, ValueError, TypeError):
        return sprites.CLASS_NAMES  # the same ten, in CIFAR-10's order


def _folder_bank(config: TilesConfig) -> TileBank:
    """folder/class/picture: the class names are the folder names; a hash of the bytes splits."""
    root = _existing(config, "a folder with one sub-folder for each class")
    class_names = tuple(sorted(p.name for p in root.iterdir() if p.is_dir()))
    if len(class_names) < 2:
        raise UserError(
            f"tiles.path: {root}: found {len(class_names)} class folders, need 2 or more"
        )
    files = [
        (label, file)
        for label, name in enumerate(class_names)
        for file in sorted((root / name).iterdir())
        if file.suffix.lower() in _PICTURES and file.is_file()
    ]
    blobs = [file.read_bytes() for _, file in files]
    names = [str(file) for _, file in files]
    labels = np.array([label for label, _ in files], np.int64)
    digests = _digests(blobs)
    split = np.zeros(len(files), np.int64)
    for label in range(len(class_names)):
        own = np.flatnonzero(labels == label)
        unique, rank = np.unique(digests[own], return_inverse=True)
        held_out = max(1, round(len(unique) * _VAL_SHARE))
        split[own] = np.select([rank < held_out, rank < 2 * held_out], [1, 2], 0)
    for digest in np.unique(digests[split > 0]):  # the same picture under two class names
        same = np.flatnonzero(digests == digest)
        if len(set(labels[same])) > 1:
            raise UserError(
                f"tiles.path: {names[same[0]]} and {names[same[-1]]} are the same picture "
                "in two classes; keep one"
            )
    return TileBank(
        name="folder",
        class_names=class_names,
        pixels=_decode_all(blobs, names, config.size, "tiles: folder"),
        labels=labels,
        split=split,
        source=tuple(names),
    )


def _digests(blobs: Sequence[bytes]) -> U64:
    """64 bits of the SHA-256 of each picture's bytes: splits by it keep equal pictures together."""
    short = [hashlib.sha256(blob).digest()[:8] for blob in blobs]
    return np.array([int.from_bytes(digest, "little") for digest in short], np.uint64)


def _decode_all(blobs: Sequence[bytes], names: Sequence[str], size: int, label: str) -> Pixels:
    """Decode and resize to (N, size, size, 3); a picture that cannot be decoded is named."""
    pixels = np.empty((len(blobs), size, size, 3), np.uint8)
    for i, blob in enumerate(track(blobs, label)):
        try:
            picture = Image.open(io.BytesIO(blob)).convert("RGB")
        except _UNREADABLE as error:
            reason = str(error).split("<")[0].strip() or type(error).__name__
            raise UserError(f"tiles.path: {names[i]}: not a readable picture ({reason})") from None
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BICUBIC)
        pixels[i] = np.asarray(picture)
    return pixels


def _existing(config: TilesConfig, expected: str) -> Path:
    if config.path is None:
        raise UserError(f"tiles.path: missing; {config.source} tiles need {expected}")
    root = Path(config.path)
    if not root.is_dir():
        raise UserError(f"tiles.path: {root}: no such folder; expected {expected}")
    return root


_SOURCES: dict[str, Callable[[TilesConfig], TileBank]] = {
    "sprites": _sprite_bank,
    "cifar10": _cifar10_bank,
    "folder": _folder_bank,
}
