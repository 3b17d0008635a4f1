"""Trainings with the convolutional tower: its statistics in checkpoints, averages and caches."""

import copy
import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import helpers
from gpt2v.cli.main import main
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.encoder_train.train import train_encoder
from gpt2v.features.store import encoder_hash, open_features
from gpt2v.features.stored import StoredPatches
from gpt2v.mm_train.train import build_gpt2v, train_mm
from gpt2v.model.clip import new_clip
from gpt2v.model.conv import ConvVisionModel
from gpt2v.model.encoders import load_encoder
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.train.ema import Averages, running_statistics
from gpt2v.train.training import Training

TOWER = {"name": "conv", "image_size": 48, "widths": [16, 32]}
FROZEN = [
    {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0},
    {"name": "rest", "pattern": "", "lr": 0.003, "optimizer": "muon"},
]
TRAINED = [{"name": "all", "pattern": "", "lr": 0.003, "optimizer": "muon"}]
GRID = {"rows": 1, "cols": 2, "modality": "image", "picture": {"layout": "multi"}}


def encoder_config(steps=3, **train):
    train = {**helpers.TINY_ENCODER["train"], "warmup": 0, "log_every": 1, "save_every": 1, **train}
    values = {**helpers.TINY_ENCODER, "vision": TOWER, "steps": steps, "train": train}
    return EncoderConfig.model_validate(values)


@pytest.fixture(scope="module")
def encoder_run(bank, tmp_path_factory):
    """A tower that has begun to learn, in an encoder."""
    run = tmp_path_factory.mktemp("encoder")
    train_encoder(encoder_config(), run, bank)
    return run


def checkpoint(run, step):
    """Weights, and the state of the training."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    return load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")


def buffers(tensors):
    return {name: t for name, t in tensors.items() if "running_" in name or name.endswith("stem")}


def same(a, b):
    assert a.keys() == b.keys()
    return {name for name in a if torch.equal(a[name], b[name])}


# ---- encoder train -------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_resumed_encoder_repeats_the_uninterrupted_one(bank, tmp_path, monkeypatch, ema):
    config = encoder_config(3, ema=ema, accumulate=2, keep=9)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    train_encoder(config, tmp_path / "whole", bank)
    step = Training.step

    def failing(training, at, *rest):
        if at == 2:
            raise KeyError("power cut")
        return step(training, at, *rest)

    monkeypatch.setattr(Training, "step", failing)
    with pytest.raises(KeyError):
        train_encoder(config, tmp_path / "cut", bank)
    monkeypatch.setattr(Training, "step", step)
    train_encoder(config, tmp_path / "cut", bank)
    whole, resumed = (checkpoint(tmp_path / name, 3) for name in ("whole", "cut"))
    for mine, theirs in zip(whole, resumed, strict=True):
        assert same(mine, theirs) == mine.keys()
    assert len(buffers(whole[0])) == 9
    assert bool(buffers(whole[1])) == bool(ema)
    results = [
        json.loads((tmp_path / name / "results.json").read_text())["results"]
        for name in ("whole", "cut")
    ]
    assert results[0] == results[1]


def test_pretraining_changes_the_statistics_and_not_the_stem(bank, encoder_run):
    first, last = (buffers(checkpoint(encoder_run, step)[0]) for step in (2, 3))
    assert same(first, last) == {"vision_model.stem"}
    assert load_encoder(str(encoder_run / "checkpoints/step-000003")).tower.stem.equal(
        last["vision_model.stem"]
    )


def test_the_averages_of_statistics_are_averages(bank, tmp_path):
    """Of those after each step, which are also saved."""
    (tmp_path / "run").mkdir()
    train_encoder(encoder_config(3, ema=0.5, keep=9), tmp_path / "run", bank)
    saved = [checkpoint(tmp_path / "run", step) for step in (1, 2, 3)]
    averages = {name: b for name, b in buffers(saved[0][0]).items() if "running" in name}
    for n, (weights, state) in enumerate(saved[1:], start=2):
        decay = min(0.5, (1 + n) / (10 + n))
        for name, average in averages.items():
            average = decay * average + (1 - decay) * state[f"raw/{name}"]
            torch.testing.assert_close(weights[name], average)
            averages[name] = weights[name]
    assert len(averages) > 3
    assert all(not saved[2][1][f"raw/{name}"].equal(b) for name, b in averages.items())
    assert not any("stem" in name for name in saved[2][1])  # it never changes


def test_averages_of_buffers_return_when_the_model_has_its_own_again(tokenizer):
    torch.manual_seed(0)
    model = new_clip(encoder_config(), tokenizer)
    averages = Averages(model, 0.5, set())
    before = {name: b.clone() for name, b in running_statistics(model).items()}
    for b in running_statistics(model).values():
        b.add_(1)
    averages.update(100)
    with averages.in_place():
        for name, b in running_statistics(model).items():
            torch.testing.assert_close(b, before[name] + 0.5)
    for name, b in running_statistics(model).items():
        torch.testing.assert_close(b, before[name] + 1)
    assert averages._averages.keys() == before.keys()


# ---- MM-Train ------------------------------------------------------------------------------------


def mm_config(lm_run, encoder_run, groups, tmp_path, features="off", mix=GRID, **train):
    return helpers.mm_config(
        lm_run,
        vision={},
        encoder=str(encoder_run),
        features={"mode": features, "path": str(tmp_path / "cache")},
        data={"batch_size": 4, "stages": [{"steps": 4, "mix": [mix]}]},
        train={**helpers.TINY_MM["train"], "groups": groups, "log_every": 1, **train},
    )


def trained(config, run, bank):
    """The weights of the tower, and the losses."""
    run.mkdir()
    train_mm(config, run, bank)
    (folder,) = (run / "checkpoints").iterdir()
    weights = load_file(folder / "model.safetensors")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    start = "vision_tower."
    return {k.removeprefix(start): w for k, w in weights.items() if k.startswith(start)}, losses


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_frozen_tower_stays_and_a_trained_one_keeps_its_statistics(
    bank, lm_run, encoder_run, tmp_path, ema
):
    before = load_encoder(str(encoder_run / "checkpoints/step-000003")).tower.state_dict()
    frozen = mm_config(lm_run, encoder_run, FROZEN, tmp_path, ema=ema)
    after, _ = trained(frozen, tmp_path / "frozen", bank)
    assert same(before, after) == before.keys()
    training = mm_config(lm_run, encoder_run, TRAINED, tmp_path, ema=ema)
    after, _ = trained(training, tmp_path / "trained", bank)
    assert same(before, after) == buffers(before).keys()


def test_cached_features_train_like_the_tower(bank, lm_run, encoder_run, tmp_path):
    runs = {
        mode: trained(mm_config(lm_run, encoder_run, FROZEN, tmp_path, mode), tmp_path / mode, bank)
        for mode in ("off", "require")
    }
    np.testing.assert_allclose(runs["off"][1], runs["require"][1], rtol=1e-4)
    (cache,) = (tmp_path / "cache").iterdir()
    n_tiles = sum(len(bank.tiles(split)) for split in ("train", "val"))
    assert np.load(cache / "features.npy").shape == (n_tiles, 144, 32)


def test_a_cache_belongs_to_statistics_and_stem(bank, lm_run, encoder_run, tmp_path):
    model, _ = build_gpt2v(mm_config(lm_run, encoder_run / "checkpoints/step-000003", TRAINED,
                                     tmp_path))  # fmt: skip
    spec = GridConfig.model_validate(GRID)
    listing = lambda: GridDataset(spec, bank, split="test", n=20).pictures(48)  # noqa: E731
    store = open_features(model, bank, listing, FeaturesConfig(path=str(tmp_path / "cache")))
    assert len(store.keys) == len({key for pictures in listing() for key in pictures.keys})
    for pictures in listing():
        with torch.no_grad():
            cached = StoredPatches(model, store).features(pictures)
            live = ProjectedPatches(model).features(pictures)
        torch.testing.assert_close(cached, live, rtol=1e-4, atol=1e-5)
    before, hashes = encoder_hash(model), []
    for name in dict(model.vision_tower.named_buffers()):
        other = copy.deepcopy(model)
        other.vision_tower.get_buffer(name)[0] += 1e-4
        hashes.append(encoder_hash(other))
    assert encoder_hash(copy.deepcopy(model)) == before
    assert len({before, *hashes}) == len(hashes) + 1 == 10


def test_every_command_takes_the_tower(lm_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tower = {**TOWER, "depth": 1, "window": None}
    helpers.write_yaml(tmp_path / "encoder.yaml", {**helpers.TINY_ENCODER, "vision": tower})
    mm = {**helpers.TINY_MM, "lm": str(lm_run), "encoder": "encoder"}
    del mm["vision"]
    helpers.write_yaml(tmp_path / "mm.yaml", mm)
    grid = {"rows": 1, "cols": 2}
    measured = {"tiles": helpers.TINY_TILES, "grid": grid}
    helpers.write_yaml(tmp_path / "eval.yaml", {**measured, "n_images": 20})
    probe = {**measured, "model": "mm", **helpers.QUICK_PROBE}
    helpers.write_yaml(tmp_path / "probe.yaml", probe)

    def run(*argv):
        assert main(list(argv)) == 0, capsys.readouterr().err

    run("encoder", "train", "encoder.yaml", "--out", "encoder")
    run("mm", "train", "mm.yaml", "--out", "mm")
    written = yaml.safe_load((tmp_path / "mm/config.yaml").read_text())["vision"]
    assert written.items() >= tower.items()
    run("eval", "mm", "--suite", "eval.yaml", "--out", "eval")
    assert json.loads((tmp_path / "eval/results.json").read_text())["results"]
    run("ask", "mm", "--seed", "1")
    run("probe", "probe.yaml", "--out", "probe")
    results = json.loads((tmp_path / "probe/results.json").read_text())
    assert results["vision_layer"] == -1
    sites = {(row["site"], row["layer"]) for row in results["results"]}
    assert sites == {("pre-projector", None), ("vision", 0)}


def test_layers_are_only_called():
    """As sharding needs it."""
    called = []
    tower = ConvVisionModel(ConvVisionModel.config_class(image_size=16, widths=[8, 8]))
    for layer in tower.layers:
        layer.register_forward_hook(lambda module, *_: called.append(module))
    tower(torch.zeros(1, 3, 16, 16))
    assert called == list(tower.layers)
