"""A probe reads the class of each cell from its hidden states; with shuffled labels it cannot."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.grids import ProbeGridConfig, SampleSpec
from gpt2v.config.probing import MAIN, MEASURED, ProbeConfig
from gpt2v.config.sites import Site
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.samples import draw_samples
from gpt2v.data.render.pictures import Pictures
from gpt2v.errors import UserError
from gpt2v.model.encoders import new_encoder
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.load import LoadedModel, load_gpt2v
from gpt2v.model.scoring import PackedScorer
from gpt2v.probing import answering
from gpt2v.probing.collect import Collection
from gpt2v.probing.decoders.saved import load
from gpt2v.probing.probe import probe, probe_data, probe_model
from gpt2v.probing.probed import Probed
from gpt2v.probing.reading import StatesReader, reader_of, sites_of_probe
from gpt2v.probing.splits import splits_of
from gpt2v.registry import VISION_TOWERS
from helpers import refusal

GRID = {"rows": 1, "cols": 2}
ALONE = {"sites": [], "measured_sites": ["pre-projector"], "decoders": ["ridge"], "measures": []}


def config(model="x", **changes):
    values = {"tiles": helpers.TINY_TILES, "model": str(model), "grid": GRID, "n_train": 300}
    return ProbeConfig.model_validate({**values, "n_val": 60, "n_test": 120, **changes})


@pytest.fixture(scope="module")
def loaded(mm_run):
    return load_gpt2v(str(mm_run))[0]


def planted(turn=0):
    """Replaces a model: each patch has the class of its cell, or of `turn` cells after it."""

    def read(reader, data, index):
        grids = data.grids(index)
        classes = np.roll(grids.classes.reshape(len(index), -1), -turn, 1)
        rng = np.random.default_rng(int(index[0]) + len(data))
        found = {}
        for site, cells in reader.maps().items():
            states = rng.normal(size=(len(index), cells.overlap.shape[1], 12)) * 0.1
            for cell in range(classes.shape[1]):
                states[:, cells.patches(cell), :10] += np.eye(10)[classes[:, cell]][:, None]
            found[site] = states.astype(np.float32)
        return found

    return read


def test_separable_states_are_read_and_shuffled_labels_are_chance(
    loaded, bank, tmp_path, monkeypatch
):
    monkeypatch.setattr(StatesReader, "__call__", planted())
    rows = probe(loaded, bank, config(**ALONE), tmp_path)["results"]
    real, shuffled, *cells = rows
    assert real["control"] == "none"
    assert real["accuracy"] > 0.97
    assert real["palette_accuracy"] >= real["accuracy"]
    assert shuffled["control"] == "shuffled-labels"
    assert shuffled["accuracy"] < 0.25  # chance is 10%
    assert 0.1 < shuffled["palette_accuracy"] < 0.45  # chance is 25%
    assert [row["cell"] for row in cells] == [[0, 0], [0, 1]]
    assert np.mean([row["accuracy"] for row in cells]) == pytest.approx(real["accuracy"])


def test_each_cell_is_read_from_its_own_patches(loaded, bank, tmp_path, monkeypatch):
    """A planted error: if the states of two cells are swapped, the probe fails."""
    monkeypatch.setattr(StatesReader, "__call__", planted(turn=1))
    settings = config(**ALONE, grid={**GRID, "palette": 10})
    assert probe(loaded, bank, settings, tmp_path)["results"][0]["accuracy"] < 0.3


def test_with_a_picture_for_each_cell(loaded, bank, tmp_path, monkeypatch):
    grid = {**GRID, "picture": {"layout": "multi"}}
    real = probe(loaded, bank, config(**ALONE, grid=grid, n_train=90), tmp_path / "a")
    n_patches = loaded.gpt2v.geometry.n_patches
    assert np.shape(real["cells"]["pre-projector"]["overlap"]) == (2, 2 * n_patches)
    monkeypatch.setattr(StatesReader, "__call__", planted())
    rows = probe(loaded, bank, config(**ALONE, grid=grid), tmp_path / "b")["results"]
    assert rows[0]["accuracy"] > 0.97


# ---- what is read --------------------------------------------------------------------------------


def test_states_belong_to_the_samples(loaded, bank):
    settings = config(sites=["pixels", "vision", "post-projector", "lm"])
    reader, maps, _ = reader_of(loaded, bank, settings)
    model = loaded.gpt2v
    data = probe_data(settings, bank, "train")
    index = np.arange(7, 20)
    found = reader(data, index)
    assert set(found) == set(maps)
    pictures = Pictures(data.grids(index), bank, model.geometry.image_size, settings.grid.picture)
    with torch.no_grad():
        features = model.vision_features(model.normalise(pictures.pixels))
        tokens = model.project(features)
    np.testing.assert_allclose(found[MAIN], features[:, : found[MAIN].shape[1]], atol=1e-5)
    np.testing.assert_allclose(found[Site("post-projector")], tokens, atol=1e-5)
    again = reader(data, index[:5])
    for site, x in found.items():
        assert len(x) == 13
        np.testing.assert_allclose(x[:5], again[site], atol=1e-5)
        assert maps[site].overlap.shape[1] == x.shape[1]


def test_states_of_the_gpt2_at_image_positions_see_no_question(loaded, bank, monkeypatch):
    """With one question as with all: what comes after a picture does not change it."""
    reader, *_ = reader_of(loaded, bank, config(sites=["lm.1"]))
    data = probe_data(reader.config, bank, "train")
    one = reader(data, np.arange(4))[Site("lm", 1)]
    before = ProbeGridConfig.asked
    monkeypatch.setattr(ProbeGridConfig, "asked", lambda self, n: before(self))
    every = reader(data, np.arange(4))[Site("lm", 1)]
    np.testing.assert_allclose(one, every, atol=1e-5)


def test_a_cells_patches_at_image_positions_are_those_of_the_picture(loaded, bank):
    """The grid is lower than the picture; the lower patches have no image position."""
    _, maps, _ = reader_of(loaded, bank, config(sites=["lm.0"], measured_sites=["lm.0"]))
    whole, placed = maps[MAIN], maps[Site("lm", 0)]
    span = loaded.gpt2v.token_geometry.span(1, 2, bank.size)
    for cell in range(2):
        own = span.patch[placed.patches(cell)]
        assert own.tolist() == whole.patches(cell).tolist()


def test_the_projectors_input_stands_for_its_layer(loaded):
    sites = sites_of_probe(config(sites=["vision"]), loaded.gpt2v, "sites")
    layer = loaded.gpt2v.config.vision_layer % (
        loaded.gpt2v.config.vision_config.num_hidden_layers + 1
    )
    assert MAIN in sites
    assert Site("vision", layer) not in sites
    assert Site("vision", 0) in sites


def test_measured_sites_are_found_by_any_of_their_names(loaded, bank):
    """Layers counted from the end, all layers, and the projector's input by its layer."""
    for names, expected in (
        (["lm.-1"], ["lm.2"]),
        (["vision"], ["vision.0", "vision.1", "pre-projector"]),
        (["vision.-1", "pre-projector"], ["pre-projector"]),
    ):
        _, maps, settings = reader_of(loaded, bank, config(measured_sites=names))
        assert settings.measured_sites == expected
        known = Probed(settings, bank.class_names, 2, {}, maps)
        assert sorted(map(str, known.measured_sites)) == sorted(expected)


def test_means_of_fine_layers_are_kept_as_means_of_their_patches(gpt2v, tokenizer, table, bank):
    """Such layers have many patches for each of the last one's: their means take less space."""
    shape = {"name": "conv", "image_size": 48, "widths": [8, 32], "depth": 2}
    tower = new_encoder(choose(VISION_TOWERS, shape))
    lm = copy.deepcopy(gpt2v.language_model)
    model = GPT2vModel.from_parts(tower, lm, vision_layer=-1, image_token_id=table.image_id).eval()
    conv = LoadedModel(lm, model, tokenizer, "")
    settings = config(cells={"rule": "mean"}, sites=["vision"], measures=[])
    reader, maps, settings = reader_of(conv, bank, settings)
    fine = Site("vision", 0)
    assert reader.pools[fine] > 1
    data, index = probe_data(settings, bank, "train"), np.arange(3)
    whole = dataclasses.replace(reader, pools={})
    kept, every = (own(data, index)[fine] for own in (reader, whole))
    assert every.shape[1] == kept.shape[1] * reader.pools[fine] ** 2
    for cell in range(2):
        found = maps[fine].x(kept, cell)
        np.testing.assert_allclose(found, whole.maps()[fine].x(every, cell), atol=1e-5)


# ---- collected once ------------------------------------------------------------------------------


class Counting:
    """Reads states that are functions of the sample's number, and stops when it is told."""

    def __init__(self, stop_after=None):
        self.read, self.stop_after = [], stop_after

    def __call__(self, data, index):
        if self.stop_after is not None and len(self.read) > self.stop_after:
            raise KeyboardInterrupt
        self.read += index.tolist()
        states = np.repeat(index[:, None, None], 3, 1) + np.arange(2)
        return {Site("pixels"): states.astype(np.float32), MAIN: states[:, :1].astype(np.float32)}


def collection(read, folder, **changes):
    return Collection(**{"read": read, "origin": "a", "folder": folder, "max_gb": 1, **changes})


def test_a_stopped_collection_goes_on(bank, tmp_path):
    data = GridDataset(config().grid, bank, 1, n=1230)
    with pytest.raises(KeyboardInterrupt):
        collection(Counting(stop_after=800), tmp_path).states(data)
    second = Counting()
    states = collection(second, tmp_path).states(data)
    assert min(second.read[1:]) == 500  # kept after each ten portions of 50
    assert max(second.read) == 1229
    assert (states[Site("pixels")][:, 2, 1] == np.arange(1230) + 1).all()
    assert (states[MAIN][:, 0, 0] == np.arange(1230)).all()
    third = Counting()
    collection(third, tmp_path).states(data)
    assert third.read == [0]  # for the shape


def test_states_of_other_weights_or_sites_are_not_taken(bank, tmp_path):
    data = GridDataset(config().grid, bank, 1, n=60)
    collection(Counting(), tmp_path).states(data)
    other = Counting()
    collection(other, tmp_path, origin="b").states(data)
    assert len(other.read) == 61

    class Fewer(Counting):
        def __call__(self, data, index):
            return {MAIN: super().__call__(data, index)[MAIN]}

    fewer = Fewer()
    collection(fewer, tmp_path).states(data)
    assert len(fewer.read) == 61


def test_a_file_that_was_cut_is_collected_again(bank, tmp_path):
    data = GridDataset(config().grid, bank, 1, n=60)
    for is_shared in (False, True):  # also where other processes could read it
        folder = tmp_path / str(is_shared)
        collection(Counting(), folder, is_shared=is_shared).states(data)
        (file,) = folder.glob("*/pixels.npy")
        file.write_bytes(file.read_bytes()[:-100])
        again = Counting()
        states = collection(again, folder, is_shared=is_shared).states(data)
        assert len(again.read) == 61
        assert (states[Site("pixels")][:, 0, 0] == np.arange(60)).all()


def test_what_is_on_the_disk_already_needs_no_space(bank, tmp_path, monkeypatch):
    data = GridDataset(config().grid, bank, 1, n=60)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(UserError, match="GB of space"):
        collection(Counting(), tmp_path).sizes([data])
    collection(Counting(), tmp_path).states(data)
    assert collection(Counting(), tmp_path).sizes([data])["n_bytes"] == 4 * 60 * 8


def test_the_size_is_told_and_limited(bank, tmp_path, capsys):
    data = GridDataset(config().grid, bank, 1, n=1000)
    sizes = collection(Counting(), tmp_path).sizes([data, data])
    assert sizes["n_bytes"] == 4 * 2000 * (3 * 2 + 1 * 2)
    assert (
        "sites: 2,000 grids, 0.00 GB of hidden states (pixels 3x2, pre-" in capsys.readouterr().out
    )
    with pytest.raises(UserError, match=r"is more than features\.max_gb: 1e-05; name fewer sites"):
        collection(Counting(), tmp_path, max_gb=1e-5).sizes([data])


# ---- what is written -----------------------------------------------------------------------------


def test_records_results_and_decoders_of_a_saved_model(mm_run, bank, tmp_path):
    decoders = ["ridge", {"name": "logistic", "n_strengths": 3}]
    settings = config(mm_run, sites=["vision.0", "lm.1"], decoders=decoders, measures=["beside"])
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
    assert [everywhere[key] for key in ("site", "layer", "decoder")] == [
        *("pre-projector", None, "ridge")
    ]
    assert json.loads((tmp_path / "results.json").read_text())["kind"] == "probe"
    of = {(row["site"], row["layer"], row["decoder"]) for row in results["results"]}
    assert of == {
        ("pre-projector", None, "ridge"),
        ("vision", 0, "ridge"),
        ("lm", 1, "ridge"),
        ("pre-projector", None, "logistic"),
    }
    assert len(results["measures"]["beside"]) == 4 + 2  # of the family: any, majority
    assert not (tmp_path / "states").exists()
    assert len(list((tmp_path / "decoders").iterdir())) == 8
    reader, maps, _ = reader_of(load_gpt2v(str(mm_run))[0], bank, settings)
    test = probe_data(settings, bank, "test")
    x = maps[MAIN].x(reader(test, np.arange(120))[MAIN], 1)
    for name in ("ridge", "logistic"):
        fitted, about = load(tmp_path / f"decoders/{name}-pre-projector-0-1.safetensors")
        column = "prediction" if name == "ridge" else f"prediction_{name}"
        said = [bank.class_names[k] for k in fitted.scores(x).argmax(1)]
        assert said == records[records.col == 1][column].tolist()
        assert about["cell"] == [0, 1]
        assert about["classes"] == list(bank.class_names)


def test_states_can_outlive_the_run(mm_run, tmp_path):
    features = {"mode": "require", "path": str(tmp_path / "kept")}
    settings = config(mm_run, **ALONE, n_train=90, features=features)
    first = probe_model(settings, tmp_path / "a")
    kept = sorted((tmp_path / "kept/states").rglob("*.npy"))
    assert len(kept) == 3
    before = [file.stat().st_mtime_ns for file in kept]
    second = probe_model(settings, tmp_path / "b")
    assert [file.stat().st_mtime_ns for file in kept] == before
    assert second["results"] == first["results"]


def test_the_model_is_asked_in_the_form_and_wording_of_the_grids(loaded, bank, monkeypatch):
    grid = {**GRID, "form": "csv", "augment": {"index_bases": [1]}}
    reader, *_ = reader_of(loaded, bank, config(grid=grid))
    test = probe_data(reader.config, bank, "test")
    seen = []
    plain = answering.score_all
    monkeypatch.setattr(
        answering,
        "score_all",
        lambda scorer, data, *more: seen.append(data) or plain(scorer, data, *more),
    )
    listed = splits_of({"train": test}, reader.config)["train"].allowed(len(bank.class_names))
    answered = answering.answers_of(reader, test, listed)
    assert [str(data.spec.form) for data in seen] == ["csv", "csv"]
    text = seen[1][0].text
    assert "|" not in text
    assert "counted from 1" in text
    np.testing.assert_array_equal(answered.truth, test.grids(np.arange(120)).classes)


def test_the_model_must_be_able_to_read_what_it_is_asked(loaded, bank, monkeypatch):
    def check(self, data, layout, mode="independent"):
        if layout == "text":
            raise UserError("rows, cols: too long")

    monkeypatch.setattr(PackedScorer, "check", check)
    with pytest.raises(UserError, match=r"grid\.rows, cols: too long"):
        reader_of(loaded, bank, config(measures=["attribution"]))
    for measures in (["routing"], ["leakage"]):
        reader_of(loaded, bank, config(measures=measures))
    assert config(measures=["beside", "causal"]).modalities == ["image", "text"]
    assert config(measures=["leakage"], sites=["lm.1"]).modalities == ["image"]
    assert config(measures=["leakage"]).modalities == []


def test_a_model_that_is_given_words_in_place_of_patches_is_refused(loaded, bank, monkeypatch):
    monkeypatch.setattr(loaded.gpt2v.config, "vision_tokens", "spliced-text")
    with pytest.raises(UserError, match="its image positions hold spliced-text"):
        reader_of(loaded, bank, config())


def test_an_absent_class_is_found_before_states_are_collected(loaded, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(Collection, "states", None)
    with pytest.raises(UserError, match="n_train: 12 pictures of train show no"):
        probe(loaded, bank, config(n_train=12), tmp_path)


def test_all_measures_of_a_tiny_model(mm_run, tmp_path):
    measures = list(MEASURED)
    few = [{"name": "logistic", "n_strengths": 2}]
    settings = config(mm_run, decoders=["ridge", *few], measures=["description-length", *measures])
    results = probe_model(settings, tmp_path)
    assert list(results["measures"]) == ["description-length", *measures]
    assert all(results["measures"].values())
    layers = {row["layer"] for row in results["measures"]["routing"]}
    assert layers == {0, 1, 2}
    assert {row["site"] for row in results["measures"]["causal"]} == {"vision", "pre-projector"}


# ---- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": {**GRID, "cols": 3}}, "needs 48 pixels"),
        ({"sites": ["vision.9"]}, r"sites: vision\.9: the layer must lie in -3\.\.2"),
        ({"measured_sites": ["lm.7"]}, r"measured_sites: lm\.7: the layer must lie in"),
        ({"sites": ["vision.--1"]}, r"sites: vision\.--1: the layer must lie in"),
        ({"n_train": 10, "grid": {**GRID, "palette": 2}}, "n_train: 10 pictures of train show no"),
    ],
)
def test_what_cannot_be_probed_is_one_line(mm_run, tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        probe_model(config(mm_run, **changes), tmp_path)


def test_mistakes_in_words_are_found_before_anything_is_loaded(mm_run, tmp_path, capsys):
    argv = ("probe", "gpt2v:probe/grid-3x3", "--model", mm_run, "--out", tmp_path / "p")
    for option, value, says in (
        ("--sites", "[patches]", "sites: no such site: 'patches'"),
        ("--sites", "[answer]", "sites: answer is of questions; the measure routing reads it"),
        ("--decoders", "[logistic]", "decoders must include ridge"),
        ("--measures", "[luck]", "no such measure: 'luck'"),
    ):
        assert says in refusal(capsys, *argv, option, value)
    assert "cells.threshold: 0.2 has no effect: rule: mean" in refusal(
        capsys, *argv, "--cells.rule", "mean", "--cells.threshold", "0.2"
    )
    assert not (tmp_path / "p").exists()
