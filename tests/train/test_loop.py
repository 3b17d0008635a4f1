"""The loop: repeatable bit for bit, logged, and stopped by a loss that is not finite."""

import json
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from gpt2v.errors import UserError
from gpt2v.hardware import precision
from gpt2v.train.loop import fit
from gpt2v.train.training import reseed
from helpers import toy_task, train_config


def weights(made):
    return torch.cat([p.detach().reshape(-1) for p in made.model.parameters()])


def trained(run, steps=12, seed=0, **options):
    run.mkdir()
    made = toy_task(**options)
    before = weights(made)
    fit(made, train_config(seed=seed), steps, run, "test")
    assert not torch.equal(before, weights(made))
    return weights(made)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_weights(tmp_path, dropout):
    one = trained(tmp_path / "a", dropout=dropout)
    torch.rand(1000)  # the state of the global generator must not matter
    two = trained(tmp_path / "b", dropout=dropout)
    assert torch.equal(one, two)


def test_bf16_is_used_where_the_hardware_has_it(tmp_path, monkeypatch):
    results = {}
    for name, wanted, has in [("a", "fp32", True), ("b", "bf16", False), ("c", "bf16", True)]:
        monkeypatch.setattr(precision, "has_bf16", lambda device, has=has: has)
        made, run = toy_task(), tmp_path / name
        run.mkdir()
        fit(made, train_config(precision=wanted), 12, run, "test")
        results[name] = weights(made)
    assert torch.equal(results["a"], results["b"])
    assert not torch.equal(results["a"], results["c"])
    torch.testing.assert_close(results["a"], results["c"], rtol=0.1, atol=0.05)


def test_dropout_follows_the_seed(tmp_path):
    one, two = (trained(tmp_path / str(s), seed=s, dropout=0.3) for s in (0, 1))
    assert not torch.equal(one, two)
    one, two = (trained(tmp_path / f"plain{s}", seed=s) for s in (0, 1))
    assert torch.equal(one, two)


def test_validation_does_not_disturb_training(tmp_path):
    def evaluate():
        torch.rand(17)
        return {"accuracy": 0.5}

    runs = []
    for every in (0, 2):
        made = toy_task(0.3, evaluate)
        run = tmp_path / str(every)
        run.mkdir()
        fit(made, train_config(eval_every=every), 7, run, "test")
        runs.append(weights(made))
    assert torch.equal(*runs)


def test_reseeding_is_a_function_of_seed_and_step():
    def draw(seed, step):
        reseed(seed, step)
        return float(torch.rand(1))

    assert draw(3, 4) == draw(3, 4)
    assert len({draw(s, t) for s in range(5) for t in range(5)}) == 25


def test_a_loss_that_is_not_finite_names_the_step(tmp_path):
    with pytest.raises(
        UserError, match=r"at step 5 \(samples 40 to 47 of data of step 5\).*nan.*learning rates"
    ):
        fit(toy_task(spoil=5), train_config(), 12, tmp_path, "test")


def test_no_thread_is_left_after_a_training_that_failed(tmp_path):
    """A writer in the background would complain when the run's directory is removed."""
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="nan"):
        fit(toy_task(spoil=3), train_config(log_every=1), 12, tmp_path, "test")
    assert set(threading.enumerate()) <= before


def test_the_gradient_is_of_the_mean_over_supervised_items(tmp_path):
    made, reference = toy_task(size=5), toy_task(size=5)
    config = train_config(schedule="constant", clip=None, groups=[
        {"name": "all", "pattern": "", "lr": 0.01}
    ])  # fmt: skip
    fit(made, config, 1, tmp_path, "test")
    optimizer = torch.optim.AdamW(
        reference.model.parameters(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.0
    )
    (reference.loss(reference.batch(0, 0, 1)) / 5).backward()
    optimizer.step()
    torch.testing.assert_close(weights(made), weights(reference))


def test_metrics_and_the_last_validation(tmp_path):
    calls = []

    def evaluate():
        calls.append(1)
        return {"accuracy": len(calls) / 10}

    scores = fit(
        toy_task(0.5, evaluate), train_config(log_every=4, eval_every=4), 10, tmp_path, "test"
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [4, 8, 10]
    checks = [(line["step"], line["val/accuracy"]) for line in lines if "val/accuracy" in line]
    assert checks == [(4, 0.1), (8, 0.2), (10, 0.3)]
    assert scores == {"accuracy": 0.3}
    first = next(line for line in lines if "loss" in line)
    assert {"lr", "grad_norm", "samples_per_s", "data"} <= set(first)
    assert first["data"] == "data of step 3"


def test_the_model_is_in_evaluation_mode_when_it_is_validated(tmp_path):
    modes = []
    made = toy_task(0.5, lambda: modes.append(made.model.training) or {})
    fit(made, train_config(eval_every=2), 4, tmp_path, "test")
    assert modes == [False, False]
    assert not made.model.training


def test_a_batch_that_uses_frozen_parts_only_is_skipped(tmp_path):
    made = toy_task()
    frozen = nn.Linear(4, 1)

    def loss(batch):
        return made.loss(batch) if batch.step else frozen(batch.x).detach().sum()

    mixed = replace(made, loss=loss)
    before = weights(made)
    fit(mixed, train_config(), 1, tmp_path, "test")
    assert torch.equal(before, weights(made))
