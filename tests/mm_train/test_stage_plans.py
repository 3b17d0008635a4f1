"""Stage plans: align, then fine-tune, from the configuration to the weights."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from gpt2v.cli.main import main
from gpt2v.config.base import hash_of
from gpt2v.config.data import DataConfig
from gpt2v.config.load import dump, validate
from gpt2v.config.training import MMConfig
from gpt2v.curriculum.fit import stage_plan
from gpt2v.data.render.batches import Renderer
from gpt2v.data.stream import Stream
from gpt2v.mm_train.train import build_gpt2v
from gpt2v.run_layout import checkpoints_of
from gpt2v.train import checkpoints
from helpers import TINY_MM, refusal, write_yaml

SMALL = {"rows": 1, "cols": 2}
PICTURES, TEXT = {**SMALL, "modality": "image"}, SMALL
PARTS = ("vision_tower", "projector", "language_model")


def groups(**rates):
    return [{"name": part, "pattern": f"^{part}", "lr": lr} for part, lr in rates.items()]


ALIGN = {
    "name": "align",
    "steps": 3,
    "mix": [PICTURES],
}
TUNE = {
    "name": "fine-tune",
    "steps": 4,
    "mix": [PICTURES, TEXT],
}
OWN = {
    "align": groups(vision_tower=0.0, projector=0.01, language_model=0.0),
    "fine-tune": groups(vision_tower=0.001, projector=0.0, language_model=0.01),
}
PLAN = {
    "tiles": TINY_MM["tiles"],
    "vision": TINY_MM["vision"],
    "data": {"batch_size": 4, "stages": [ALIGN, TUNE]},
    "train": {
        "stage_groups": OWN,
        "warmup": 0,
        "log_every": 1,
        "eval_grids": 4,
        "tensorboard": False,
    },
}


def plan_of(stages, **train):
    content = {"lm": "x", "data": {"stages": stages}, "train": train}
    return stage_plan(validate(MMConfig, content, "f.yaml"))


def seen(stages):
    return [(s.name, s.start, s.steps, s.key, [g.name for g in s.groups]) for s in stages]


def test_stages_without_groups_continue_with_those_of_the_stage_before():
    plain = {"steps": 2, "mix": [TEXT]}
    own = [{"name": "own", "pattern": ""}]
    every = [{"name": "every", "pattern": ""}]
    assert seen(plan_of([plain, plain], groups=every)) == [("", 0, 4, "train.groups", ["every"])]
    named = plan_of([{**plain, "name": "small"}, plain], groups=every)
    assert seen(named) == [("small+1", 0, 4, "train.groups", ["every"])]
    mixed = [plain, {**plain, "steps": 5, "name": "b"}, plain]
    assert seen(plan_of(mixed, groups=every, stage_groups={"b": own})) == [
        ("0", 0, 2, "train.groups", ["every"]),
        ("b+2", 2, 7, "train.stage_groups.b", ["own"]),
    ]
    assert seen(plan_of([plain, plain, plain], groups=every, stage_groups={"1": own})) == [
        ("0", 0, 2, "train.groups", ["every"]),
        ("1+2", 2, 4, "train.stage_groups.1", ["own"]),
    ]
    align, tune = seen(plan_of([ALIGN, TUNE], stage_groups=OWN))
    assert align == ("align", 0, 3, "train.stage_groups.align", [*PARTS])
    assert tune == ("fine-tune", 3, 4, "train.stage_groups.fine-tune", [*PARTS])


def test_a_stage_is_named_by_its_number_however_yaml_reads_it():
    plain, own = {"steps": 2, "mix": [TEXT]}, [{"name": "own", "pattern": ""}]
    plans = [plan_of([plain, plain], stage_groups={0: own, key: own}) for key in (1, "1")]
    assert seen(plans[0]) == seen(plans[1])
    assert [stage.key for stage in plans[0]] == ["train.stage_groups.0", "train.stage_groups.1"]


STAGES = [
    {"steps": 3, "mix": [SMALL]},
    {"steps": 2, "mix": [{"modality": "image"}, {"corpus": "x.txt"}]},
]


def test_the_data_hash_does_not_follow_names(bank, table):
    hashes = []
    for more in ({}, {"name": "align"}, {"name": "0"}):
        config = DataConfig.model_validate({"stages": [{**STAGES[0], **more}, STAGES[1]]})
        assert hash_of("tiles", config) == "2d0f452f628aacda"  # always
        hashes.append(Stream(config, Renderer(bank, table)).data_hash)
    assert len(set(hashes)) == 1
    longer = DataConfig.model_validate({"stages": [{**STAGES[0], "steps": 4}, STAGES[1]]})
    assert Stream(longer, Renderer(bank, table)).data_hash != hashes[0]


def test_stages_are_written_with_their_names_and_groups_with_the_training():
    written = yaml.safe_load(dump(DataConfig.model_validate({"stages": STAGES})))
    assert [list(stage) for stage in written["stages"]] == [["name", "steps", "mix"]] * 2
    assert [stage["name"] for stage in written["stages"]] == [None, None]
    plan = validate(MMConfig, {**PLAN, "lm": "x"}, "f.yaml")
    written = yaml.safe_load(dump(plan))
    assert [stage["name"] for stage in written["data"]["stages"]] == ["align", "fine-tune"]
    assert list(written["train"]["stage_groups"]) == ["align", "fine-tune"]
    assert validate(MMConfig, written, "again") == plan


@pytest.fixture(scope="module")
def made(tmp_path_factory, lm_run):
    """A run of the plan through the command line, and its configuration's file."""
    folder = tmp_path_factory.mktemp("stages")
    config = write_yaml(folder / "c.yaml", {**PLAN, "lm": str(lm_run)})
    assert main(["mm", "train", str(config), "--out", str(folder / "run")]) == 0
    return config, folder / "run"


def test_a_part_changes_in_its_own_stage_and_not_by_one_bit_in_the_other(made, lm_run):
    _, run = made
    torch.manual_seed(0)  # of train.seed
    model, _ = build_gpt2v(validate(MMConfig, {**PLAN, "lm": str(lm_run)}, "f.yaml"))
    start = {name: p.detach() for name, p in model.named_parameters()}
    folders = checkpoints_of(run)
    assert [path.name for path in folders] == ["step-000003", "step-000007"]
    aligned, tuned = (load_file(path / "model.safetensors") for path in folders)
    moved = {}
    for name, before in start.items():
        steps = [
            not torch.equal(before, aligned[name]),
            not torch.equal(aligned[name], tuned[name]),
        ]
        moved.setdefault(name.split(".")[0], []).append(steps)
    assert set(moved) == set(PARTS)
    for steps in moved["projector"]:
        assert steps == [True, False]
    for part in ("vision_tower", "language_model"):
        assert all(not first for first, _ in moved[part])
        assert sum(second for _, second in moved[part]) > 0.8 * len(moved[part])


def test_the_log_names_the_stage_and_the_rates_of_its_groups(made):
    _, run = made
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines if "loss" in line] == ["align"] * 3 + ["fine-tune"] * 4
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[0] == pytest.approx({"vision_tower": 0, "projector": 0.01, "language_model": 0})
    assert rates[3] == pytest.approx(
        {"vision_tower": 0.001, "projector": 0, "language_model": 0.01}
    )
    assert all("projector" not in line["grad_norm"] for line in lines[-3:] if "lr" in line)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_that_is_killed_in_or_between_stages_resumes_to_the_same_result(made, tmp_path, step):
    """SIGKILL before the step; then weights and optimizers are compared, bit for bit."""
    config, whole = made
    code = f"""
import os, signal, sys
from gpt2v.data.stream import Stream
from gpt2v.cli.main import main
draw = Stream.batch
def batch(self, step, part=0, parts=1):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, step, part, parts)
Stream.batch = batch
main(sys.argv[1:])
"""
    argv = ["mm", "train", str(config), "--out", str(tmp_path / "r")]
    killed = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    left = [path.name for path in checkpoints_of(tmp_path / "r")]
    assert left == ([] if step < 3 else ["step-000003"])
    assert main([*argv, "--resume" if left else "--overwrite"]) == 0
    for path in checkpoints_of(whole):
        for name in ("model.safetensors", checkpoints.OPTIMIZER):
            again = tmp_path / "r" / "checkpoints" / path.name / name
            assert again.read_bytes() == (path / name).read_bytes(), (path.name, name)


def test_an_invalid_plan_is_reported_in_one_line(tmp_path, lm_run, capsys):
    def line(own, *options):
        train = {**PLAN["train"], "stage_groups": own}
        config = write_yaml(tmp_path / "c.yaml", {**PLAN, "lm": str(lm_run), "train": train})
        return refusal(capsys, "mm", "train", config, "--out", tmp_path / "r", *options)

    only = {"fine-tune": OWN["fine-tune"]}
    assert "c.yaml: train.groups: required, unless" in line(only)
    said = line({**OWN, "fine-tune": groups(projector=0.1)})
    assert "train.stage_groups.fine-tune: no pattern matches the parameter vision_tower" in said
    still = groups(vision_tower=0.0, projector=0.0, language_model=0.0)
    said = line({**OWN, "fine-tune": still})
    assert "train.stage_groups.fine-tune: every group is frozen" in said
    rate = "train.stage_groups.fine-tune.0.lr"
    assert f"{rate}: Input should be greater" in line(OWN, f"--{rate}", "-1")
    said = line({**OWN, "tune": still})
    unknown = "train.stage_groups.tune: no stage has this name; the stages are align, fine-tune"
    assert unknown in said
    assert not (tmp_path / "r").exists()


def test_resuming_with_other_groups_is_refused(made, capsys):
    config, run = made
    argv = ("mm", "train", config, "--out", run, "--resume")
    said = refusal(capsys, *argv, "--train.stage_groups.fine-tune.2.lr", "0.5")
    assert "train.stage_groups.fine-tune.2.lr: 0.01 there, 0.5 now" in said
