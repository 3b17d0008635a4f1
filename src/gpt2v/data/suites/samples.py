"""The samples of a suite with the tiles of one bank, and their hash.

The hash covers the definition of the suite and every byte of every sample: the table, the
questions and answers, and the pixels of the pictures in their own size.
"""

import hashlib

import numpy as np

from gpt2v.config.measuring import PartConfig, SuiteConfig
from gpt2v.data.dataset import GridDataset
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


def part_data(suite: SuiteConfig, part: PartConfig, bank: TileBank) -> GridDataset:
    """The samples of a part of a suite."""
    key = f"part {part.name}: "
    return GridDataset(part.grid, bank, suite.seed, suite.split, part.n_images, key)


def suite_hash(suite: SuiteConfig, bank: TileBank) -> str:
    """SHA-256 over the definition and each sample: text, shapes and pixels of its pictures."""
    digest = hashlib.sha256(suite.model_dump_json(exclude_defaults=True).encode())
    for part in suite.parts:
        data = part_data(suite, part, bank)
        for index in data.portions():
            for example in data.examples(index):
                digest.update(example.text.encode())
                for pixels in example.pictures:
                    digest.update(np.array(pixels.shape, "<i8").tobytes())
                    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()
