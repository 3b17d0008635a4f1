"""Stages of a training: frozen groups, learning rates, checkpoints, validation and the log."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from gpt2v.config.loop import GroupConfig
from gpt2v.errors import UserError
from gpt2v.run_layout import checkpoints_of
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from gpt2v.train.stages import Stage, remaining
from helpers import toy_task, train_config


def groups(*settings):
    return [GroupConfig.model_validate(group) for group in settings]


FIRST, LAST = {"name": "first", "pattern": "^0"}, {"name": "last", "pattern": ""}
ALIGN = groups(
    {**FIRST, "lr": 0.02, "schedule": "linear", "warmup": 2, "weight_decay": 0.1},
    {**LAST, "lr": 0.0},
)
TUNE = groups(
    {**FIRST, "lr": 0.002, "warmup": 0}, {**LAST, "lr": 0.03, "schedule": "constant", "warmup": 3}
)
FROZEN = groups({**FIRST, "lr": 0.0}, {**LAST, "lr": 0.01})
STAGES = [Stage("align", 0, 6, ALIGN), Stage("tune", 6, 8, TUNE)]


def rates(step):
    """Each group's rate, written out by hand; train.schedule is cosine."""
    if step < 6:
        return 0.02 * ((step + 1) / 2 if step < 2 else 1 - (step - 2) / 4), 0.0
    step -= 6
    cosine = 0.5 * (1 + math.cos(math.pi * step / 8))
    return 0.002 * cosine, 0.03 * min(1.0, (step + 1) / 3)


def recording(task, weights):
    """A task that records its parameters before every step."""
    batch = task.batch

    def noting(step, part, parts):
        weights.append({n: p.detach().clone() for n, p in task.model.named_parameters()})
        return batch(step, part, parts)

    return replace(task, batch=noting)


def trajectory(run, plan, **changes):
    task, weights = toy_task(), []
    run.mkdir(exist_ok=True)
    fit(recording(task, weights), train_config(**changes), plan, run, "test")
    weights.append({n: p.detach().clone() for n, p in task.model.named_parameters()})
    return weights


def log(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_step_equals_torch_s_adamw_at_the_rate_of_its_own_schedule(tmp_path):
    """From the same weights and gradients, with an optimizer for each group and each stage."""
    weights = trajectory(tmp_path, STAGES, clip=None, log_every=1)
    reference = toy_task()
    named = dict(reference.model.named_parameters())
    parts = [
        [p for n, p in named.items() if n.startswith("0.") == first] for first in (True, False)
    ]
    for step, (before, after) in enumerate(pairwise(weights)):
        if step in (0, 6):
            fresh = [torch.optim.AdamW(part, betas=(0.9, 0.95), weight_decay=0) for part in parts]
        for name, p in named.items():
            p.data.copy_(before[name])
            p.grad = None
        batch = reference.batch(step, 0, 1)
        (reference.loss(batch) / batch.n_supervised).backward()
        for optimizer, lr in zip(fresh, rates(step), strict=True):
            optimizer.param_groups[0]["lr"] = lr
            if lr:
                optimizer.step()
        if step < 6:  # weight decay: of matrices only, and decoupled
            named["0.weight"].data -= rates(step)[0] * 0.1 * before["0.weight"]
        for name, p in named.items():
            moved, expected = after[name] - before[name], p.detach() - before[name]
            assert moved.abs().max() > 0 or (step < 6 and name[0] != "0")
            torch.testing.assert_close(moved, expected, atol=3e-7, rtol=1e-4, msg=f"{step} {name}")
    logged = [line["lr"] for line in log(tmp_path) if "lr" in line]
    for step, line in enumerate(logged):
        assert (line["first"], line["last"]) == pytest.approx(rates(step))


def test_a_frozen_group_does_not_move_by_one_bit(tmp_path):
    plan = [Stage("a", 0, 4, ALIGN), Stage("b", 4, 4, FROZEN), Stage("c", 8, 4, ALIGN)]
    weights = trajectory(tmp_path, plan)
    for start, moves in ((0, "0"), (4, "3"), (8, "0")):
        for before, after in pairwise(weights[start : start + 5]):
            for name, value in after.items():
                assert torch.equal(value, before[name]) == (name[0] != moves), (start, name)


def test_a_plan_of_one_stage_equals_training_without_a_plan(tmp_path):
    config = train_config()
    one = trajectory(tmp_path / "a", 7)
    two = trajectory(tmp_path / "b", [Stage("", 0, 7, config.groups)])
    assert all(torch.equal(one[-1][name], two[-1][name]) for name in one[-1])


def test_averages_continue_while_groups_are_frozen_and_trained_again(tmp_path):
    """Compared with averages that are computed here, from a run without them."""
    plan = [Stage("a", 0, 5, ALIGN), Stage("b", 5, 5, FROZEN)]
    raw = trajectory(tmp_path / "raw", plan)
    averages = dict(raw[0])
    for n, weights in enumerate(raw[1:], 1):
        decay = min(0.8, (1 + n) / (10 + n))
        averages = {k: decay * a + (1 - decay) * weights[k] for k, a in averages.items()}
        if n == 5:
            border = averages
    averaged = trajectory(tmp_path / "ema", plan, ema=0.8)
    for k, value in averaged[-1].items():
        torch.testing.assert_close(value, averages[k], msg=k)
    for before, same in zip(raw[:-1], averaged[:-1], strict=True):
        assert all(torch.equal(before[k], same[k]) for k in same)  # they do not affect training
    fresh = toy_task()
    fresh.load(checkpoints.folder_of(tmp_path / "ema") / "step-000005")
    for k, value in fresh.model.named_parameters():
        torch.testing.assert_close(value.detach(), border[k], msg=k)
        if k[0] == "3":  # it has not changed yet
            assert torch.equal(value, raw[0][k])


def test_each_stage_is_announced_validated_saved_permanently_and_logged(tmp_path, capsys):
    trajectory(tmp_path, STAGES, save_every=1, keep=1, log_every=4)
    names = [path.name for path in checkpoints_of(tmp_path)]
    assert names[0] == "step-000006"
    assert names[-1] == "step-000014"
    assert len(names) == 2
    lines = log(tmp_path)
    assert [(x["step"], x["stage"]) for x in lines if "loss" in x] == [
        (4, "align"), (6, "align"), (8, "tune"), (12, "tune"), (14, "tune"),
    ]  # fmt: skip
    checks = [(x["step"], x["stage"]) for x in lines if "val/accuracy" in x]
    assert checks == [(6, "align"), (14, "tune")]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "test: align, steps 0 to 5: what trains"
    assert "frozen" in said[2]
    assert said[3] == "test: tune, steps 6 to 13: what trains"
    assert "frozen" not in "".join(said[4:])


def test_a_mistake_in_a_later_stage_is_reported_before_training(tmp_path):
    for wrong, says in [
        (groups({**FIRST, "lr": 0.1}), r"data\.stages\.1\.groups: no pattern matches .* 3\.weight"),
        (groups({**LAST}, {**FIRST}), r"data\.stages\.1\.groups\.1\.pattern: '\^0' matches no"),
        (groups({**LAST, "lr": 0.0}), r"data\.stages\.1\.groups: every group is frozen"),
    ]:
        plan = [STAGES[0], Stage("tune", 6, 8, wrong, "data.stages.1.groups")]
        with pytest.raises(UserError, match=says):
            fit(toy_task(), train_config(), plan, tmp_path, "test")
        assert not checkpoints_of(tmp_path)


def test_a_loss_that_is_not_finite_names_the_groups_of_its_stage(tmp_path):
    plan = [STAGES[0], replace(STAGES[1], key="data.stages.1.groups")]
    with pytest.raises(UserError, match=r"at step 9 .*rates in data\.stages\.1\.groups"):
        fit(toy_task(spoil=9), train_config(), plan, tmp_path, "test")


def test_remaining_stages():
    assert [remaining(STAGES, done) for done in (0, 5)] == [STAGES] * 2
    assert [remaining(STAGES, done) for done in (6, 13, 14)] == [STAGES[1:]] * 3
