"""Everything that runs a model gives the same on an accelerator as on the CPU, and waits for the
accelerator seldom. The accelerator is pretended."""

import json
import shutil
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import gpt2v
import helpers
import pretended_device
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.sites import sites_of
from gpt2v.config.training import GenerateConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.features.store import open_features
from gpt2v.features.stored import StoredPatches
from gpt2v.hardware.device import hardware
from gpt2v.lm_train.sample import generate
from gpt2v.model.changes import changed
from gpt2v.model.load import load_model
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer
from gpt2v.model.states import picture_states, random_tower, text_states
from gpt2v.probing.causal import in_cell
from gpt2v.run_layout import checkpoints_of
from pretended_device import NAME, pretended
from training_syncs import Trainings, syncs_of

pytestmark = pytest.mark.skipif(
    bool(pretended_device.MISSING), reason=pretended_device.MISSING or "it is there"
)

KINDS = ("grids", "text", "pictures", "cached_pictures", "encoder")

READS_PER_STEP = 1  # how often a training waits for values of its device: never in a micro-batch


@pytest.fixture(scope="module")
def trainings(tmp_path_factory, bank, lm_run):
    return Trainings(tmp_path_factory.mktemp("trainings"), bank, lm_run)


def on_both(work):
    """What `work` returns on the CPU and on the device."""
    with hardware("cpu"):
        there = work()
    with pretended():
        return there, work()


def assert_near(found, expected, tolerance=1e-6, key=""):
    """Nested results are equal, but for rounding."""
    assert type(found) is type(expected), key
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), key
        for name in expected:
            assert_near(found[name], expected[name], tolerance, f"{key}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), key
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_near(a, b, tolerance, f"{key}.{i}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance, rel=tolerance, nan_ok=True), key
    else:
        assert found == expected, key


# ---- training --------------------------------------------------------------------------------


def log_of(run):
    """The lines of metrics.jsonl, without what depends on the machine."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    same = ("step", "stage", "loss", "lr", "grad_norm", "data")
    return [{k: v for k, v in x.items() if k in same or k.startswith("val/")} for x in lines]


def results_of(run):
    return json.loads((run / "results.json").read_text())


def weights_of(run):
    return load_file(checkpoints_of(run)[-1] / "model.safetensors")


def is_noise(name, value):
    """Where a weight has no effect: adding one vector to all keys changes no attention.

    AdamW turns the rounding errors of its gradient into whole steps.
    """
    noise = torch.zeros_like(value, dtype=torch.bool)
    if name.endswith("k_proj.bias"):
        noise[:] = True
    elif name.endswith("c_attn.bias"):
        noise.chunk(3)[1][:] = True
    return noise


def assert_same_training(run, expected):
    assert results_of(run)["hardware"]["device"].startswith(NAME)
    assert not results_of(expected)["hardware"]["device"].startswith(NAME)
    losses = [[line["loss"] for line in log_of(r) if "loss" in line] for r in (run, expected)]
    assert len(set(losses[1])) == len(losses[1]) == 4
    assert_near(losses[0], losses[1], 1e-5)
    assert_near(log_of(run), log_of(expected), 1e-3)  # also norms and validation
    assert_near(results_of(run)["results"], results_of(expected)["results"], 1e-3)
    weights, others = weights_of(run), weights_of(expected)
    assert weights.keys() == others.keys()
    for name, value in others.items():
        other = torch.where(is_noise(name, value), value, weights[name])
        torch.testing.assert_close(other, value, rtol=0, atol=2e-4)


def compared(tmp_path, train):
    """Train on the CPU and on the device; compare each step, validation, and saved averages."""
    for name in ("cpu", "device"):
        (tmp_path / name).mkdir()
        with hardware("cpu") if name == "cpu" else pretended():
            train(tmp_path / name, 4, 2, log_every=1, eval_every=2, save_every=2, ema=0.5)
    assert_same_training(tmp_path / "device", tmp_path / "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_logs_and_saves_what_it_does_on_the_cpu(trainings, tmp_path, kind):
    compared(tmp_path, getattr(trainings, kind))


def test_a_training_on_text_and_pictures_in_turn(trainings, tmp_path):
    compared(tmp_path, trainings.mixed)


MODELS = {
    "linear": {"projector": "linear", "class_token": True},
    "average": {"projector": "average", "pool": 2},
    "pixel-shuffle": {"projector": "pixel-shuffle", "pool": 2},
    "convex": {"projector": "convex"},
    "spliced-text": {"vision_tokens": "spliced-text"},
    "cell-embeddings": {"vision_tokens": "cell-embeddings"},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_projector_and_token_source(trainings, tmp_path, name):
    compared(tmp_path, partial(trainings.pictures, model=MODELS[name]))


@pytest.mark.parametrize("family", ["clip", "siglip", "dinov2"])
def test_every_family_of_towers(trainings, tmp_path, family):
    encoder = helpers.tower_checkpoint(family, tmp_path / "tower")
    compared(tmp_path, partial(trainings.pictures, model={"encoder": encoder}))


@pytest.mark.parametrize("kind", ["grids", "pictures"])
def test_a_resumed_training_on_the_device_repeats_it(trainings, tmp_path, kind):
    settings = {"log_every": 1, "save_every": 2, "ema": 0.5}
    with pretended():
        getattr(trainings, kind)(tmp_path, 4, 1, **settings)
        expected = weights_of(tmp_path)
        shutil.rmtree(checkpoints_of(tmp_path)[-1])
        getattr(trainings, kind)(tmp_path, 4, 1, **settings)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(tmp_path).items())


def test_bf16_and_muon_train_on_the_device(trainings, tmp_path):
    """They round; the losses stay near those of fp32 on the CPU."""
    groups = [{"name": "lm", "pattern": "", "lr": 0.03, "optimizer": "muon"}]
    runs = [tmp_path / name for name in ("cpu", "device")]
    for run, precision in zip(runs, ("fp32", "bf16"), strict=True):
        run.mkdir()
        with hardware("cpu") if precision == "fp32" else pretended():
            trainings.grids(run, 6, 2, log_every=1, groups=groups, precision=precision)
    near = [[line["loss"] for line in log_of(run) if "loss" in line] for run in runs]
    assert near[1] != near[0]
    assert near[0][-1] < near[0][0] - 0.1
    np.testing.assert_allclose(near[1], near[0], rtol=0.05)


# ---- what a training waits for ---------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_waits_for_its_device_once_a_step(trainings, tmp_path, kind):
    per_batch, per_step = syncs_of(getattr(trainings, kind), tmp_path)
    assert not per_batch.reads, str(per_batch)
    assert not per_batch.uploads, str(per_batch)
    assert len(per_step.reads) == READS_PER_STEP, str(per_step)
    assert not per_step.uploads, str(per_step)


# ---- measuring -------------------------------------------------------------------------------


def measured(call, *args, **fields):
    """Results and records of a measurement on the CPU and on the device."""

    def work():
        found = call(*args, **fields)
        records = [] if found.records is None else found.records.to_pylist()
        return found.results["hardware"]["device"], found.rows, records

    (cpu, *expected), (device, *found) = on_both(work)
    assert cpu == "cpu"
    assert device.startswith(NAME)
    assert expected[0]
    assert_near(found, expected, 1e-5)
    return expected


GRID = {"rows": 1, "cols": 2}


@pytest.mark.parametrize("modality", ["text", "image", "text+image"])
def test_eval(mm_run, modality):
    _, records = measured(gpt2v.evaluate, mm_run, n_images=6, modalities=[modality], grid=GRID)
    assert len(records) > 6


def test_eval_of_a_gpt2(lm_run):
    measured(gpt2v.evaluate, lm_run, n_images=6, modalities=["text"], grid=GRID)


def test_kept_attention(mm_run, tmp_path):
    def kept():
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        gpt2v.evaluate(mm_run, n_images=4, modalities=["image"], grid=GRID, attention=2, out=out)
        return pq.read_table(out / "attention.parquet").to_pylist()

    expected, found = on_both(kept)
    assert len(expected) == 2 * 2 * 2  # grids, questions, layers
    assert_near(found, expected, 1e-5)


def test_eval_with_a_cache_of_features(mm_run, tmp_path):
    features = {"mode": "require", "path": str(tmp_path)}
    fields = {"n_images": 6, "modalities": ["image"], "grid": GRID, "features": features}
    measured(gpt2v.evaluate, mm_run, **fields)
    shutil.rmtree(tmp_path)
    with pretended():  # made on the device, read on the CPU
        made = gpt2v.evaluate(
            mm_run, n_images=6, modalities=["image"], features=features, grid=GRID
        )
    with hardware("cpu"):
        read = gpt2v.evaluate(
            mm_run, n_images=6, modalities=["image"], features=features, grid=GRID
        )
    assert_near(made.rows, read.rows, 1e-5)


def test_the_ladder(mm_run):
    rows, _ = measured(gpt2v.ladder, mm_run, n_images=4, grid=GRID)
    assert len(rows) > 4


def test_the_probe(mm_run):
    _, records = measured(gpt2v.probe, mm_run, **helpers.QUICK_PROBE, grid=GRID)
    assert len(records) == 80


def test_states_and_changes_of_them(mm_run, bank):
    data = GridDataset(GridConfig(**GRID, modality="image"), bank, 0, "test", 4)
    names = ("pixels", "random", "vision", "pre-projector", "post-projector")
    changes = {"vision.1": 3, "pre-projector": 4, "post-projector": 5, "lm.1": 6}

    def states():
        loaded = load_model(str(mm_run))
        model, render = loaded.gpt2v, loaded.renderer(bank)
        batch = data.batch(np.arange(4), "image", render)
        of_pictures = sites_of(names, 2, 2)
        found = picture_states(model, batch.pixels, of_pictures, random_tower(model, 0))
        reader = Reader.of(model)
        of_questions = sites_of(("lm", "question", "answer"), 2, 2)
        found |= text_states(reader, batch, of_questions, render.table)
        scorer = PackedScorer(reader, render)
        logprobs = {}
        for name, factor in changes.items():
            (site,) = sites_of([name], 2, 2)
            change = partial(
                in_cell, np.array([1, 2]), lambda x, n, by=factor: by * x, np.arange(4)
            )
            with changed(model, site, change):
                logprobs[name] = scorer.score(data, np.arange(4), "image")["logprobs"]
        return {str(site): values.tolist() for site, values in found.items()}, logprobs

    expected, found = on_both(states)
    assert len(expected[0]) == 3 + 2 * 3 + 9
    assert_near(found, expected, 1e-4)


def test_pictures_in_the_cache_and_pictures_that_are_not(mm_run, bank, tmp_path):
    spec = GridConfig(**GRID, modality="image")

    def features():
        model = load_model(str(mm_run)).gpt2v
        size = model.geometry.image_size

        def pictures(n):
            return next(GridDataset(spec, bank, split="test", n=n).pictures(size))

        config = FeaturesConfig(path=str(tmp_path))
        store = open_features(model, bank, lambda: iter([pictures(3)]), config)
        source = StoredPatches(model, store)
        assert (source.n_seen(pictures(3)), source.n_seen(pictures(5))) == (0, 2)
        assert source.features(pictures(5)).device.type == model.device.type
        return [source.features(pictures(n)).tolist() for n in (3, 5)]

    expected, found = on_both(features)
    assert_near(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["lm", "gpt2v"])
def test_language(lm_run, mm_run, tmp_path, name):
    text = tmp_path / "text.txt"
    text.write_text("<|endoftext|>".join(f"| bird | {'frog ' * n}|" for n in range(5)))
    model = lm_run if name == "lm" else mm_run
    for fields in ({"corpus": str(text)}, {"pairs": ["story-wish"], "n_pairs": 6}):
        expected, found = on_both(
            lambda fields=fields: gpt2v.evaluate(model, **fields).records.to_pylist()
        )
        assert_near(found, expected, 1e-4)


# ---- asking and writing ----------------------------------------------------------------------

QUESTION = "What object is in row 0, column 1?"


def test_ask(mm_run, bank):
    sample = GridDataset(GridConfig(**GRID, modality="image"), bank, 3, "test")[0]

    def asked():
        model = gpt2v.load_model(mm_run)
        answers = [
            *model.ask(sample=sample),
            *model.ask(QUESTION, image=sample.image, palette=list(sample.palette)),
            *model.ask(QUESTION, text="| cat | dog |"),
        ]
        written = model.ask("Say something", free=True, sample=sample)[0].text
        batch = model.batch(QUESTION, sample=sample)
        with torch.no_grad():
            logits = model(**batch).logits
        attention = model.attention(QUESTION, sample=sample)
        return [
            [[answer.text, answer.logprobs] for answer in answers],
            written,
            logits.tolist(),
            attention.weights.tolist(),
            attention.by_cell.tolist(),
        ]

    expected, found = on_both(asked)
    assert_near(found, expected, 1e-5)


@pytest.mark.parametrize("greedy", [True, False])
def test_generate(lm_run, greedy):
    def written():
        loaded = load_model(str(lm_run))
        drawn = {"temperature": 0} if greedy else {"temperature": 1.5, "top_k": 20, "top_p": 0.9}
        settings = GenerateConfig(n=2, max_new_tokens=12, **drawn)
        return [list(one) for one in generate(loaded.lm, loaded.tokenizer, ["| cat"], settings)]

    expected, found = on_both(written)
    assert expected == found
    assert any(text for text, _ in found)
