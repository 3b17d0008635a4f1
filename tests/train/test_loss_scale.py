"""fp16: trained with a loss scale, which follows torch's rule; steps that overflow are skipped."""

import json
from dataclasses import replace

import pytest
import torch

from gpt2v.errors import UserError
from gpt2v.run_layout import checkpoints_of
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from gpt2v.train.loss_scale import LossScale, ScaleState
from helpers import Overflow, toy_task, train_config

STEPS = 12
MUON = [
    {"name": "first", "pattern": "^0", "lr": 0.01, "optimizer": "muon"},
    {"name": "last", "pattern": "", "lr": 0.02, "weight_decay": 0.1},
]
CASES = {
    "adamw": {},
    "muon": {"groups": MUON},
    "ema": {"ema": 0.9},
    "accumulate": {"accumulate": 2},
}


@pytest.fixture(autouse=True)
def in_fp16(monkeypatch):
    """Products in fp16 on any CPU: emulated, they have the same values."""
    monkeypatch.setattr("gpt2v.hardware.precision.has_fp16", lambda device: True)
    monkeypatch.setattr("gpt2v.train.throughput.matmul_peak", lambda *_: 1e12)  # takes a minute


def weights(task):
    return torch.cat([p.detach().reshape(-1) for p in task.model.parameters()])


def toy(faint=0.01, dropout=0.0):
    """The toy task with a loss so small that the first scale does not overflow."""
    task = toy_task(dropout)
    loss = task.loss
    return replace(task, loss=lambda part: loss(part) * faint)


def spoilt(task, steps):
    """The task with gradients that overflow in these steps, although the loss does not."""
    loss = task.loss

    def spoil(part):
        value = loss(part)
        return Overflow.apply(value) if part.step in steps else value

    return replace(task, loss=spoil)


def lines(run):
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if "loss" in line]


def train(run, task, steps=STEPS, precision="fp16", **changes):
    run.mkdir(exist_ok=True)
    config = train_config(precision=precision, save_every=3, log_every=1, **changes)
    fit(task, config, steps, run, "test")
    return weights(task)


# ---- the scale -------------------------------------------------------------------------------


def test_the_scale_is_that_of_torch():
    """Over 10,000 steps with random overflows."""
    draw = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(3))
    model = torch.nn.ParameterList([p])
    optimizer = torch.optim.SGD([p], lr=0.0)
    theirs, ours = torch.amp.GradScaler("cpu"), LossScale(True)
    for step in range(10_000):
        chance = 0.3 if step < 20 else 0.0003
        good = float(torch.rand((), generator=draw)) > chance
        p.grad = None
        theirs.scale(p.sum() * (1.0 if good else float("inf"))).backward()
        gradient = p.grad.clone()
        theirs.step(optimizer)
        assert ours.factor == theirs.get_scale()
        if good:
            assert torch.equal(gradient, torch.full((3,), ours.factor))
            p.grad = gradient
            ours.unscale(model)
            assert torch.equal(p.grad, torch.ones(3))
        theirs.update()
        ours.update(good)
    assert ours.factor == theirs.get_scale() != 2.0**16


def test_without_fp16_there_is_no_scale():
    scale = LossScale(False)
    scale.update(True)
    assert (scale.factor, scale.state, scale.may_skip(), scale.read()) == (1.0, None, False, {})


# ---- in a training ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_it_learns_as_in_fp32(tmp_path, case):
    """The scale changes nothing but what would underflow."""
    half = train(tmp_path / "half", toy(), 40, **CASES[case])
    full = train(tmp_path / "full", toy(), 40, "fp32", **CASES[case])
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.02, atol=0.01)
    losses = [line["loss"] for line in lines(tmp_path / "half")]
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    logged = lines(tmp_path / "half")[-1]
    assert (logged["loss_scale"], logged["skipped_steps"]) == (2.0**16, 0)
    assert "loss_scale" not in lines(tmp_path / "full")[-1]


def test_small_gradients_do_not_vanish(tmp_path):
    """Without a scale they would be 0 in fp16."""

    config = {"clip": None, "groups": [{"name": "all", "pattern": "", "lr": 0.01}]}
    half = train(tmp_path / "half", toy(1e-8), 10, **config)
    full = train(tmp_path / "full", toy(1e-8), 10, "fp32", **config)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("case", CASES)
def test_a_step_that_overflows_changes_only_the_scale(tmp_path, case):
    """The step counts, in the schedule, too."""
    before = {}
    task = spoilt(toy(), [4, 5, 7])
    batch = task.batch

    def noted(step, part, parts):
        before.setdefault(step, weights(task).clone())
        return batch(step, part, parts)

    train(tmp_path / "a", replace(task, batch=noted), **CASES[case])
    changed = [not torch.equal(before[s], before[s + 1]) for s in range(STEPS - 1)]
    assert [s for s, did in enumerate(changed) if not did] == [4, 5, 7]
    logged = lines(tmp_path / "a")
    assert [line["skipped_steps"] for line in logged] == [s in (4, 5, 7) for s in range(STEPS)]
    assert [line["loss_scale"] for line in logged[3:9]] == [
        2.0**e for e in (16, 15, 14, 14, 13, 13)
    ]
    assert [bool(line["grad_norm"]) for line in logged] == [
        s not in (4, 5, 7) for s in range(STEPS)
    ]
    assert logged[-1]["step"] == STEPS
    train(tmp_path / "b", toy(), **CASES[case])
    assert [line["lr"] for line in logged] == [line["lr"] for line in lines(tmp_path / "b")]


def test_averages_leave_skipped_steps_out(tmp_path):
    """Only the first of the steps is taken."""
    first = weights(toy())
    after = train(tmp_path / "plain", spoilt(toy(), range(1, STEPS)))
    average = train(tmp_path / "ema", spoilt(toy(), range(1, STEPS)), ema=0.9)
    torch.testing.assert_close(average, first + (after - first) * (1 - 2 / 11))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop_at", [1, 5, 8, 11])
def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path, case, stop_at):
    def task():
        return spoilt(toy(dropout=0.3), [2, 7])

    whole = train(tmp_path / "whole", task(), **CASES[case])
    failing = task()
    batch = failing.batch

    def cut(step, part, parts):
        if step == stop_at:
            raise KeyError("power cut")
        return batch(step, part, parts)

    with pytest.raises(KeyError):
        train(tmp_path / "cut", replace(failing, batch=cut), **CASES[case])
    assert torch.equal(train(tmp_path / "cut", task(), **CASES[case]), whole)
    names = ("step", "loss", "lr", "grad_norm", "loss_scale", "skipped_steps")
    one, other = (
        [{name: line[name] for name in names} for line in lines(tmp_path / run)]
        for run in ("whole", "cut")
    )
    assert one == other
    for name in ("model.safetensors", checkpoints.OPTIMIZER, checkpoints.TRAINER):
        files = [
            (checkpoints_of(tmp_path / run)[-1] / name).read_bytes() for run in ("whole", "cut")
        ]
        assert files[0] == files[1]


def test_the_scale_is_in_the_checkpoint_and_older_ones_lack_it(tmp_path):
    train(tmp_path / "r", spoilt(toy(), [1]), 4)
    path = checkpoints.newest_whole(tmp_path / "r")
    assert checkpoints.load(path)[0].loss_scale == ScaleState(2.0**15, 2)
    content = json.loads((path / checkpoints.TRAINER).read_text())
    del content["loss_scale"]
    (path / checkpoints.TRAINER).write_text(json.dumps(content))
    assert checkpoints.load(path)[0].loss_scale is None


def test_a_gradient_that_always_overflows_ends_with_one_line(tmp_path):
    with pytest.raises(UserError, match=r"at step 19 .*gradient's norm.* train.precision: fp32$"):
        train(tmp_path / "a", spoilt(toy(), range(3, 99)), 40)
    assert checkpoints.newest_whole(tmp_path / "a").name == "step-000018"


def test_a_loss_that_is_not_finite_is_no_overflow_of_the_gradient(tmp_path):
    with pytest.raises(UserError, match=r"at step 5 .* the loss is nan"):
        train(tmp_path / "a", toy_task(spoil=5))


def test_a_batch_without_gradients(tmp_path):
    task = toy()
    frozen = torch.nn.Linear(4, 1)
    loss = task.loss
    mixed = replace(task, loss=lambda b: loss(b) if b.step else frozen(b.x).detach().float().sum())
    assert torch.isfinite(train(tmp_path / "a", mixed, 3)).all()


def test_in_bf16_an_overflow_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2v.hardware.precision.has_bf16", lambda device: True)
    with pytest.raises(UserError, match=r"at step 2 .* the gradient's norm"):
        train(tmp_path / "a", spoilt(toy(), [2]), precision="bf16")
