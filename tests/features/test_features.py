"""The cache of frozen features: exact, checked, and only for the same tower, layer and tiles."""

import copy
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch

import helpers
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import GridConfig
from gpt2v.config.measuring import EvalConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.pictures import TileAugmentConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import evaluate_model
from gpt2v.features import store as store_module
from gpt2v.features.sources import CachedPatches, training_source
from gpt2v.features.store import FEATURES, KEYS, META, open_features
from gpt2v.features.stored import StoredPatches
from gpt2v.mm_train.train import train_mm
from gpt2v.model.files import load_pretrained
from gpt2v.model.flops import stream_flops
from gpt2v.model.found import find_checkpoint
from gpt2v.model.gpt2v import GPT2vModel
from gpt2v.model.packed import Reader
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.storage.cache import cache_folder

SPEC = GridConfig(rows=[1, 2], cols=2, modality="image")
MULTI = SPEC.model_copy(update={"picture": SPEC.picture.model_copy(update={"layout": "multi"})})
FROZEN = [
    {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0},
    {"name": "rest", "pattern": "", "lr": 0.003},
]
SMALL = {"rows": 1, "cols": 2, "modality": "image"}


def listing(bank, spec=SPEC, n=60):
    return lambda: GridDataset(spec, bank, split="test", n=n).pictures(48)


def opened(gpt2v, bank, path, spec=SPEC, n=60, **options):
    return open_features(gpt2v, bank, listing(bank, spec, n), FeaturesConfig(path=str(path)),
                         **options)  # fmt: skip


class Watched:
    """Counts the pictures that a vision tower sees, and those that are drawn."""

    def __init__(self, monkeypatch, model=None):
        self.seen = self.drawn = 0
        towers = model.vision_tower if model else None
        forward = GPT2vModel.vision_features
        compose = store_module.Pictures.pixels.func

        def watched(inner, pixel_values):
            if towers is None or inner.vision_tower is towers:
                self.seen += len(pixel_values)
            return forward(inner, pixel_values)

        def pixels(pictures):
            self.drawn += len(pictures)
            return compose(pictures)

        monkeypatch.setattr(GPT2vModel, "vision_features", watched)
        monkeypatch.setattr(store_module.Pictures, "pixels", property(pixels))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("spec", [SPEC, MULTI])
@pytest.mark.parametrize("class_token", [False, True])
def test_cached_features_equal_those_of_the_tower(
    gpt2v, bank, tmp_path, spec, class_token, precision
):
    model = copy.deepcopy(gpt2v)
    model.config.class_token = class_token
    store = opened(model, bank, tmp_path, spec, precision=precision)
    assert store.features.shape[1:] == (36 + class_token, 16)
    assert (np.diff(store.keys.astype(object)) > 0).all()
    near = {"rtol": 1e-5, "atol": 1e-5} if precision == "fp32" else {"rtol": 1e-3, "atol": 1e-2}
    for pictures in listing(bank, spec)():
        assert store.find(pictures.keys)[1].all()
        half = torch.float16 if precision == "fp16" else torch.bfloat16
        with torch.no_grad(), torch.autocast("cpu", half, precision != "fp32"):
            expected = ProjectedPatches(model).features(pictures)
            features = StoredPatches(model, store).features(pictures)
        torch.testing.assert_close(features, expected, **near)
        assert not torch.allclose(features, expected.roll(1, 0), atol=0.05)


def test_a_frozen_tower_has_no_dropout(gpt2v):
    model = copy.deepcopy(gpt2v).train()
    for module in model.vision_tower.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.5
    x = torch.randn(2, 3, 48, 48)

    def steady():
        return torch.equal(model.vision_features(x), model.vision_features(x))

    assert not steady()
    model.vision_tower.requires_grad_(False)
    assert steady()
    model.vision_tower.requires_grad_(True)
    assert not steady()
    model.eval()
    assert steady()


def test_the_tower_sees_only_pictures_that_are_not_cached(gpt2v, bank, tmp_path, monkeypatch):
    source = StoredPatches(gpt2v, opened(gpt2v, bank, tmp_path, n=30))
    with torch.no_grad():
        (mixed,) = listing(bank, n=40)()
        n_new = len(set(mixed.keys.tolist()) - set(source.whole.keys.tolist()))
        assert 5 < n_new <= 10
        expected = ProjectedPatches(gpt2v).features(mixed)
        watched = Watched(monkeypatch)
        torch.testing.assert_close(source.features(mixed), expected, rtol=1e-5, atol=1e-5)
    assert n_new <= watched.seen <= 10
    assert source.n_seen(mixed) == watched.seen


def test_the_predicted_size_is_the_real_one(gpt2v, bank, tmp_path, capsys):
    store = opened(gpt2v, bank, tmp_path, MULTI)
    (line,) = capsys.readouterr().out.splitlines()
    folder = tmp_path / store.origin.name
    assert line == f"features: 20 pictures x 36 x 16, 0.05 MB, into {folder}"
    header = 128
    assert (folder / FEATURES).stat().st_size - header == store.origin.n_bytes == 20 * 36 * 16 * 4
    opened(gpt2v, bank, tmp_path, MULTI)
    assert f"0.05 MB, from {folder}" in capsys.readouterr().out


def flip(path, index):
    content = bytearray(path.read_bytes())
    content[index] ^= 1
    path.write_bytes(content)


def damage(name):
    """All types of damage to a file."""
    return {
        "first byte": lambda folder: flip(folder / name, 0),
        "a byte": lambda folder: flip(folder / name, (folder / name).stat().st_size // 2),
        "last byte": lambda folder: flip(folder / name, -3),
        "cut short": lambda folder: (folder / name).write_bytes(
            (folder / name).read_bytes()[:-100]
        ),
        "longer": lambda folder: (folder / name).open("ab").write(b"x" * 64),
        "missing": lambda folder: (folder / name).unlink(),
    }


@pytest.mark.parametrize("name", [FEATURES, KEYS, META])
@pytest.mark.parametrize("kind", list(damage("")))
def test_a_damaged_cache_is_named_and_made_again(gpt2v, bank, tmp_path, capsys, name, kind):
    store = opened(gpt2v, bank, tmp_path, n=10)
    folder = tmp_path / store.origin.name
    expected = np.array(store.features)
    damage(name)[kind](folder)
    capsys.readouterr()
    again = opened(gpt2v, bank, tmp_path, n=10)
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert re.fullmatch(
        rf"gpt2v: features: {folder}: {name} is (damaged|missing|damaged or missing); "
        "making it again|.* was made from another [a-z_]+; making it again",
        line,
    )
    assert f"into {folder}" in printed.out
    np.testing.assert_array_equal(again.features, expected)
    opened(gpt2v, bank, tmp_path, n=10)
    assert capsys.readouterr().err == ""


def changed(what, gpt2v, bank):
    """The model, bank, spec and options of a cache of something else."""
    model, spec, options = copy.deepcopy(gpt2v), SPEC, {}
    if what == "encoder":
        next(model.vision_tower.parameters()).data[..., 0] += 1e-3
    elif what == "layer":
        model.config.vision_layer = -1
    elif what == "image_mean":
        model.config.image_mean = [0.5, 0.5, 0.5]
    elif what == "precision":
        options["precision"] = "bf16"
    elif what == "bank":

        def paint(pixels, labels):
            painted = pixels.copy()
            painted[-1, 0, 0, 0] ^= 1
            return painted

        bank = helpers.repainted(bank, paint)
    else:
        spec = SPEC.model_copy(update={"picture": SPEC.picture.model_copy(update={"gap": 1})})
    return model, bank, spec, options


@pytest.mark.parametrize(
    "what", ["encoder", "layer", "image_mean", "precision", "bank", "pictures"]
)
def test_a_stale_cache_is_refused(gpt2v, bank, tmp_path, capsys, what):
    """By its name; and if it has the name of another cache, by its meta.json."""
    model, other_bank, spec, options = changed(what, gpt2v, bank)
    stale = opened(model, other_bank, tmp_path / "stale", spec, n=10, **options)
    mine = opened(gpt2v, bank, tmp_path, n=10)
    assert stale.origin.name != mine.origin.name
    folder = tmp_path / mine.origin.name
    expected = np.array(mine.features)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "stale" / stale.origin.name, folder)
    capsys.readouterr()
    again = opened(gpt2v, bank, tmp_path, n=10)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"was made from another {what}; making it again")
    np.testing.assert_array_equal(again.features, expected)


def test_an_interrupted_build_leaves_nothing(gpt2v, bank, tmp_path, monkeypatch):
    calls = []
    compute = store_module._compute

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(store_module, "_compute", failing)
    with pytest.raises(KeyboardInterrupt):
        opened(gpt2v, bank, tmp_path, n=100)
    assert not list(tmp_path.iterdir())
    assert len(opened(gpt2v, bank, tmp_path, n=100).keys) > 50


def test_too_little_memory_leaves_nothing(gpt2v, bank, tmp_path, monkeypatch):
    def too_large(model, pixels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(GPT2vModel, "vision_features", too_large)
    says = r"vision tower on 20 pictures: out of memory \(CUDA out of memory.* smaller image_size"
    with pytest.raises(UserError, match=says):
        opened(gpt2v, bank, tmp_path, n=20)
    assert not list(tmp_path.iterdir())


def test_a_cache_without_room_or_too_large_is_refused(gpt2v, bank, tmp_path, monkeypatch):
    small = FeaturesConfig(path=str(tmp_path), max_gb=1e-5)
    with pytest.raises(UserError, match=r"20 pictures x 36 x 16, .*features\.max_gb: 1e-05"):
        open_features(gpt2v, bank, listing(bank, MULTI), small)
    usage = shutil.disk_usage(tmp_path)._replace(free=4000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.05 MB, but .* has only 0\.00 MB of free space"):
        opened(gpt2v, bank, tmp_path, MULTI)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        opened(gpt2v, bank, tmp_path / "file", MULTI)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ---- in training -----------------------------------------------------------------------------


def config_of(lm_run, tmp_path, mix, features="auto", groups=FROZEN, steps=6, **train):
    data = {"batch_size": 5, "stages": [{"steps": steps, "mix": mix}]}
    train = {**helpers.TINY_MM["train"], "groups": groups, "eval_grids": 7, **train}
    settings = {"mode": features, "path": str(tmp_path / "cache")}
    return helpers.mm_config(lm_run, data=data, train=train, features=settings)


def trained(config, run, bank):
    """Final weights, and every loss."""
    run.mkdir(exist_ok=True)
    train_mm(config, run, bank)
    model = load_pretrained(GPT2vModel, find_checkpoint(str(run), "mm"), "mm")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return model.state_dict(), [line["loss"] for line in lines if "loss" in line]


VARIED = {"cols": [1, 2], "modality": "image", "n_images": 8}
MIXES = {
    "composite": [{**SMALL, "n_images": 8}],
    "multi": [{**SMALL, "cols": [1, 3], "picture": {"layout": "multi"}}],
    "multi, few": [{**VARIED, "rows": 1, "picture": {"layout": "multi", "resize": True}}],
    "with words": [{**SMALL, "n_images": 8}, {"rows": 1, "cols": 2}],
    "both, asked in a row": [{**SMALL, "n_images": 8, "modality": "text+image", "mode": "chained"}],
    "noisy": [{**SMALL, "n_images": 8, "picture": {"noise": 5.0}}],
    "in part": [{**SMALL, "n_images": 8}, SMALL],
}


@pytest.mark.parametrize("name", MIXES)
def test_training_with_the_cache_equals_training_without(bank, lm_run, tmp_path, name):
    results = [
        trained(config_of(lm_run, tmp_path, MIXES[name], mode, log_every=1), tmp_path / mode, bank)
        for mode in ("off", "auto")
    ]
    assert (tmp_path / "cache").is_dir()
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    assert len(results[0][1]) == 6
    for key, weight in results[0][0].items():
        torch.testing.assert_close(results[1][0][key], weight, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["composite", "multi"])
def test_the_tower_sees_every_picture_once_and_none_is_drawn_again(
    bank, lm_run, tmp_path, monkeypatch, name
):
    config = config_of(lm_run, tmp_path, MIXES[name], "require", steps=12, eval_every=4)
    watched = Watched(monkeypatch)
    trained(config, tmp_path / "one", bank)
    (folder,) = (tmp_path / "cache").iterdir()
    n_kept = len(np.load(folder / KEYS))
    assert n_kept == {"composite": 8 + 7, "multi": 220}[name]
    assert watched.seen == n_kept
    before = watched.drawn
    trained(config, tmp_path / "two", bank)
    assert (watched.seen, watched.drawn) == (n_kept, before)


def test_a_training_with_the_cache_resumes_bit_for_bit(bank, lm_run, tmp_path, monkeypatch):
    config = config_of(lm_run, tmp_path, MIXES["composite"], save_every=2, log_every=1)
    whole = trained(config, tmp_path / "whole", bank)
    batch = Stream.batch

    def failing(stream, step, part=0, parts=1):
        if step == 3:  # in the second epoch of eight
            raise KeyError("power cut")
        return batch(stream, step, part, parts)

    monkeypatch.setattr(Stream, "batch", failing)
    with pytest.raises(KeyError):
        trained(config, tmp_path / "cut", bank)
    monkeypatch.setattr(Stream, "batch", batch)
    resumed = trained(config, tmp_path / "cut", bank)
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][key], weight) for key, weight in whole[0].items())


@pytest.mark.parametrize(
    ("mix", "groups", "reason"),
    [
        (SMALL, FROZEN, r"data\.stages\.0\.mix\.0\.n_images: none, so that every picture"),
        (
            {**SMALL, "picture": {"layout": "multi", "noise": 3.0}},
            FROZEN,
            "no two pictures of a tile",
        ),
        ({**SMALL, "n_images": 8}, FROZEN[1:], "the vision tower trains"),
    ],
)
def test_the_reason_for_no_cache_is_printed(bank, lm_run, tmp_path, capsys, mix, groups, reason):
    trained(config_of(lm_run, tmp_path, [mix], groups=groups), tmp_path / "run", bank)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("features")]
    assert len(lines) == 1
    assert re.match(f"features: not cached: .*{reason}", lines[0])
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UserError, match=f"features.mode: require, but .*{reason}"):
        trained(config_of(lm_run, tmp_path, [mix], "require", groups), tmp_path / "run2", bank)


def test_augmented_tiles_are_cached_if_the_number_of_pictures_is_finite(bank, lm_run, tmp_path):
    varied = dataclasses.replace(bank, augment=TileAugmentConfig(noise=9.0))
    results = [
        trained(config_of(lm_run, tmp_path, MIXES["composite"], mode), tmp_path / mode, varied)
        for mode in ("off", "require")
    ]
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    with pytest.raises(UserError, match="no two pictures of a tile"):
        trained(config_of(lm_run, tmp_path, MIXES["multi"], "require"), tmp_path / "no", varied)


def test_a_tower_that_has_trained_in_between_gets_another_cache(gpt2v, bank, table, tmp_path):
    """As in a plan of stages that trains the tower in some of them."""
    model = copy.deepcopy(gpt2v).train()
    data = DataConfig.model_validate(
        {"batch_size": 4, "stages": [{"steps": 1, "mix": [{**SMALL, "n_images": 6}]}]}
    )
    stream = Stream(data, Renderer(bank, table, model.token_geometry))
    config = config_of("lm", tmp_path, MIXES["composite"]).model_copy(update={"data": data})
    source = training_source(model, stream, config, trains=True)
    assert isinstance(source, CachedPatches)
    batch = stream.batch(0)

    def right():
        with torch.no_grad():
            expected = model.vision_features(model.normalise(batch.pixels))
            return torch.allclose(source.features(batch.pictures), expected, atol=1e-5)

    def n_caches():
        return len(list((tmp_path / "cache").glob("*")))

    source.begin()
    assert right()  # it trains
    assert n_caches() == 0
    model.vision_tower.requires_grad_(False)
    source.begin()
    assert right()
    assert n_caches() == 1
    model.vision_tower.requires_grad_(True)
    with torch.no_grad():
        for p in model.vision_tower.parameters():
            p.mul_(1.1)
    source.begin()
    assert right()
    assert n_caches() == 1
    model.vision_tower.requires_grad_(False)
    assert right()  # outside of a stage: uses neither a new cache nor the old one
    assert n_caches() == 1
    source.begin()
    assert right()
    assert n_caches() == 2
    parameter = next(
        model.vision_tower.parameters()
    )  # as if averages of the weights were validated
    own = parameter.data
    parameter.data = own + 0.5
    assert right()
    parameter.data = own
    assert right()
    source.begin()
    assert n_caches() == 2
    reader = Reader.of(model, source)
    assert stream_flops(reader, batch) < stream_flops(Reader.of(model), batch)


def test_gradients_reach_the_projector_and_not_the_tower(gpt2v, bank, tmp_path, table):
    model = copy.deepcopy(gpt2v)
    source = StoredPatches(model, opened(model, bank, tmp_path, n=5))
    render = Renderer(bank, table, model.token_geometry)
    data = GridDataset(SPEC, bank, split="test", n=8)  # three of them are not cached
    (batch,) = data.batches("image", render, with_choices=False)
    source(batch).square().sum().backward()
    assert all(p.grad is None for p in model.vision_tower.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in model.projector.parameters())


# ---- evaluations ------------------------------------------------------------------


def test_evaluations_share_a_cache(mm_run, bank, tmp_path, monkeypatch):
    settings = {"path": str(tmp_path / "cache")}
    grid = {"rows": 1, "cols": 2}
    values = {"tiles": helpers.TINY_TILES, "seed": 3}

    def measured(mode, name):
        config = EvalConfig.model_validate(
            {**values, "grid": grid, "n_images": 60, "features": {**settings, "mode": mode}}
        )
        (tmp_path / name).mkdir()
        return evaluate_model(str(mm_run), config, tmp_path / name)["results"]

    plain = measured("off", "plain")
    watched = Watched(monkeypatch)
    assert measured("auto", "none yet") == plain
    assert watched.seen == 60
    assert not (tmp_path / "cache").exists()
    watched.seen = 0
    assert measured("require", "made") == plain
    assert 20 < watched.seen <= 60
    watched.seen = watched.drawn = 0
    assert measured("auto", "found") == plain
    assert (watched.seen, watched.drawn) == (0, 0)


def test_the_cache_is_in_the_user_s_cache_folder(gpt2v, bank, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = open_features(gpt2v, bank, listing(bank, n=4), FeaturesConfig())
    assert (tmp_path / "gpt2v" / "features" / store.origin.name / META).is_file()
    assert cache_folder("features") == tmp_path / "gpt2v" / "features"
