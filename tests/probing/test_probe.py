"""The probe reads the class of each cell from its embeddings; with shuffled labels it cannot."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import helpers
from gpt2v.config.grids import SampleSpec
from gpt2v.config.probing import ProbeConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.samples import draw_samples
from gpt2v.errors import UserError
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.probing.probe import collect, probe, probe_model

GRID = {"rows": 1, "cols": 2}


def config(model="x", **changes):
    values = {"tiles": helpers.TINY_TILES, "model": str(model), "grid": GRID}
    return ProbeConfig.model_validate({**values, "n_train": 300, "n_test": 120, **changes})


class Seeing:
    """Replaces a GPT-2v: the embedding of each patch is the class of its cell, with noise."""

    def __init__(self, gpt2v, bank, spec, seed):
        self.geometry, self.config = gpt2v.geometry, gpt2v.config
        self.weight = torch.zeros(1)
        self.bank, self.spec, self.seed = bank, spec, seed
        self.next = {"train": 0, "test": 0}
        self.split = "train"

    def normalise(self, pixels):
        return pixels

    def vision_features(self, pixels):
        n, start = len(pixels), self.next[self.split]
        self.next[self.split] += n
        index = np.arange(start, start + n)
        samples = GridDataset(self.spec, self.bank, self.seed, self.split).grids(index)
        if self.next[self.split] >= 300:
            self.split = "test"
        span = self.geometry.span(self.spec.rows, self.spec.cols, 16)
        noise = np.random.default_rng(start).normal(size=(n, 36, 12)) * 0.1
        classes = samples.classes.reshape(n, -1)[:, span.cell]
        noise[:, span.patch, :10] += np.eye(10)[classes]
        return torch.from_numpy(noise.astype(np.float32))


def test_separable_features_are_read_and_shuffled_labels_are_chance(gpt2v, bank, tmp_path):
    settings = config(features={"mode": "off"})
    seeing = Seeing(gpt2v, bank, settings.grid, settings.seed)
    rows = probe(seeing, bank, settings, tmp_path)["results"]
    real, shuffled, *cells = rows
    assert real["control"] == "none"
    assert real["accuracy"] > 0.97
    assert real["palette_accuracy"] >= real["accuracy"]
    assert shuffled["control"] == "shuffled-labels"
    assert shuffled["accuracy"] < 0.25  # chance is 10%
    assert 0.1 < shuffled["palette_accuracy"] < 0.45  # chance is 25%
    assert [row["cell"] for row in cells] == [[0, 0], [0, 1]]
    assert np.mean([row["accuracy"] for row in cells]) == pytest.approx(real["accuracy"])


def test_each_cell_is_read_from_its_own_patches(gpt2v, bank, tmp_path):
    """A planted error: if the features of two cells are swapped, the probe fails."""

    class Swapped(Seeing):
        def vision_features(self, pixels):
            features = super().vision_features(pixels)
            span = self.geometry.span(1, 2, 16)
            turned = features.clone()
            turned[:, span.patch[span.cell == 0]] = features[:, span.patch[span.cell == 1]]
            turned[:, span.patch[span.cell == 1]] = features[:, span.patch[span.cell == 0]]
            return turned

    settings = config(grid={**GRID, "palette": 10}, features={"mode": "off"})
    swapped = Swapped(gpt2v, bank, settings.grid, settings.seed)
    assert probe(swapped, bank, settings, tmp_path)["results"][0]["accuracy"] < 0.3


def test_features_belong_to_the_samples(gpt2v, bank):
    settings, source = config(n_train=60), ProjectedPatches(gpt2v)
    sixty, fewer = (GridDataset(settings.grid, bank, settings.seed, n=n) for n in (60, 52))
    features, grids = collect(gpt2v, source, sixty)
    assert features.shape == (60, 36, 16)
    again, _ = collect(gpt2v, source, fewer)
    np.testing.assert_allclose(features[:52], again, atol=1e-5)
    drawn = draw_samples(SampleSpec(rows=1, cols=2), bank, settings.seed, "train", np.arange(60))
    np.testing.assert_array_equal(grids.tiles, drawn.tiles)


def test_records_and_results_of_a_saved_model(mm_run, bank, tmp_path):
    settings = config(mm_run)
    results = probe_model(settings, tmp_path)
    records = pq.read_table(tmp_path / "records.parquet").to_pandas()
    assert len(records) == 120 * 2
    samples = draw_samples(SampleSpec(rows=1, cols=2), bank, 1, "test", np.arange(120))
    for i, cell in ((0, 0), (7, 1), (119, 0)):
        (row,) = records[(records["sample"] == i) & (records.col == cell)].to_dict("records")
        assert row["truth"] == bank.class_names[samples.classes[i, 0, cell]]
        assert row["palette_prediction"] in [bank.class_names[c] for c in samples.palette[i]]
    everywhere = results["results"][0]
    assert everywhere["accuracy"] == pytest.approx((records.truth == records.prediction).mean())
    in_palette = (records.truth == records.palette_prediction).mean()
    assert everywhere["palette_accuracy"] == pytest.approx(in_palette)
    assert everywhere["site"] == "pre-projector"
    assert json.loads((tmp_path / "results.json").read_text())["kind"] == "probe"


def test_a_grid_that_does_not_fit_is_refused(mm_run, tmp_path):
    with pytest.raises(UserError, match="needs 48 pixels"):
        probe_model(config(mm_run, grid={**GRID, "cols": 3}), tmp_path)
