"""A training that is interrupted anywhere and resumed gets the same weights, bit for bit."""

import json
import multiprocessing
import os
import random
import re
import signal
import time
from dataclasses import replace

import pytest
import torch

from gpt2v.config.loop import GroupConfig
from gpt2v.errors import Stopped, UserError
from gpt2v.hardware.peak import matmul_peak
from gpt2v.run_layout import checkpoints_of
from gpt2v.storage.manifest import MANIFEST, write_manifest
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from gpt2v.train.stages import Stage
from helpers import toy_task, train_config

STEPS = 12
BORDER = 5
MUON = [
    {"name": "first", "pattern": "^0", "lr": 0.01, "optimizer": "muon", "schedule": "wsd"},
    {"name": "last", "pattern": "", "lr": 0.02, "weight_decay": 0.1, "warmup": 3},
]
FIRST_ALONE = [
    {"name": "first", "pattern": "^0", "lr": 0.01, "optimizer": "muon"},
    {"name": "last", "pattern": "", "lr": 0.0},
]
STAGES = [
    Stage(name, start, steps, [GroupConfig(**group) for group in groups])
    for name, start, steps, groups in [
        ("align", 0, BORDER, FIRST_ALONE),
        ("tune", BORDER, STEPS - BORDER, MUON),
    ]
]
CASES = {
    "adamw": {},
    "stages": {"plan": STAGES},
    "stages and ema": {"plan": STAGES, "ema": 0.9},
    "muon": {"groups": MUON},
    "ema": {"ema": 0.9},
    "accumulate": {"accumulate": 2},
}


def states(run):
    """Weights, averages and the optimizers' state of all checkpoints, as bytes."""
    files = ("model.safetensors", checkpoints.OPTIMIZER)
    return {
        path.name: [(path / name).read_bytes() for name in files] for path in checkpoints_of(run)
    }


def weights(task):
    return torch.cat([p.detach().reshape(-1) for p in task.model.parameters()])


def config(**changes):
    return train_config(save_every=3, eval_every=4, log_every=1, **changes)


def run_until(path, stop_at, plan=STEPS, **changes):
    """Train; at step `stop_at` a power cut interrupts it."""
    task = toy_task(dropout=0.3)
    batch = task.batch

    def failing(step, part, parts):
        if step == stop_at:
            raise KeyError("power cut")
        return batch(step, part, parts)

    task = replace(task, batch=failing)
    path.mkdir(exist_ok=True)
    try:
        fit(task, config(**changes), plan, path, "test")
    except KeyError:
        return None
    return weights(task)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Each case trained without interruption: its weights and its directory."""
    root = tmp_path_factory.mktemp("whole")
    return {case: (run_until(root / case, None, **CASES[case]), root / case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stop_at", [1, 3, BORDER, 7, 11])
def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path, whole, case, stop_at):
    expected, run = whole[case]
    cut = tmp_path / "cut"
    assert run_until(cut, stop_at, **CASES[case]) is None
    assert torch.equal(run_until(cut, None, **CASES[case]), expected)

    def lines(run):
        text = (run / "metrics.jsonl").read_text()
        names = ("step", "loss", "lr", "grad_norm", "val/accuracy")
        return [{k: v for k, v in json.loads(x).items() if k in names} for x in text.splitlines()]

    assert lines(cut) == lines(run)
    assert states(cut) == states(run)


def test_a_signal_between_two_stages(tmp_path):
    """The checkpoint of the first stage is resumed with new optimizers."""
    whole = run_until(tmp_path / "whole", None, STAGES)
    task = toy_task(dropout=0.3)
    batch = task.batch

    def asked(step, part, parts):
        if step == BORDER:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(step, part, parts)

    (tmp_path / "cut").mkdir()
    with pytest.raises(Stopped):
        fit(replace(task, batch=asked), config(), STAGES, tmp_path / "cut", "test")
    newest = checkpoints.newest_whole(tmp_path / "cut")
    assert newest.name == f"step-{BORDER:06d}"
    assert any(name.startswith("0.weight/") for name in checkpoints.load(newest)[1])
    assert torch.equal(run_until(tmp_path / "cut", None, STAGES), whole)
    assert states(tmp_path / "cut") == states(tmp_path / "whole")


def test_a_finished_training_is_not_repeated(tmp_path):
    whole = run_until(tmp_path / "r", None)
    calls = []
    task = toy_task(dropout=0.3, evaluate=lambda: calls.append(1) or {})
    scores = fit(task, config(), STEPS, tmp_path / "r", "test")
    assert scores == {"accuracy": 0.5}
    assert not calls
    assert torch.equal(weights(task), whole)


def test_other_data_are_refused(tmp_path):
    run_until(tmp_path / "r", 7)
    task = replace(toy_task(), data_hash="other")
    with pytest.raises(UserError, match="other data"):
        fit(task, config(), STEPS, tmp_path / "r", "test")


def cut_and_resumed(path, old=False, **changes):
    """Train in one part and, from step 6 on, in two; `old`: as before the number was saved."""
    run_until(path, 7)
    if old:
        newest = checkpoints.newest_whole(path)
        state = json.loads((newest / checkpoints.TRAINER).read_text())
        del state["parts"]
        (newest / checkpoints.TRAINER).write_text(json.dumps(state))
        (newest / MANIFEST).unlink()
        write_manifest(newest)
    task = replace(toy_task(dropout=0.3), **changes)
    fit(task, config(accumulate=2), STEPS, path, "test")
    return checkpoints.load(checkpoints.newest_whole(path))[0]


def test_another_number_of_parts_is_said(tmp_path, capsys):
    assert cut_and_resumed(tmp_path / "r").parts == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"gpt2v: .*step-000006: its steps cut a batch into 1 parts \(processes times "
        r"train\.accumulate\), not 2 as now; from here on .*",
        line,
    )


def test_another_number_of_parts_is_refused_if_the_loss_depends_on_it(tmp_path):
    with pytest.raises(UserError, match=r"1 parts .*, not 2 as now, which changes the loss"):
        cut_and_resumed(tmp_path / "r", depends_on_parts=True)
    assert checkpoints.newest_whole(tmp_path / "r").name == "step-000006"


def test_a_checkpoint_without_the_number_of_parts_is_resumed(tmp_path, capsys):
    assert cut_and_resumed(tmp_path / "r", old=True, depends_on_parts=True).parts == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_and_the_run_can_be_resumed(tmp_path, signum):
    whole = run_until(tmp_path / "whole", None)
    task = toy_task(dropout=0.3)
    batch = task.batch

    def asked(step, part, parts):
        if step == 4:
            os.kill(os.getpid(), signum)
        return batch(step, part, parts)

    task = replace(task, batch=asked)
    (tmp_path / "cut").mkdir()
    before = signal.getsignal(signum)
    with pytest.raises(Stopped, match="after step") as stopped:
        fit(task, config(), STEPS, tmp_path / "cut", "test")
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) == before
    newest = checkpoints.newest_whole(tmp_path / "cut")
    assert newest.name in ("step-000004", "step-000005")
    assert torch.equal(run_until(tmp_path / "cut", None), whole)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(UserError, match="at step 7"):
        fit(toy_task(spoil=7), config(), STEPS, tmp_path, "test")
    newest = checkpoints.newest_whole(tmp_path)
    assert newest.name == "step-000006"
    state = checkpoints.load(newest)[1]
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_averaged_weights_are_measured_and_saved(tmp_path):
    """Compared with an average that is computed here, from a run without one."""
    trajectory = []
    plain = toy_task()
    batch = plain.batch
    plain = replace(
        plain, batch=lambda s, *p: trajectory.append(weights(plain).clone()) or batch(s, *p)
    )
    (tmp_path / "plain").mkdir()
    fit(plain, train_config(), STEPS, tmp_path / "plain", "test")
    trajectory.append(weights(plain))
    average = trajectory[0]
    for n, now in enumerate(trajectory[1:], 1):
        decay = min(0.8, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * now

    measured = []
    task = toy_task(evaluate=lambda: measured.append(weights(task).clone()) or {"accuracy": 1.0})
    (tmp_path / "ema").mkdir()
    fit(task, train_config(ema=0.8), STEPS, tmp_path / "ema", "test")
    torch.testing.assert_close(weights(task), average)
    torch.testing.assert_close(measured[-1], average)
    fresh = toy_task()
    fresh.load(checkpoints.newest_whole(tmp_path / "ema"))
    assert torch.equal(weights(fresh), weights(task))


def train_wide(run, ready):
    """The training to kill; it is so wide that a save takes as long as some steps."""
    torch.set_num_threads(1)
    matmul_peak(torch.device("cpu"), torch.float32)  # not to be interrupted
    run.mkdir(exist_ok=True)
    ready.set()
    config = train_config(save_every=2, log_every=1, tensorboard=False)
    fit(toy_task(dropout=0.3, width=4000), config, 300, run, "test")


def test_killed_at_random_moments(tmp_path):
    """SIGKILL during steps and during saves; `bench/kill_resume.py` does it to real trainings."""
    processes = multiprocessing.get_context("forkserver")  # torch is imported once for all
    processes.set_forkserver_preload(["gpt2v.mm_train.train", "torch._dynamo"])

    def start(run):
        ready = processes.Event()
        child = processes.Process(target=train_wide, args=(run, ready))
        child.start()
        assert ready.wait(60)
        return child

    def ended(run):
        newest = checkpoints.newest_whole(run)  # must never find a directory that it cannot read
        return (newest / "model.safetensors").read_bytes() if newest else b""

    child = start(tmp_path / "whole")
    begin = time.monotonic()
    child.join()
    length = time.monotonic() - begin
    draw = random.Random(0)
    for _ in range(6):
        child = start(tmp_path / "cut")
        time.sleep(draw.uniform(0.05, 0.2) * length)
        child.kill()
        child.join()
        ended(tmp_path / "cut")
    child = start(tmp_path / "cut")
    child.join()
    assert child.exitcode == 0
    assert ended(tmp_path / "cut") == ended(tmp_path / "whole") != b""
