"""The samples of a suite with the tiles of one bank, and their hash.

The hash covers the definition of the suite, every byte of every sample's text (the table, the
questions and answers), and what its pictures are drawn from: tiles and random keys. No tile is
drawn for it.
"""

import hashlib

import numpy as np

from gpt2v.config.measuring import PartConfig, SuiteConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.examples import examples_of
from gpt2v.data.tiles.bank import SPLITS, TileBank
from gpt2v.errors import UserError, within


def check_bank(suite: SuiteConfig, name: str, bank: TileBank) -> None:
    """Check that a bank has enough tiles and classes for a suite.

    Raises:
        UserError: too few tiles of a class, or some part cannot be drawn with these tiles.
    """
    counts = bank.counts[SPLITS.index(suite.split)]
    fewest = int(counts.argmin())
    if counts[fewest] < suite.tiles_per_class:
        raise UserError(
            f"suite: {name} asks for {suite.tiles_per_class} {suite.split} tiles of each class, "
            f"but '{bank.class_names[fewest]}' of the {bank.name} tiles has {counts[fewest]}"
        )
    for part in suite.parts:
        with within(f"suite: {name}: {part.name}: "):
            part_data(suite, part, bank).first()


def part_data(
    suite: SuiteConfig, part: PartConfig, bank: TileBank, limit: int | None = None
) -> GridDataset:
    """The samples of a part of a suite.

    Args:
        limit: only as many, from the first on; None: all.
    """
    n = part.n_images if limit is None else min(part.n_images, limit)
    return GridDataset(part.grid, bank, suite.seed, suite.split, n, f"part {part.name}: ")


def suite_hash(suite: SuiteConfig, bank: TileBank) -> str:
    """SHA-256 over the definition, the tiles, and of each sample the text, tile ids and key."""
    digest = hashlib.sha256(suite.model_dump_json(exclude_defaults=True).encode())
    digest.update(bank.content_hash(suite.split).encode())
    for part in suite.parts:
        data = part_data(suite, part, bank)
        for index in data.portions():
            samples = data.samples(index)
            digest.update(np.array(samples.tiles.shape, "<i8").tobytes())
            for numbers in (samples.tiles, samples.key):
                digest.update(numbers.astype("<i8").tobytes())
            for example in examples_of(samples, part.grid, bank, pictured=False):
                digest.update(example.text.encode())
    return digest.hexdigest()
