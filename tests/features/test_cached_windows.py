"""Cached features of windows: one row for each tile, put together as the tower gives pictures."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.windows import as_windows
from gpt2v.data.stream import Stream
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import evaluate_model
from gpt2v.features.sources import picture_source, training_source
from gpt2v.features.store import KEYS
from gpt2v.features.stored import open_stored
from gpt2v.mm_train.train import train_mm
from gpt2v.model.encoders import new_encoder
from gpt2v.model.files import load_pretrained
from gpt2v.model.found import find_checkpoint
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.registry import VISION_TOWERS

TOWER = {"name": "conv", "image_size": 48, "widths": [8, 8, 16], "window": 16}
FROZEN = [
    {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0},
    {"name": "rest", "pattern": "", "lr": 0.003},
]
GRID = {"rows": 2, "cols": [1, 3], "modality": "image"}
MADE_OF_WINDOWS = {
    "whole canvas": {"rows": 3, "cols": 3},
    "corner": {"rows": 2, "cols": 2},
    "sizes": {"rows": [1, 3], "cols": [1, 3]},
    "cells": {"rows": 2, "cols": [1, 2], "picture": {"layout": "multi"}},
    "margins": {"rows": 2, "cols": 2, "picture": {"scale": [0.5, 0.5], "background": [9, 0, 99]}},
}
OTHERS = {
    "gap": {"gap": 1},
    "border": {"border": 4},
    "resize": {"resize": True},
    "blur": {"blur": 1.0},
    "noise": {"noise": 5.0},
    "half": {"cell": 8},
    "twice": {"cell": 24},
    "moved": {"scale": [0.5, 0.5], "jitter": 3},
    "scaled": {"scale": [0.5, 1.0]},
    "noisy cells": {"layout": "multi", "noise": 5.0},
}


def gpt2v_with(lm, table, **options):
    """A GPT-2v with a conv tower whose running statistics are not those it begins with."""
    torch.manual_seed(0)
    encoder = new_encoder(choose(VISION_TOWERS, {**TOWER, **options}))
    with torch.no_grad():
        for name, value in encoder.tower.state_dict().items():
            value.add_(value.abs() * torch.rand(value.shape) + 0.1 * ("norm" in name))
    return GPT2vModel.from_parts(encoder, lm, vision_layer=-1, image_token_id=table.image_id).eval()


@pytest.fixture(scope="module")
def windowed(lm, table):
    return gpt2v_with(lm, table)


def dataset(bank, n=40, **spec):
    return GridDataset(GridConfig.model_validate({**GRID, **spec}), bank, split="test", n=n)


def opened(model, data, path, **options):
    listing = lambda: data.pictures(48)  # noqa: E731
    return open_stored(model, data.bank, listing, FeaturesConfig(path=str(path)), **options)


def check_exact(model, source, data):
    for pictures in data.pictures(48):
        with torch.no_grad():
            expected = ProjectedPatches(model).features(pictures)
            features = source.features(pictures)
        torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(features, expected.roll(1, 1), atol=0.05)


def count_pictures(monkeypatch):
    """A list with the number of pictures, and their side, of each call of a tower."""
    seen, forward = [], GPT2vModel.vision_features

    def watched(model, pixel_values):
        seen.append((len(pixel_values), pixel_values.shape[-1]))
        return forward(model, pixel_values)

    monkeypatch.setattr(GPT2vModel, "vision_features", watched)
    return seen


def tiles_of(data):
    return {t for p in data.pictures(48) for t in p.grids.tiles[p.grids.inside].tolist()}


@given(st.sampled_from(sorted(MADE_OF_WINDOWS)), st.integers(0, 99))
def test_windows_are_squares_of_the_pictures(bank, name, start):
    data = dataset(bank, n=None, **MADE_OF_WINDOWS[name])
    grids = data.grids(np.arange(start, start + 4))
    (pictures,) = dataset(bank, n=4, **MADE_OF_WINDOWS[name]).pictures(48)
    pictures = dataclasses.replace(pictures, grids=grids)
    windows = as_windows(pictures, 16)
    squares = pictures.pixels.reshape(-1, 3, 16, 3, 16, 3).swapaxes(2, 3)
    np.testing.assert_array_equal(windows.pixels, squares.reshape(-1, 16, 16, 3))
    looks = {}
    for key, pixels in zip(windows.keys.tolist(), windows.pixels, strict=True):
        assert looks.setdefault(key, pixels.tobytes()) == pixels.tobytes()
    n_tiles = len(np.unique(grids.tiles[grids.inside]))
    assert len(looks) == n_tiles + (len(windows) > grids.n_cells.sum())


@pytest.mark.parametrize("name", MADE_OF_WINDOWS)
@pytest.mark.parametrize("layer", [-1, -2])
def test_features_are_exact_and_cached_for_each_tile(
    windowed, bank, tmp_path, monkeypatch, name, layer
):
    model = copy.deepcopy(windowed)
    model.config.vision_layer = layer
    data = dataset(bank, **MADE_OF_WINDOWS[name])
    config = FeaturesConfig(path=str(tmp_path), mode="require")
    source = picture_source(model, [data], config)
    assert source.whole is None
    n_tiles = len(tiles_of(data))
    assert n_tiles == 20
    is_full = name == "whole canvas"  # else one more row for an empty window
    assert source.windows.features.shape == (n_tiles + (not is_full), 4, 16)
    assert source.windows.origin.image_size == 16
    check_exact(model, source, data)
    seen = count_pictures(monkeypatch)
    again = picture_source(model, [data], config.model_copy(update={"mode": "auto"}))
    for pictures in data.pictures(48):
        again.features(pictures)
        assert again.n_seen(pictures) == 0
        again.prepare(pictures)
        assert "pixels" not in vars(pictures)
    assert seen == []


def test_pictures_with_tiles_that_are_not_cached_run_through_the_tower(
    windowed, bank, tmp_path, monkeypatch
):
    known, data = dataset(bank, 3), dataset(bank, 40)
    source = opened(windowed, known, tmp_path)
    check_exact(windowed, source, data)
    (pictures,) = data.pictures(48)
    tiles = np.where(pictures.grids.inside, pictures.grids.tiles, -1).reshape(40, -1)
    n_new = sum(not set(row.tolist()) <= tiles_of(known) | {-1} for row in tiles)
    assert 0 < n_new < 40
    seen = count_pictures(monkeypatch)
    source.features(pictures)
    assert seen == [(n_new, 48)]
    assert source.n_seen(pictures) == n_new
    source.prepare(pictures)
    assert "pixels" in vars(pictures)
    (none,) = dataset(bank, 4, rows=1, cols=1, picture={"background": [1, 2, 3]}).pictures(48)
    assert source.n_seen(none) == 4  # no window is cached at all
    torch.testing.assert_close(
        source.features(none), ProjectedPatches(windowed).features(none), rtol=1e-5, atol=1e-5
    )


def training(model, bank, table, tmp_path, mix, mode="auto"):
    data = DataConfig.model_validate({"batch_size": 4, "stages": [{"steps": 1, "mix": mix}]})
    config = helpers.mm_config("lm", features={"mode": mode, "path": str(tmp_path)})
    config = config.model_copy(update={"data": data})
    stream = Stream(data, Renderer(bank, table, model.token_geometry))
    return training_source(model, stream, config)


@pytest.mark.parametrize("name", OTHERS)
def test_other_pictures_are_cached_whole(windowed, bank, table, tmp_path, name):
    sizes = {"rows": [1, 2], "cols": 1} if name != "border" else {"rows": 2, "cols": [1, 2]}
    spec = {**GRID, **sizes, "picture": OTHERS[name]}
    data = dataset(bank, **spec)
    (pictures,) = data.pictures(48)
    assert as_windows(pictures, 16) is None
    source = opened(windowed, data, tmp_path)
    assert source.windows is None
    assert len(source.whole.keys) == len(set(pictures.keys.tolist()))
    assert source.whole.origin.image_size == 48
    check_exact(windowed, source, data)
    endless = "n_images: none, so that every picture is new"
    if name == "noisy cells":
        endless = "n_images: none, and no two pictures of a tile are equal"
    with pytest.raises(
        UserError, match=f"features.mode: require, but data.stages.0.mix.0.{endless}"
    ):
        training(windowed, bank, table, tmp_path, [spec], "require")


@pytest.mark.parametrize("window", [None, 8, 24, 48])
def test_other_windows_than_cells_are_not_cached(lm, bank, table, tmp_path, window):
    model = gpt2v_with(lm, table, window=window)
    data = dataset(bank)
    source = opened(model, data, tmp_path)
    assert source.windows is None
    check_exact(model, source, data)
    with pytest.raises(UserError, match="n_images: none, so that every picture is new"):
        training(model, bank, table, tmp_path, [GRID], "require")


def test_augmented_tiles_are_new_at_every_step(windowed, bank, table, tmp_path, monkeypatch):
    varied = dataclasses.replace(bank, augment=TileAugmentConfig(flip=True))
    with pytest.raises(UserError, match="n_images: none, so that every picture is new"):
        training(windowed, varied, table, tmp_path, [GRID], "require")
    model = copy.deepcopy(windowed)
    model.vision_tower.requires_grad_(False)
    source = training(model, varied, table, tmp_path, [{**GRID, "n_images": 6}], "require")
    source.begin()
    seen = count_pictures(monkeypatch)
    spec = GridConfig.model_validate({**GRID, "n_images": 6})
    for split in ("train", "val"):  # of which the second is not augmented
        for pictures in GridDataset(spec, varied, split=split, n=6).pictures(48):
            assert (as_windows(pictures, 16) is None) == (split == "train")
            with torch.no_grad():
                features = source.features(pictures)
                assert seen == []
                expected = ProjectedPatches(model).features(pictures)
            seen.clear()
            torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_another_tower_has_another_cache(windowed, bank, tmp_path):
    data = dataset(bank)
    first = opened(windowed, data, tmp_path)
    other = copy.deepcopy(windowed)
    other.vision_tower.get_buffer("layers.1.norm.running_var").mul_(1.5)
    second = opened(other, data, tmp_path)
    assert first.windows.origin.name != second.windows.origin.name
    check_exact(other, second, data)
    assert not np.allclose(first.windows.features, second.windows.features, atol=1e-3)
    assert opened(copy.deepcopy(windowed), data, tmp_path).windows.origin == first.windows.origin


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder_path(windowed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tower")
    windowed.vision_tower.save_pretrained(folder)
    return str(folder)


def trained(lm_run, encoder_path, bank, run, mix, mode="require"):
    """The losses of a training with a frozen tower."""
    config = helpers.mm_config(
        lm_run,
        vision={},
        encoder=encoder_path,
        features={"mode": mode, "path": str(run.parent / "cache")},
        data={"batch_size": 4, "stages": [{"steps": 4, "mix": mix}]},
        train={**helpers.TINY_MM["train"], "groups": FROZEN, "log_every": 1},
    )
    run.mkdir()
    train_mm(config, run, bank)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_training_on_ever_new_grids_needs_the_features_of_its_tiles(
    lm_run, encoder_path, bank, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "cached"
    live = trained(lm_run, encoder_path, bank, tmp_path / "off", [GRID], "off")
    seen = count_pictures(monkeypatch)
    np.testing.assert_allclose(trained(lm_run, encoder_path, bank, run, [GRID]), live, rtol=1e-4)
    (cache,) = (tmp_path / "cache").iterdir()
    n_tiles = sum(len(bank.tiles(split)) for split in ("train", "val"))
    assert len(np.load(cache / KEYS)) == n_tiles + 1
    assert {side for _, side in seen} == {16}
    assert sum(n for n, _ in seen) == n_tiles + 1
    # Other grids of the same tiles, as one picture or several, need no other features.
    seen.clear()
    capsys.readouterr()
    mix = [{**GRID, "cols": 2}, {**GRID, "rows": 1, "picture": {"layout": "multi"}}]
    trained(lm_run, encoder_path, bank, tmp_path / "mixed", mix)
    assert seen == []
    out = re.findall("features: .*", capsys.readouterr().out)
    line = f"features: {n_tiles + 1} pictures x 4 x 16, 0.06 MB, from {cache}"
    assert set(out) == {line}  # when the run is checked, and when its stage begins

    def measured(mode):
        values = {
            "tiles": helpers.TINY_TILES,
            "grid": {"rows": 2, "cols": [1, 3]},
            "n_images": 30,
            "modalities": ["image"],
        }
        settings = {"mode": mode, "path": str(tmp_path / "cache")}
        config = EvalConfig.model_validate({**values, "features": settings})
        (tmp_path / mode).mkdir()
        return evaluate_model(str(run), config, tmp_path / mode)["results"]

    plain = measured("auto")
    assert {side for _, side in seen} == {48}
    seen.clear()
    assert measured("require") == plain
    assert {side for _, side in seen} == {16}
    assert sum(n for n, _ in seen) <= len(bank.tiles("test")) + 1
    model = load_pretrained(GPT2vModel, find_checkpoint(str(run), "mm"), "mm").eval()
    assert model.config.vision_config.window == 16


def test_pictures_of_both_kinds_have_a_cache_each(lm_run, encoder_path, bank, tmp_path):
    mix = [GRID, {**GRID, "cols": 2, "n_images": 8, "picture": {"gap": 3}}]
    live = trained(lm_run, encoder_path, bank, tmp_path / "off", mix, "off")
    cached = trained(lm_run, encoder_path, bank, tmp_path / "on", mix)
    np.testing.assert_allclose(cached, live, rtol=1e-4)
    shapes = {np.load(f / "features.npy").shape[1:] for f in (tmp_path / "cache").iterdir()}
    assert shapes == {(4, 16), (36, 16)}
