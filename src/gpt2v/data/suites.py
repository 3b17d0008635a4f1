"""Named suites: benchmark definitions with a version in their name, the YAML files of
`gpt2v/suites`. What a suite asks never changes; a change is a new version.

A suite's hash covers its definition and every byte of every sample: its table, its questions and
answers, and the pixels of its pictures in their own size, for one tile bank.
"""

import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Literal

import numpy as np
from pydantic import Field

from gpt2v.config import Config
from gpt2v.configfile import read_yaml, validate
from gpt2v.data.pictures import natural_pictures
from gpt2v.data.pieces import Strings
from gpt2v.data.samples import Samples, draw_samples
from gpt2v.data.text import TextView, documents
from gpt2v.data.tiles import SPLITS, TileBank
from gpt2v.errors import UserError, within
from gpt2v.specs import GridConfig

_CHUNK = 50  # samples drawn at once
_FOLDER = "suites"


class PartConfig(Config):
    """Some grids of a suite that are reported together."""

    name: str = Field(description="name of the part, within its suite")
    grid: GridConfig = Field(GridConfig(), description="the grids")
    n_images: int = Field(ge=2, description="number of grids")
    modalities: list[Literal["text", "image"]] = Field(
        ["text", "image"], min_length=1, description="how they may be shown"
    )


class SuiteConfig(Config):
    """A benchmark: held-out grids in parts, the same for every model."""

    description: str = Field(description="what it measures")
    split: Literal["val", "test"] = Field("test", description="split of the tiles and grids")
    seed: int = Field(1, ge=0, description="data set seed")
    tiles_per_class: int = Field(
        10, ge=1, description="pictures that each class must have in the split"
    )
    parts: list[PartConfig] = Field(min_length=1, description="its parts")


def suite_names() -> list[str]:
    """Names of the suites."""
    names = [file.name for file in (resources.files("gpt2v") / _FOLDER).iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_suite(name: str) -> SuiteConfig:
    """The suite with this name.

    Raises:
        UserError: there is none.
    """
    if name not in suite_names():
        raise UserError(f"suite: {name}: no such suite; there are {', '.join(suite_names())}")
    file = resources.files("gpt2v") / _FOLDER / f"{name}.yaml"
    return validate(SuiteConfig, read_yaml(file.read_text(encoding="utf-8"), name), name)


def check_bank(suite: SuiteConfig, name: str, bank: TileBank) -> None:
    """Refuse tiles that are too few for a suite."""
    counts = bank.counts[SPLITS.index(suite.split)]
    fewest = int(counts.argmin())
    if counts[fewest] < suite.tiles_per_class:
        raise UserError(
            f"suite: {name} asks for {suite.tiles_per_class} {suite.split} tiles of each class, "
            f"but '{bank.class_names[fewest]}' of the {bank.name} tiles has {counts[fewest]}"
        )
    for part in suite.parts:
        with within(f"suite: {name}: {part.name}: "):
            draw_samples(part.grid, bank, suite.seed, suite.split, np.arange(1))


def part_samples(suite: SuiteConfig, part: PartConfig, bank: TileBank) -> Iterator[Samples]:
    """All samples of a part, a few at a time."""
    for start in range(0, part.n_images, _CHUNK):
        index = np.arange(start, min(start + _CHUNK, part.n_images))
        yield draw_samples(part.grid, bank, suite.seed, suite.split, index)


def suite_hash(suite: SuiteConfig, bank: TileBank) -> str:
    """SHA-256 of the definition, then of every sample: text, shape and pixels of its pictures."""
    digest = hashlib.sha256(suite.model_dump_json(exclude_defaults=True).encode())
    strings = Strings()
    for part in suite.parts:
        spec = part.grid
        view = TextView.of(spec)
        for samples in part_samples(suite, part, bank):
            texts = documents(samples, view, bank.class_names, strings)
            pictures = natural_pictures(samples, bank, spec.picture)
            for text, own in zip(texts, pictures, strict=True):
                digest.update(text.encode())
                for pixels in own:
                    digest.update(np.array(pixels.shape, "<i8").tobytes())
                    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
