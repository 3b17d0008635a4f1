"""One process, accumulation and two processes compute the same training."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from gpt2v.cli.main import main
from gpt2v.data.stream import slice_of_batch
from gpt2v.errors import UserError
from gpt2v.run_layout import checkpoints_of
from gpt2v.storage.ownership import owned
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from helpers import REPO, TINY_MM, toy_task, train_config, write_yaml

STEPS = 20


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("size", [8, 7])
def test_accumulation_does_not_change_the_gradient(tmp_path, size):
    by_parts = []
    for parts in (1, 2, 3):
        run = tmp_path / str(parts)
        run.mkdir()
        fit(toy_task(size=size), train_config(accumulate=parts, log_every=1), STEPS, run, "test")
        by_parts.append(losses(run))
    torch.testing.assert_close(by_parts[1], by_parts[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(by_parts[2], by_parts[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_slices_make_up_the_batch(parts):
    whole = slice_of_batch(7, 5, 0, 1).tolist()
    assert whole == list(range(35, 42))
    assert [i for p in range(parts) for i in slice_of_batch(7, 5, p, parts).tolist()] == whole


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(UserError, match=r"batch of 7 cannot be cut into 8 parts"):
        slice_of_batch(7, 0, 0, 8)


CONFIG = {
    "tiles": {"source": "sprites", "per_class": 20, "size": 16},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 256},
    "data": {
        "batch_size": 6,
        "stages": [{"steps": STEPS, "mix": [{"rows": 1, "cols": 2}, {"rows": 2, "cols": 2}]}],
    },
    "train": {
        "groups": [{"name": "lm", "pattern": "", "lr": 0.01, "optimizer": "muon"}],
        "warmup": 2, "log_every": 1, "eval_grids": 20, "save_every": 10, "tensorboard": False,
    },
}  # fmt: skip


IMAGE = {"rows": 1, "cols": 2, "modality": "image"}
BOTH = [IMAGE, {"rows": 1, "cols": 2}]


def groups_of(of_lm, of_rest):
    return [
        {"name": "lm", "pattern": "^language_model", "lr": of_lm},
        {"name": "rest", "pattern": "", "lr": of_rest},
    ]


def mm(stages, **train):
    return {
        **TINY_MM,
        "data": {"batch_size": 4, "stages": stages},
        "train": {"log_every": 1, "eval_grids": 4, "tensorboard": False, **train},
    }


FROZEN_TOWER = [
    {"name": "vision_tower", "pattern": "^vision_tower", "lr": 0},
    {"name": "rest", "pattern": "", "lr": 0.001},
]
CASES = {
    "grids": ("lm", CONFIG),
    "frozen": ("mm", mm([{"steps": 10, "mix": BOTH}], groups=groups_of(0, 0.001))),
    "stages": (
        "mm",
        mm(
            [{"steps": 6, "mix": BOTH}] * 3,
            stage_groups={
                "0": groups_of(0, 0.01),
                "1": groups_of(0.003, 0),
                "2": groups_of(0.003, 0.01),
            },
            warmup=0,
        ),
    ),
    "features": (
        "mm",
        mm([{"steps": 8, "mix": [{**IMAGE, "n_images": 10}]}], groups=FROZEN_TOWER),
    ),
}


@dataclass
class Cases:
    """A folder with each case's configuration, and its runs: `CASE-1` alone, `CASE-2` in two."""

    root: Path
    cache: Path  # of features

    def argv(self, case: str, processes: int, *options: str) -> list[str]:
        out = self.root / f"{case}-{processes}"
        return [CASES[case][0], "train", f"{self.root / case}.yaml", "--out", str(out), *options]

    def alone(self, case: str, *options: str) -> Path:
        assert main(self.argv(case, 1, *options)) == 0
        return self.root / f"{case}-1"

    def ended(self, case: str) -> list[tuple[int, str, str]]:
        """Status, standard output and standard error of either process."""
        return [
            tuple(json.loads((self.root / f"{case}.{rank}.json").read_text())) for rank in (0, 1)
        ]

    def in_two(self, case: str) -> Path:
        for status, _, stderr in self.ended(case):
            assert status == 0, stderr
        return self.root / f"{case}-2"


def torchrun_command(*command: str) -> list[str]:
    """The words that run a script, or `-m` and a module, in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return [*start, "--master-addr", "127.0.0.1", "--master-port", str(port), *command]


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, in two processes."""
    command_line = torchrun_command(*command)
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def cases(tmp_path_factory, lm_run) -> Cases:
    """The cases, and most of them run in two processes, started once because that takes longest."""
    made = Cases(tmp_path_factory.mktemp("cases"), tmp_path_factory.mktemp("cache") / "features")
    for case, (kind, content) in CASES.items():
        more = {"lm": str(lm_run)} if kind == "mm" else {}
        write_yaml(made.root / f"{case}.yaml", {**content, **more})
    commands = {case: made.argv(case, 2) for case in ("frozen", "stages", "features")}
    commands["features"] += ["--features.mode", "require", "--features.path", str(made.cache)]
    (made.root / "old-2").mkdir()
    (made.root / "old-2" / "config.yaml").write_text("old")
    commands["old"] = [*made.argv("grids", 2)[:-1], str(made.root / "old-2")]
    (made.root / "commands.json").write_text(json.dumps(commands))
    torchrun(str(REPO / "tests" / "commands_in_turn.py"), str(made.root))
    return made


def test_one_process_accumulation_and_two_processes_give_the_same_losses(cases):
    one = cases.alone("grids")
    accumulated = cases.root / "accumulated"
    argv = [*cases.argv("grids", 1)[:-1], str(accumulated), "--train.accumulate", "2"]
    assert main(argv) == 0
    two = cases.root / "grids-2"
    done = torchrun("-m", "gpt2v", *cases.argv("grids", 2))
    assert len(losses(one)) == STEPS
    assert losses(one)[-1] < losses(one)[0]
    for other in (accumulated, two):
        torch.testing.assert_close(losses(other), losses(one), rtol=2e-3, atol=2e-4)
    results = [json.loads((run / "results.json").read_text()) for run in (one, two)]
    assert results[0]["data_hash"] == results[1]["data_hash"]
    assert done.stdout.count("what trains") == 1


def test_two_processes_refuse_an_existing_run_with_one_line(cases):
    ended = cases.ended("old")
    assert [status for status, _, _ in ended] == [2, 2]
    lines = [line for _, _, stderr in ended for line in stderr.splitlines()]
    assert sum(line.startswith("gpt2v: ") for line in lines) == 1
    assert [file.name for file in (cases.root / "old-2").iterdir()] == ["config.yaml"]
    assert (cases.root / "old-2" / "config.yaml").read_text() == "old"


def test_two_processes_agree_in_steps_that_use_frozen_parts_only(cases):
    """Text does not use the vision tower; with a frozen GPT-2, nothing trains in such a step."""
    one, two = cases.alone("frozen"), cases.in_two("frozen")
    torch.testing.assert_close(losses(two), losses(one), rtol=2e-3, atol=2e-4)
    assert '"total": 0.0' in (one / "metrics.jsonl").read_text()  # there was such a step
    assert len(set(losses(one))) > 5


def test_two_processes_exchange_the_gradients_of_each_stage(cases, capsys):
    """The first stage ends with a step that trains nothing; its exchange must end, too."""
    one = cases.alone("stages")
    assert capsys.readouterr().out.count("what trains") == 3
    two = cases.in_two("stages")
    assert sum(stdout.count("what trains") for _, stdout, _ in cases.ended("stages")) == 3
    torch.testing.assert_close(losses(two), losses(one), rtol=2e-3, atol=2e-4)


def test_two_processes_read_the_same_features_of_a_frozen_tower(cases):
    one, two = cases.alone("features", "--features.mode", "off"), cases.in_two("features")
    torch.testing.assert_close(losses(two), losses(one), rtol=2e-3, atol=2e-4)
    assert sum(stdout.count(", into ") for _, stdout, _ in cases.ended("features")) == 1
    assert len(list(cases.cache.iterdir())) == 1


def test_workers_end_with_torchrun(cases, tmp_path):
    """It was killed; they must not keep the run for ever, and the next command continues it."""
    run = tmp_path / "run"
    config = str(cases.root / "grids.yaml")
    train = ["lm", "train", config, "--out", str(run), "--train.save_every", "1"]
    more = ["--data.stages.0.steps", "100000"]
    child = subprocess.Popen(
        torchrun_command("-m", "gpt2v", *train, *more),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 120
    while not list(run.glob("checkpoints/step-*")) and time.monotonic() < limit:
        time.sleep(0.05)
    child.kill()
    child.wait()
    while True:
        try:
            with owned(run):
                break
        except UserError:
            assert time.monotonic() < limit
            time.sleep(0.1)
    assert checkpoints.newest_whole(run) is not None


TOO_LARGE_IN_ONE = """
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
import gpt2v.cli.main as command
from gpt2v.__main__ import main
from gpt2v.train.distributed import processes, rank
from gpt2v.train.loop import fit
from helpers import toy_task, train_config

def work(argv):
    task = toy_task()

    def loss(part):
        if rank() == 1 and part.step == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return task.loss(part)

    with processes():
        config = train_config(save_every=2)
        fit(replace(task, loss=loss), config, 12, Path(sys.argv[2]), "test")

command._command = work
sys.exit(main())
"""


def test_too_little_memory_in_one_process_ends_both(tmp_path):
    """That process says so; the other one may only know that it has ended."""
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(TOO_LARGE_IN_ONE)
    run.mkdir()
    command = torchrun_command(str(script), str(REPO / "tests"), str(run))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("gpt2v: ")]
    told = [line for line in said if "test: at step 3: out of memory (CUDA out of memory.)" in line]
    assert len(told) == 1
    assert "(step-000002 is complete)" in told[0]
    assert [path.name for path in checkpoints_of(run)] == ["step-000002"]


OVERFLOW_IN_ONE = """
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, sys.argv[1])
import gpt2v.hardware.precision as precision
import gpt2v.train.throughput as throughput
from gpt2v.train.distributed import processes, rank
from gpt2v.train.loop import fit
from helpers import toy_task, train_config

class Overflow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")

precision.has_fp16 = lambda device: True
throughput.matmul_peak = lambda *_: 1e12
task = toy_task()

def loss(part):
    value = task.loss(part) / 100
    return Overflow.apply(value) if rank() == 1 and part.step == 3 else value

with processes():
    config = train_config(precision="fp16", log_every=1)
    fit(replace(task, loss=loss), config, 6, Path(sys.argv[2]), "test")
    torch.save(task.model.state_dict(), Path(sys.argv[2]) / f"{rank()}.pt")
"""


def test_two_processes_skip_the_same_steps_in_fp16(tmp_path):
    script, run = tmp_path / "script.py", tmp_path / "run"
    script.write_text(OVERFLOW_IN_ONE)
    run.mkdir()
    torchrun(str(script), str(REPO / "tests"), str(run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    skipped = [line["skipped_steps"] for line in lines if "loss" in line]
    assert skipped == [0, 0, 0, 1, 0, 0]
    one, other = (torch.load(run / f"{i}.pt", weights_only=True) for i in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
