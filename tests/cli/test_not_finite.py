"""NaN and infinity in a file or in a forward pass end a command with one line, not a number."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import helpers
from gpt2v.config.choice import choose
from gpt2v.config.data import CorpusConfig, DataConfig
from gpt2v.config.encoder import EncoderConfig
from gpt2v.config.models import FeaturesConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.curriculum.validation import validate
from gpt2v.data.dataset import GridDataset
from gpt2v.data.render.batches import Renderer
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.encoder_train.zero_shot import zero_shot_accuracy
from gpt2v.errors import UserError
from gpt2v.eval.rows import summarise
from gpt2v.features.sources import picture_source
from gpt2v.model.clip import new_clip
from gpt2v.model.files import load_weights
from gpt2v.model.load import load_gpt2v, load_model
from gpt2v.model.packed import Reader
from gpt2v.model.scoring import PackedScorer, score_all
from gpt2v.probing.reading import reader_of
from gpt2v.registry import METRICS
from gpt2v.report import write_report
from gpt2v.run_layout import checkpoints_of
from gpt2v.runs import write_results
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from helpers import refusal, toy_task, train_config, write_yaml

NORM = "transformer.ln_f.weight"


def spoiled(run, folder, name, value, file="model.safetensors"):
    """A copy of a run's newest checkpoint, without manifest, with one value of a tensor changed."""
    shutil.copytree(checkpoints_of(run)[-1], folder)
    (folder / "MANIFEST.json").unlink(missing_ok=True)
    tensors = load_file(folder / file)
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / file, {"format": "pt"})
    return folder


@pytest.fixture
def bad_lm(lm_run, tmp_path):
    return spoiled(lm_run, tmp_path / "bad-lm", NORM, float("nan"))


@pytest.fixture
def bad_mm(mm_run, tmp_path):
    return spoiled(mm_run, tmp_path / "bad-mm", "projector.linear_1.weight", float("inf"))


def test_every_command_names_the_tensor(bad_lm, bad_mm, lm_run, tmp_path, capsys):
    grids = {"tiles": helpers.TINY_TILES, "grid": {"rows": 1, "cols": 2}}
    mm = write_yaml(tmp_path / "mm.yaml", {**helpers.TINY_MM, "lm": str(lm_run)})
    lm = write_yaml(tmp_path / "lm.yaml", helpers.TINY_LM)
    probe = write_yaml(tmp_path / "p.yaml", {**grids, "model": str(bad_mm)})
    out = ["--out", tmp_path / "out"]
    in_lm, in_mm = f": {NORM} holds NaN or infinity", ": projector.linear_1.weight holds NaN"
    for expected, words in [
        (in_lm, ["eval", bad_lm, "--modalities", "[text]", *out]),
        (in_mm, ["eval", bad_mm, *out]),
        (in_lm, ["lm", "sample", bad_lm, "--prompt", "a"]),
        (in_lm, ["lm", "train", lm, "--init", bad_lm, *out]),
        (in_lm, ["mm", "train", mm, "--lm", bad_lm, *out]),
        (in_mm, ["mm", "train", mm, "--projector_from", bad_mm, *out]),
        (in_mm, ["probe", probe, *out]),
        (in_mm, ["ablate", "tokens", probe, *out]),
        (in_mm, ["mm", "export", bad_mm, "--to", tmp_path / "export"]),
    ]:
        assert expected in refusal(capsys, *words), words
        assert not (tmp_path / "out").exists(), words
    assert not (tmp_path / "export").exists()


def test_a_vision_tower_names_the_tensor(lm_run, tmp_path, capsys):
    folder = tmp_path / "clip"
    helpers.tower_checkpoint("clip", folder)
    tensors = load_file(folder / "model.safetensors")
    name = "vision_model.post_layernorm.bias"
    tensors[name][3] = -float("inf")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {**helpers.TINY_MM, "lm": str(lm_run), "encoder": str(folder)}
    config.pop("vision")
    mm = write_yaml(tmp_path / "mm.yaml", config)
    line = refusal(capsys, "mm", "train", mm, "--out", tmp_path / "out")
    assert "encoder: " in line
    assert "post_layernorm.bias holds NaN or infinity" in line


def test_a_resumed_training_names_the_tensor(lm_run, tmp_path, lm):
    with pytest.raises(UserError, match=rf"{NORM} holds NaN or infinity"):
        load_weights(spoiled(lm_run, tmp_path / "w", NORM, float("nan")), lm)
    state = f"{NORM}/exp_avg"
    folder = spoiled(lm_run, tmp_path / "o", state, float("nan"), checkpoints.OPTIMIZER)
    with pytest.raises(UserError, match=rf"{checkpoints.OPTIMIZER}: {state} holds NaN"):
        checkpoints.load(folder)


# ---- finite weights, but a forward pass that overflows ----------------------------------------


def overflowing(model, module):
    """The same model, in which one module's output is infinite."""
    module.register_forward_hook(lambda module, inputs, output: output * float("inf"))
    return model


@pytest.fixture
def data(bank):
    return GridDataset(helpers.lm_config().data.stages[0].mix[0], bank, 1, "test", 3)


def test_scoring_names_the_sample(lm_run, data, table):
    lm = load_model(str(lm_run)).lm
    overflowing(lm, lm.transformer.ln_f)
    scorer = PackedScorer(Reader(lm, table.image_id), Renderer(data.bank, table))
    with pytest.raises(UserError, match="logits for sample 0 are NaN or infinite"):
        score_all(scorer, data, "text")


def test_validation_of_text_is_refused(lm_run, tmp_path, tokenizer, monkeypatch):
    class Windows:
        def validation_batches(self, *_):
            return iter([_Window()])

    class _Window:
        tokens = np.ones((1, 5), np.int64)
        targets = np.ones((1, 4), np.int64)
        n_supervised = 4

    spec = CorpusConfig(corpus="x.txt")
    stages = [{"steps": 1, "mix": [spec.model_dump()]}]

    class Stream:
        config = DataConfig.model_validate({"stages": stages})
        corpora = {spec: type("Corpus", (), {"tokenizer": tokenizer, "valid": Windows()})}  # noqa: RUF012

    lm = load_model(str(lm_run)).lm
    overflowing(lm, lm.transformer.ln_f)
    said = r"text/x\.txt 256: the validation loss is (nan|inf)"
    with torch.no_grad(), pytest.raises(UserError, match=said):
        validate(Reader(lm, -1), Stream(), 3, 3)


@pytest.fixture
def overflowing_gpt2v(mm_run):
    _, model = load_gpt2v(str(mm_run))
    return overflowing(model, model.vision_tower.encoder.layers[-1])


def test_probing_is_refused(mm_run, overflowing_gpt2v, bank):
    loaded, _ = load_gpt2v(str(mm_run))
    grid = {"rows": 1, "cols": 2}
    config = ProbeConfig.model_validate({"tiles": helpers.TINY_TILES, "model": "x", "grid": grid})
    with pytest.raises(UserError, match=r"pre-projector holds NaN or infinity"):
        reader_of(replace(loaded, gpt2v=overflowing_gpt2v), bank, config)


def test_no_cache_of_features_is_made(overflowing_gpt2v, bank, tmp_path):
    data = GridDataset(helpers.lm_config().data.stages[0].mix[0], bank, 1, "test", 3)
    config = FeaturesConfig(mode="require", path=str(tmp_path / "cache"))
    with pytest.raises(UserError, match="features holds NaN or infinity"):
        picture_source(overflowing_gpt2v, [data], config)
    assert not list((tmp_path / "cache").glob("*"))


def test_an_encoder_s_accuracy_is_refused(bank, tokenizer):
    clip = new_clip(EncoderConfig.model_validate(helpers.TINY_ENCODER), tokenizer).eval()
    overflowing(clip, clip.visual_projection)
    with pytest.raises(UserError, match="similarities holds NaN or infinity"):
        zero_shot_accuracy(clip, tokenizer, bank, PictureGeometry(32, 8), "val", 3)


# ---- training ------------------------------------------------------------------------------------


def test_weights_that_overflow_in_the_last_step_are_not_saved(tmp_path):
    """The loss of a step is computed before its update, so it is still finite."""
    config = train_config(groups=[{"name": "all", "pattern": "", "lr": 1e39}], clip=None)
    with pytest.raises(UserError, match=r"toy: after step 1: .* holds NaN or infinity; lower the"):
        fit(toy_task(), config, 1, tmp_path, "toy")
    assert not checkpoints_of(tmp_path)


def test_a_frozen_buffer_of_statistics_is_no_reason_to_stop(tmp_path):
    """Only parameters are checked, and a finite training saves."""
    task = toy_task()
    task.model.register_buffer("mask", torch.full((2,), -float("inf")))
    fit(task, train_config(), 1, tmp_path, "toy")
    assert len(checkpoints_of(tmp_path)) == 1


# ---- results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_results_hold_numbers_only(value, tmp_path):
    with pytest.raises(UserError, match=r"results: results\.1\.ci95\.0 is"):
        write_results(tmp_path, "eval", 0.0, results=[{}, {"ci95": [value, 1.0]}])
    assert not (tmp_path / "results.json").exists()


def test_a_metric_gives_a_number(monkeypatch):
    monkeypatch.setattr(
        type(choose(METRICS, "accuracy")), "load", lambda self: lambda records: {"x": float("nan")}
    )
    with pytest.raises(
        UserError,
        match="metrics: accuracy: x: must be a number, text, or a list, and finite, not nan",
    ):
        summarise(None)


def test_a_report_of_damaged_results_is_refused(lm_run, tmp_path):
    run = shutil.copytree(lm_run, tmp_path / "run")
    results = json.loads((run / "results.json").read_text())
    results["results"][0]["x_accuracy"] = float("nan")
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UserError, match=r"x_accuracy: must be a number, not nan"):
        write_report([run], tmp_path / "report")
