"""The command of the samples in the repository makes the same files again, byte for byte."""

import json

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

import helpers
from gpt2v.cli.main import main
from gpt2v.config.load import load
from gpt2v.config.measuring import ExportConfig
from gpt2v.data.export.shards import versions
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import natural_pictures
from gpt2v.data.tiles.load import load_bank

ROOT = helpers.REPO
SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples") / "samples"
    argv = ["data", "export", "gpt2v:data/samples", "--to", str(folder), "--format", "parquet"]
    assert main(argv) == 0
    return folder


def test_every_file_is_made_again_byte_for_byte(again):
    """PNG and parquet files are written by other libraries: the bytes depend on their versions."""
    written = json.loads((SAMPLES / "manifest.json").read_text())
    if written["versions"] != versions():
        pytest.skip(f"the samples were written with {written['versions']}, here are {versions()}")
    for path in sorted(p for p in SAMPLES.rglob("*") if p.is_file()):
        assert (again / path.relative_to(SAMPLES)).read_bytes() == path.read_bytes(), path


def test_words_and_pixels_are_the_same_whatever_the_versions(again):
    (name,) = [path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.parquet")]
    ours, theirs = (pq.read_table(root / name) for root in (again, SAMPLES))
    assert len(theirs) == 100
    words = [column for column in theirs.column_names if column != "image"]
    assert ours.select(words).equals(theirs.select(words))
    config = load(ExportConfig, SAMPLES / "config.yaml", {})
    bank = load_bank(config.tiles)
    samples = draw_samples(config.grid, bank, config.seed, config.split, np.arange(100))
    read = datasets.load_dataset(str(SAMPLES), split="test")
    for (drawn,), picture in zip(natural_pictures(samples, bank), read["image"], strict=True):
        np.testing.assert_array_equal(np.asarray(picture), drawn)
