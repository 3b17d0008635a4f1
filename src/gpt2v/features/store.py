"""A cache on disk of the features of a frozen vision tower, computed once per picture.

A cache is a folder with `features.npy` (the output of `GPT2vModel.vision_features`, float32, mapped
into memory), `keys.npy` (the sorted keys of the pictures, by `data.render.pictures.picture_keys`)
and `meta.json` (its origin, and checksums). The folder's name is a hash of the origin, so another
tower, layer, tile bank or set of pictures gets another cache. Opening a cache checks every byte.

Shapes: P pictures, N patches of a picture, D width of a hidden state.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from gpt2v.config.base import Config, hash_of
from gpt2v.config.models import FeaturesConfig
from gpt2v.data.render.pictures import Pictures, picture_keys
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.rng import U64, Ints
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.data.tiles.image_files import Pixels
from gpt2v.errors import UserError
from gpt2v.hardware.memory import enough_memory
from gpt2v.hardware.precision import Precision, autocast
from gpt2v.messages import say
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.paths import expanded
from gpt2v.progress import progress
from gpt2v.storage.cache import cache_folder, open_or_make
from gpt2v.storage.files import write_json, writing
from gpt2v.storage.folders import whole_directory
from gpt2v.storage.manifest import damaged, sha256
from gpt2v.train.distributed import rank
from gpt2v.train.finite import OVERFLOW, check_finite

Listing = Callable[[], Iterator[Pictures]]  # yields pictures in parts; called twice

_FORMAT = 3  # part of the origin: a change makes all old caches invalid
FEATURES, KEYS, META = "features.npy", "keys.npy", "meta.json"
_BATCH = 64  # pictures that the tower takes at once
_UNSTEADY = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


class CacheUnavailable(UserError):
    """Features cannot be cached; the message says why."""


class Origin(Config):
    """Everything that features depend on: equal origins mean equal features."""

    format: int = _FORMAT
    encoder: str  # see `encoder_hash`
    layer: int = Field(ge=0)  # index into hidden_states
    class_token: bool
    image_size: int  # of the pictures, which may be windows
    image_mean: list[float]
    image_std: list[float]
    precision: Precision  # of the tower; features are always float32
    bank: str  # hash of the splits that the pictures belong to
    pictures: str  # SHA-256 of the keys, which depend on how pictures are drawn
    n_pictures: int = Field(ge=1)
    n_tokens: int  # of a picture: its patches, and the class token if it is used
    width: int

    @property
    def name(self) -> str:
        """Name of the folder."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(P, N, D), or (P, N + 1, D) with the class token."""
        return self.n_pictures, self.n_tokens, self.width

    @property
    def n_bytes(self) -> int:
        """Size of all features."""
        return 4 * self.n_pictures * self.n_tokens * self.width

    def __str__(self) -> str:
        shape = f"{self.n_pictures:,} pictures x {self.n_tokens} x {self.width}"
        return f"{shape}, {_amount(self.n_bytes)}"


class _Meta(Config):
    """Content of meta.json."""

    origin: Origin
    keys_sha256: str
    features_sha256: str


@dataclass(frozen=True)
class FeatureStore:
    """An open cache."""

    origin: Origin
    keys: U64  # (P,) sorted
    features: NDArray[np.float32]  # (P, N, D) or (P, N + 1, D), mapped from disk

    def find(self, keys: U64) -> tuple[Ints, NDArray[np.bool_]]:
        """The row of each key (n_keys,), and whether the cache has it (n_keys,)."""
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return rows, self.keys[rows] == keys


def open_features(
    model: GPT2vModel,
    bank: TileBank,
    listing: Listing,
    config: FeaturesConfig,
    precision: Precision = "fp32",
    make: bool = True,
) -> FeatureStore | None:
    """Open the cache of these pictures, if there are any; make it first if missing or damaged.

    Args:
        listing: pictures of `bank`, all of one size; repeated ones are cached once.
        precision: of the tower.
        make: if false, return None instead of making a cache.

    Raises:
        CacheUnavailable: the cache would be larger than `config.max_gb`, the disk has too little
            space, or files cannot be written.
    """
    try:
        base = expanded(config.path) if config.path else cache_folder("features")
    except UserError as error:  # no home folder
        if make:
            raise CacheUnavailable(str(error)) from None
        say(f"features: {error}; no cache is used")
        return None
    if not make and not base.is_dir():
        return None
    keys, splits, sizes = _different_keys(listing)
    if not sizes:
        return None
    origin = _origin(model, bank, splits, keys, sizes[0], precision)
    folder = base / origin.name
    made = False

    def open_entry() -> FeatureStore:
        fault = verify(folder, origin)
        if fault is not None:
            raise UserError(f"features: {folder}: {fault}")
        if not made and rank() == 0:
            print(f"features: {origin}, from {folder}", flush=True)
        return _open(folder, origin)

    def make_entry() -> None:
        nonlocal made
        if origin.n_bytes > config.max_gb * 1e9:
            raise CacheUnavailable(f"{origin}, is more than features.max_gb: {config.max_gb:g}")
        free = shutil.disk_usage(base).free
        if origin.n_bytes + keys.nbytes > free:
            raise CacheUnavailable(
                f"{origin}, but {base} has only {_amount(free)} of free space; set features.path"
            )
        print(f"features: {origin}, into {folder}", flush=True)
        with writing(base), whole_directory(folder) as temporary:
            _write(temporary, origin, keys, listing, len(sizes), model)
        made = True

    try:
        if make:
            return open_or_make(folder, open_entry, make_entry)
        return open_entry() if folder.exists() else None
    except UserError as error:
        if make:
            raise CacheUnavailable(str(error)) from None
        say(f"{error}; it is not used")
        return None


def _different_keys(listing: Listing) -> tuple[U64, list[str], list[int]]:
    """The sorted keys of all pictures, the splits they belong to, and the side of each part's."""
    pairs, splits, sizes = [np.empty((0, 2), np.uint64)], set(), []
    for p in listing():
        pairs.append(np.stack([p.keys, picture_keys(p.grids, p.bank, p.picture, salt=1)], axis=1))
        splits |= {SPLITS[number] for number in p.grids.split.tolist()}
        sizes.append(p.image_size)
    different = np.unique(np.concatenate(pairs), axis=0)
    keys = np.unique(different[:, 0])
    assert len(keys) == len(different), "two pictures have the same key"
    return keys, sorted(splits), sizes


def _origin(
    model: GPT2vModel,
    bank: TileBank,
    splits: list[str],
    keys: U64,
    image_size: int,
    precision: Precision,
) -> Origin:
    config, vision = model.config, model.config.vision_config
    return Origin(
        encoder=encoder_hash(model),
        layer=config.vision_layer % (vision.num_hidden_layers + 1),
        class_token=config.class_token,
        image_size=image_size,
        image_mean=[float(value) for value in config.image_mean],
        image_std=[float(value) for value in config.image_std],
        precision=precision,
        bank=hash_of(*(bank.content_hash(split) for split in splits)),
        pictures=hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest(),
        n_pictures=len(keys),
        n_tokens=PictureGeometry(image_size, vision.patch_size).n_patches + config.class_token,
        width=vision.hidden_size,
    )


def encoder_hash(model: GPT2vModel) -> str:
    """SHA-256 of the vision tower's configuration and of all its weights."""
    config = model.vision_tower.config.to_dict()
    plain = {key: value for key, value in config.items() if key not in _UNSTEADY}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


# ---- files -----------------------------------------------------------------------------------


def _write(
    folder: Path, origin: Origin, keys: U64, listing: Listing, n_parts: int, model: GPT2vModel
) -> None:
    """Run the tower on every picture once, and write the files of the cache."""
    done = np.zeros(len(keys), bool)
    with (folder / FEATURES).open("wb") as file:
        np.save(folder / KEYS, keys.astype("<u8"))
        header = {"descr": "<f4", "fortran_order": False, "shape": origin.shape}
        np.lib.format.write_array_header_1_0(file, header)
        start, size = file.tell(), origin.n_bytes // origin.n_pictures
        with progress("features: vision tower", n_parts) as report:
            for pictures in listing():
                rows = np.searchsorted(keys, pictures.keys)
                new = np.unique(rows, return_index=True)[1]
                new = new[~done[rows[new]]]
                for part in np.split(new, range(_BATCH, len(new), _BATCH)) if len(new) else ():
                    computed = _compute(model, pictures.pixels[part], origin.precision)
                    for row, features in zip(rows[part].tolist(), computed, strict=True):
                        file.seek(start + row * size)
                        file.write(features.tobytes())
                done[rows[new]] = True
                report()
        assert done.all(), "the second listing lacks pictures of the first"
    meta = _Meta(
        origin=origin,
        keys_sha256=sha256(folder / KEYS),
        features_sha256=sha256(folder / FEATURES),
    )
    write_json(folder / META, meta.model_dump())


@torch.no_grad()
def _compute(model: GPT2vModel, pixels: Pixels, precision: Precision) -> NDArray[np.float32]:
    where = f"features: vision tower on {len(pixels)} pictures"
    advice = "use a smaller image_size or encoder"
    with enough_memory(where, lambda: advice), autocast(precision, model.device):
        output = model.vision_features(model.normalise(pixels))
    check_finite({"features": output}, "vision tower", OVERFLOW)
    features: NDArray[np.float32] = output.float().cpu().numpy().astype("<f4", copy=False)
    return features


def verify(folder: Path, origin: Origin) -> str | None:
    """Check a cache against the origin that it should have: an error message, or None."""
    try:
        meta = _Meta.model_validate_json((folder / META).read_bytes())
    except (ValidationError, OSError):
        return f"{META} is damaged or missing"
    for name in Origin.model_fields:
        if getattr(meta.origin, name) != getattr(origin, name):
            return f"was made from another {name}"
    fault = damaged(folder, {KEYS: meta.keys_sha256, FEATURES: meta.features_sha256})
    return None if fault is None else f"{fault} is damaged or missing"


def _open(folder: Path, origin: Origin) -> FeatureStore:
    keys = np.load(folder / KEYS, allow_pickle=False).astype(np.uint64)
    mapped = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
    assert mapped.shape == origin.shape
    return FeatureStore(origin, keys, mapped.view(np.ndarray))


def _amount(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.{0 if n_bytes >= 1e7 else 2}f} MB"
