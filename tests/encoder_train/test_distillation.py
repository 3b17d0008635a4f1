"""Distillation: the patches of a student come to those of its teacher, which stays as it is."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, VisionTextDualEncoderModel

import helpers
from gpt2v.cli.main import main
from gpt2v.config.encoder import EncoderConfig
from gpt2v.data.render.spans import PictureGeometry
from gpt2v.data.scenes import draw_scenes
from gpt2v.encoder_train.train import (
    _EncoderTask,
    prepare_encoder,
    scenes_hash,
    settled_encoder,
    train_encoder,
)
from gpt2v.encoder_train.zero_shot import zero_shot_accuracy
from gpt2v.errors import UserError
from gpt2v.model.clip import Clip, embed_patches, normalise
from gpt2v.model.distillation import distillation_loss, load_teacher
from gpt2v.model.preprocessor import read_normalisation
from gpt2v.run_layout import checkpoints_of
from gpt2v.trained.record import read_record
from helpers import refusal, write_yaml

CONV = {"name": "conv", "image_size": 32, "widths": [8, 8, 16], "depth": 1}  # 4 x 4 patches
CPU = torch.device("cpu")
ALONE = {"global_weight": 0, "region_weight": 0, "patch_weight": 0}
FROZEN = [
    {"name": "text", "pattern": "^(text_|logit_scale)", "lr": 0},
    {"name": "vision", "pattern": "", "lr": 0.01, "optimizer": "muon"},
]
PLAIN = {"layouts": [{"lattice": 2}], "jitter": 0}
TEXT = ("text_model.", "text_projection.", "logit_scale")


def values(**changes):
    train = {**helpers.TINY_ENCODER["train"], "tensorboard": False, **changes.pop("train", {})}
    return {**helpers.TINY_ENCODER, "train": train, **changes}


def student(teacher, **changes):
    """Values of a configuration that has nothing that the teacher decides."""
    fields = values(teacher=str(teacher), **changes)
    return {k: v for k, v in fields.items() if k not in ("text", "projection_dim")}


def settled(teacher, **changes):
    return settled_encoder(EncoderConfig.model_validate(student(teacher, **changes)))


@pytest.fixture(scope="module")
def teachers(bank, tmp_path_factory):
    """Runs of encoders with each kind of tower."""
    root = tmp_path_factory.mktemp("teachers")
    kinds = {"conv": CONV, "clip": helpers.TINY_VISION, "windows": {**CONV, "window": 16}}
    for name, vision in kinds.items():
        (root / name).mkdir()
        train_encoder(EncoderConfig.model_validate(values(vision=vision)), root / name, bank)
    return root


def weights(run):
    return load_file(checkpoints_of(run)[-1] / "model.safetensors")


def results(run):
    return json.loads((run / "results.json").read_text())


def scenes_of(config, bank):
    return draw_scenes(
        config.scenes, bank, PictureGeometry(32, 8), 0, "train", 0, np.arange(config.batch_size)
    )


# ---- the loss --------------------------------------------------------------------------------


def test_the_loss_is_a_mean_over_patches_relative_to_the_teacher():
    rng = np.random.default_rng(0)
    mine, there = rng.normal(size=(2, 3, 4, 5))
    distance = norm = 0.0
    for i in range(3):
        for n in range(4):
            distance += sum((a - b) ** 2 for a, b in zip(mine[i, n], there[i, n], strict=True))
            norm += sum(b**2 for b in there[i, n])
    loss = distillation_loss(torch.from_numpy(mine), torch.from_numpy(there))
    assert float(loss) == pytest.approx(distance / norm, rel=1e-5)


def test_an_equal_student_has_no_loss_and_a_silent_one_has_1():
    there = torch.randn(2, 4, 5)
    assert float(distillation_loss(there.clone(), there)) == 0
    assert float(distillation_loss(torch.zeros_like(there), there)) == pytest.approx(1)
    assert float(distillation_loss(torch.zeros_like(there), 0 * there)) == 0  # nothing to learn


def test_it_is_finite_in_half_precision():
    there = torch.full((1, 2, 4), 300.0).half()  # whose squares are not
    assert float(distillation_loss(0 * there, there)) == pytest.approx(1)


def test_the_gradient_reaches_the_student_and_not_the_teacher(teachers, bank):
    config = settled(teachers / "conv", **ALONE)
    ready = prepare_encoder(config, bank)
    task = _EncoderTask(config, bank, PictureGeometry(32, 8), ready)
    before = {k: v.clone() for k, v in ready.teacher.clip.state_dict().items()}
    ready.clip.train()
    task.loss(scenes_of(config, bank)).backward()
    tower = [p for n, p in ready.clip.named_parameters() if n.startswith("vision_model.encoder")]
    assert tower
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower)
    assert all(p.grad is None for p in ready.clip.text_model.parameters())  # no caption is read
    assert not any(p.requires_grad or p.grad is not None for p in ready.teacher.clip.parameters())
    assert not ready.teacher.clip.training
    assert all(torch.equal(v, before[k]) for k, v in ready.teacher.clip.state_dict().items())


@pytest.mark.parametrize("kind", ["conv", "clip"])
def test_the_teacher_sees_the_same_pictures_as_it_was_trained_with(kind, teachers, bank):
    """And equals the model in its checkpoint, opened by plain transformers."""
    config = settled(teachers / kind)
    teacher = load_teacher(config)
    pixels = scenes_of(config, bank).pixels
    plain = {"conv": VisionTextDualEncoderModel, "clip": CLIPModel}[kind]
    model = plain.from_pretrained(checkpoints_of(teachers / kind)[-1]).eval()
    with torch.no_grad():
        expected = embed_patches(model, normalise(pixels, CPU))[1]
    patches = teacher.patches(pixels, normalise(pixels, CPU))
    assert patches.shape == (4, 16, 16)
    torch.testing.assert_close(patches, expected, atol=1e-5, rtol=0)


def test_a_teacher_keeps_its_own_normalisation(teachers, bank, tmp_path):
    folder = shutil.copytree(checkpoints_of(teachers / "clip")[-1], tmp_path / "own")
    (folder / "MANIFEST.json").unlink()
    own = {"image_mean": helpers.TOWER_MEAN, "image_std": helpers.TOWER_STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(own))
    config = settled(folder)
    teacher = load_teacher(config)
    assert (teacher.mean, teacher.std) == read_normalisation(str(folder), "teacher", 32)
    pixels = scenes_of(config, bank).pixels
    with torch.no_grad():
        there = normalise(pixels, CPU, helpers.TOWER_MEAN, helpers.TOWER_STD)
        expected = embed_patches(teacher.clip, there)[1]
    patches = teacher.patches(pixels, normalise(pixels, CPU))
    torch.testing.assert_close(patches, expected, atol=1e-5, rtol=1e-5)


def test_a_mirrored_teacher_says_what_plain_transformers_says(teachers, bank, tmp_path):
    run = tmp_path / "mirrored"
    shutil.copytree(teachers / "conv", run)
    file = checkpoints_of(run)[-1] / "config.json"
    content = json.loads(file.read_text())
    content["vision_config"]["mirror"] = True
    file.write_text(json.dumps(content))
    (file.parent / "MANIFEST.json").unlink()
    scenes = scenes_of(settled(run), bank)
    pixels = normalise(scenes.pixels, CPU)
    both, plain = (
        load_teacher(settled(path)).patches(scenes.pixels, pixels)
        for path in (run, teachers / "conv")
    )
    tower = VisionTextDualEncoderModel.from_pretrained(file.parent).eval()
    torch.testing.assert_close(both, embed_patches(tower, pixels)[1], atol=1e-5, rtol=0)
    assert not torch.allclose(both, plain, atol=1e-3)


def test_the_weights_add_up(teachers, bank):
    def loss(**weights):
        config = settled(teachers / "conv", **{**ALONE, "teacher_weight": 0, **weights})
        task = _EncoderTask(config, bank, PictureGeometry(32, 8), prepare_encoder(config, bank))
        with torch.no_grad():
            return float(task.loss(scenes_of(config, bank)))

    alone = {name: loss(**{name: 1.0}) for name in (*ALONE, "teacher_weight")}
    assert all(value > 0 for value in alone.values())
    shares = dict(zip(alone, (0.5, 2.0, 0.25, 3.0), strict=True))
    expected = sum(shares[name] * value for name, value in alone.items())
    assert loss(**shares) == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_any_term_has_a_gradient_of_zero(bank):
    """Other processes wait for it."""
    empty = {"layouts": [{"lattice": 2, "occupancy": 0.01}]}
    fields = values(scenes=empty, global_weight=0)
    config = EncoderConfig.model_validate(fields)
    ready = prepare_encoder(config, bank)
    scenes = scenes_of(config, bank)
    scenes.patch_objects[:] = -1
    loss = _EncoderTask(config, bank, PictureGeometry(32, 8), ready).loss(scenes)
    assert loss.item() == 0
    loss.backward()
    assert all((p.grad == 0).all() for p in ready.clip.visual_projection.parameters())


@pytest.mark.parametrize("kind", ["conv", "windows"])
def test_a_pooled_teacher_says_the_mean_of_each_square_at_its_patches(kind, teachers, bank):
    config = settled(teachers / kind, scenes=PLAIN)
    pixels = scenes_of(config, bank).pixels
    plain, pooled, whole = (
        load_teacher(config.model_copy(update={"teacher_pool": pool})).patches(
            pixels, normalise(pixels, CPU)
        )
        for pool in (1, 2, 4)
    )
    for row in range(4):
        for col in range(4):
            rows, cols = (2 * (i // 2) + np.arange(2) for i in (row, col))
            square = [int(4 * r + c) for r in rows for c in cols]
            expected = plain[:, square].mean(1)
            torch.testing.assert_close(pooled[:, 4 * row + col], expected)
    torch.testing.assert_close(whole, plain.mean(1, keepdim=True).expand_as(plain))


# ---- training --------------------------------------------------------------------------------


def test_training_lowers_it(teachers, bank, tmp_path):
    config = settled(teachers / "conv", **ALONE, steps=60, train={"log_every": 1})
    train_encoder(config, tmp_path, bank)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_a_convolutional_teacher_becomes_a_stock_clip(teachers, tmp_path):
    """End to end: the text tower is the teacher's, bit for bit, and stays so if it is frozen."""
    path = write_yaml(tmp_path / "c.yaml", student(teachers / "conv", train={"groups": FROZEN}))
    run = tmp_path / "run"
    assert main(["encoder", "train", str(path), "--out", str(run)]) == 0
    before, after = weights(teachers / "conv"), weights(run)
    taken = [name for name in after if name.startswith(TEXT)]
    assert len(taken) > 10
    assert all(torch.equal(after[name], before[name]) for name in taken)
    assert set(taken) == {name for name in before if name.startswith(TEXT)}
    assert not any("teacher" in name for name in after)

    checkpoint = checkpoints_of(run)[-1]
    model, info = CLIPModel.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert sum(p.numel() for p in model.parameters()) == sum(
        after[name].numel() for name, _ in model.named_parameters()
    )
    found = results(run)
    assert 0 <= found["results"][0]["zero_shot_accuracy"] <= 1
    teacher = found["teacher"]
    assert teacher["model"] == str(teachers / "conv")
    assert (teacher["checkpoint"], teacher["step"]) == ("step-000002", 2)
    assert len(teacher["weights"]) == 16

    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert recorded["text"] == helpers.TINY_ENCODER["text"]
    assert recorded["projection_dim"] == 16
    assert recorded["tokenizer"]["source"] == str(teachers / "conv")
    again = str(run / "config.yaml")
    assert main(["encoder", "train", again, "--out", str(tmp_path / "two")]) == 0
    two = weights(tmp_path / "two")
    assert all(torch.equal(after[name], two[name]) for name in after)
    assert main(["encoder", "train", str(path), "--out", str(run), "--resume"]) == 0


def test_a_student_with_the_patches_of_its_teacher_names_what_it_names(teachers, bank):
    """At once, with the words that it has taken over; and has nothing left to learn."""
    config = settled(teachers / "clip", **ALONE)
    ready = prepare_encoder(config, bank)
    task = _EncoderTask(config, bank, PictureGeometry(32, 8), ready)
    scenes = scenes_of(config, bank)
    with torch.no_grad():
        assert task.loss(scenes).item() > 1e-4
        for part in ("vision_model", "visual_projection"):
            theirs = getattr(ready.teacher.clip, part).state_dict()
            getattr(ready.clip, part).load_state_dict(theirs)
        assert task.loss(scenes).item() == 0
    here, there = (
        zero_shot_accuracy(clip, ready.tokenizer, bank, PictureGeometry(32, 8), "test", 50)
        for clip in (ready.clip.eval(), ready.teacher.clip)
    )
    assert here == there


def test_a_text_tower_that_is_not_frozen_trains(teachers, bank, tmp_path):
    train_encoder(settled(teachers / "conv"), tmp_path, bank)
    before, after = weights(teachers / "conv"), weights(tmp_path)
    assert not torch.equal(after["text_projection.weight"], before["text_projection.weight"])


def test_a_clip_teaches_a_convolutional_tower(teachers, bank, tmp_path):
    found = train_encoder(settled(teachers / "clip", vision=CONV), tmp_path, bank)
    assert found["teacher"]["model"] == str(teachers / "clip")
    assert isinstance(
        VisionTextDualEncoderModel.from_pretrained(checkpoints_of(tmp_path)[-1]), Clip
    )


def test_without_a_teacher_nothing_changes(teachers, bank):
    config = EncoderConfig.model_validate(values())
    assert settled_encoder(config) == config
    assert prepare_encoder(config, bank).teacher is None
    assert results(teachers / "clip")["teacher"] is None
    hashed = scenes_hash(config, bank)
    assert hashed == results(teachers / "clip")["data_hash"]
    assert scenes_hash(settled(teachers / "clip"), bank) != hashed


@pytest.mark.parametrize(
    ("changes", "remembers"),
    [
        ({}, True),
        ({"tiles": {"augment": {"shift": 2, "versions": 2}}}, True),
        ({"tiles": {"augment": {"shift": 2}}}, False),
        ({"scenes": {**PLAIN, "jitter": 0.1}}, False),
        ({"scenes": {**PLAIN, "cut": 0.5}}, False),
        ({"scenes": {**PLAIN, "layouts": [{"lattice": 2, "scale": [0.9, 1.1]}]}}, False),
        ({"scenes": {**PLAIN, "layouts": [{"lattice": 2, "occupancy": 0.9}]}}, False),
        ({"scenes": {**PLAIN, "layouts": [{"lattice": 1}]}}, True),
        ({"scenes": {**PLAIN, "layouts": [{"lattice": 2}, {"lattice": 3}]}}, False),
    ],
)
def test_windows_that_come_again_are_remembered(changes, remembers, teachers, bank):
    tiles = {**helpers.TINY_TILES, **changes.get("tiles", {})}
    config = settled(teachers / "windows", **{"scenes": PLAIN, **changes, "tiles": tiles})
    teacher = load_teacher(config)
    assert (teacher.remembered is not None) == remembers
    assert load_teacher(settled(teachers / "conv", scenes=PLAIN)).remembered is None
    scenes = scenes_of(config, bank)
    pixels = normalise(scenes.pixels, CPU)
    expected = embed_patches(teacher.clip, pixels)[1]
    for _ in range(2):
        torch.testing.assert_close(teacher.patches(scenes.pixels, pixels), expected)
    assert teacher.remembered is None or teacher.remembered.n_kept > 0


@pytest.mark.parametrize(
    ("teacher", "ema"), [("conv", None), ("conv", 0.5), ("windows", None)], ids=str
)
def test_a_resumed_run_equals_an_uninterrupted_one(teacher, ema, teachers, tmp_path):
    train = {"ema": ema, "save_every": 1}
    fields = student(teachers / teacher, train=train, steps=3, scenes=PLAIN)
    path = write_yaml(tmp_path / "c.yaml", fields)
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert main(["encoder", "train", str(path), "--out", str(whole)]) == 0
    shutil.copytree(whole, part)
    (part / "results.json").unlink()
    shutil.rmtree(checkpoints_of(part)[-1])
    assert main(["encoder", "train", str(path), "--out", str(part), "--resume"]) == 0
    one, two = weights(whole), weights(part)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert results(part)["data_hash"] == results(whole)["data_hash"]
    state = load_file(checkpoints_of(whole)[-1] / "optimizer.safetensors")
    assert not any("teacher" in name for name in state)


def test_a_resume_with_another_teacher_is_refused(teachers, tmp_path, capsys):
    teacher = shutil.copytree(teachers / "conv", tmp_path / "teacher")
    path = write_yaml(tmp_path / "c.yaml", student(teacher, train={"save_every": 1}))
    run = tmp_path / "run"
    assert main(["encoder", "train", str(path), "--out", str(run)]) == 0
    (run / "results.json").unlink()
    shutil.rmtree(checkpoints_of(run)[-1])
    folder = checkpoints_of(teacher)[-1]
    other = weights(teacher)
    other["logit_scale"] += 1
    save_file(other, folder / "model.safetensors", {"format": "pt"})
    (folder / "MANIFEST.json").unlink()
    capsys.readouterr()
    line = refusal(capsys, "encoder", "train", path, "--out", run, "--resume")
    assert "was trained on other data (tiles or the teacher have changed)" in line


# ---- what it was trained on ------------------------------------------------------------------


def test_a_student_was_trained_on_the_pictures_of_its_teacher(teachers, tmp_path, capsys):
    other = helpers.picture_folder(tmp_path / "other", n=12)
    mine = helpers.picture_folder(tmp_path / "mine", ("ant", "bee", "dog", "eel"), n=14)
    tiles = {"source": "folder", "size": 16}
    first, second = tmp_path / "teacher", tmp_path / "student"
    one = write_yaml(tmp_path / "1.yaml", values(tiles={**tiles, "path": str(other)}, steps=1))
    assert main(["encoder", "train", str(one), "--out", str(first)]) == 0
    capsys.readouterr()
    two = student(first, tiles={**tiles, "path": str(mine)}, steps=1)
    path = write_yaml(tmp_path / "2.yaml", two)
    assert main(["encoder", "train", str(path), "--out", str(second)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "teacher:" in line]
    assert len(said) == 1
    assert f"teacher: {first}: was not trained on 2 of these 4 classes" in said[0]
    before, after = (read_record(str(checkpoints_of(run)[-1])) for run in (first, second))
    assert set(before.pictures) < set(after.pictures)
    assert after.class_names == ("ant", "bee", "dog", "eel")


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [
        ("projection_dim", 32, 16),
        ("text.hidden_size", 32, 16),
        ("text.num_hidden_layers", 3, 1),
        ("tokenizer.source", "elsewhere", None),
        ("tokenizer.vocab_size", 300, None),
    ],
)
def test_what_the_teacher_decides_is_refused(key, value, there, teachers, tmp_path, capsys):
    path = write_yaml(tmp_path / "c.yaml", student(teachers / "conv"))
    argv = ("encoder", "train", path, "--out", tmp_path / "r", f"--{key}", value)
    line = refusal(capsys, *argv)
    assert f"{key}: {value} has no effect: it is {there or ''}" in line
    assert f"in teacher: {teachers / 'conv'}; leave it out" in line
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("vision", "says"),
    [
        (
            {**helpers.TINY_VISION, "image_size": 48},
            "its pictures are of 32 pixels, but those of vision are of 48; set vision.image_size",
        ),
        (
            {**helpers.TINY_VISION, "patch_size": 16},
            "its pictures are 4 x 4 patches, but those of vision are 2 x 2; choose a vision with "
            "patches of 8 pixels",
        ),
        (
            {**CONV, "widths": [8, 8]},
            "its pictures are 4 x 4 patches, but those of vision are 8 x 8",
        ),
    ],
)
def test_other_pictures_are_refused(vision, says, teachers, tmp_path, capsys):
    path = write_yaml(tmp_path / "c.yaml", student(teachers / "conv", vision=vision))
    line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
    assert f"teacher: {teachers / 'conv'}: {says}" in line
    assert not (tmp_path / "r").exists()


def test_squares_that_do_not_divide_the_patches_are_refused(teachers, tmp_path, capsys):
    path = write_yaml(tmp_path / "c.yaml", student(teachers / "conv", teacher_pool=3))
    line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
    assert "teacher_pool: 3 must divide the 4 patches along a side" in line
    assert not (tmp_path / "r").exists()


def test_what_is_no_encoder_is_refused(lm_run, teachers, tmp_path, capsys):
    lone = tmp_path / "lone"
    CLIPModel.from_pretrained(checkpoints_of(teachers / "clip")[-1]).vision_model.save_pretrained(
        lone
    )
    siglip = helpers.tower_checkpoint("siglip", tmp_path / "siglip")
    cases = {
        lm_run: "it is a gpt2 checkpoint; an encoder with its CLIP text tower is needed",
        lone: "it is a clip_vision_model checkpoint; an encoder with its CLIP text tower is needed",
        siglip: "it is a siglip checkpoint; an encoder with its CLIP text tower is needed",
        tmp_path / "none": "no such run or checkpoint",
        tmp_path: "no config.json here",
    }
    for teacher, says in cases.items():
        path = write_yaml(tmp_path / "c.yaml", student(teacher))
        line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
        assert f"teacher: {teacher}: {says}" in line
        assert not (tmp_path / "r").exists()


def test_a_text_tower_of_another_type_is_refused(teachers, bank, tmp_path):
    folder = shutil.copytree(checkpoints_of(teachers / "conv")[-1], tmp_path / "other")
    (folder / "MANIFEST.json").unlink()
    file = folder / "config.json"
    content = json.loads(file.read_text())

    def refused(says, **text):
        changed = {**content, "text_config": {**content["text_config"], **text}}
        file.write_text(json.dumps(changed))
        with pytest.raises(UserError) as caught:
            prepare_encoder(settled(folder), bank)
        assert says in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    refused("vision-text-dual-encoder checkpoint with a bert; an encoder", model_type="bert")
    refused("hidden_act of its text tower is relu, but `encoder train` makes", hidden_act="relu")
    refused("eos_token_id of its text tower is 7, but", eos_token_id=7)
    refused("has shape [64] in its weights, but [32] by its config.json", intermediate_size=32)


def test_damage_is_refused(teachers, tmp_path, capsys):
    teacher = shutil.copytree(teachers / "conv", tmp_path / "teacher")
    file = checkpoints_of(teacher)[-1] / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    path = write_yaml(tmp_path / "c.yaml", student(teacher))
    line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
    assert "teacher: " in line
    assert "model.safetensors: damaged" in line


def test_a_weight_without_a_teacher_is_refused(teachers, tmp_path, capsys):
    path = write_yaml(tmp_path / "c.yaml", values(teacher_weight=2.0))
    line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
    assert "teacher_weight: 2.0 has no effect: there is no teacher; leave it out" in line
    path = write_yaml(tmp_path / "c.yaml", student(teachers / "conv", **ALONE, teacher_weight=0))
    line = refusal(capsys, "encoder", "train", path, "--out", tmp_path / "r")
    assert "patch_weight, teacher_weight: one must be above 0, or nothing trains" in line
