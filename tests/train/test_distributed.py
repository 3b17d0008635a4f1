"""One process, accumulation and two processes compute the same training."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gpt2v.cli.main import main
from gpt2v.data.stream import slice_of_batch
from gpt2v.errors import UserError
from gpt2v.run_layout import checkpoints_of
from gpt2v.storage.ownership import owned
from gpt2v.train import checkpoints
from gpt2v.train.distributed import from_rank_0, parallel, rank_0_first, sums
from gpt2v.train.loop import fit
from helpers import REPO, TINY_MM, toy_task, train_config, write_yaml
from two_processes import ended_torchrun, torchrun, torchrun_command

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


@pytest.mark.parametrize(
    "exchange",
    [
        lambda: sums([1.0]),
        lambda: from_rank_0(int),
        lambda: rank_0_first(int),
        lambda: parallel(torch.nn.Linear(1, 1), torch.sum, False)(torch.ones(1)),
    ],
)
def test_an_exchange_in_work_of_one_process_is_a_mistake_also_in_one(exchange):
    with pytest.raises(AssertionError, match="one process does alone"):
        from_rank_0(exchange)
    exchange()


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
TRAINED_TOWER = [{"name": "all", "pattern": "", "lr": 0.003}]
FEW = {**IMAGE, "n_images": 10}
# Every kind of plan in which pictures are first shown to rank 0 alone, when it validates.
PLANS = {
    "text, then pictures": mm(
        [{"steps": 3, "mix": [IMAGE | {"modality": "text"}]}, {"steps": 3, "mix": [FEW]}],
        groups=FROZEN_TOWER,
        eval_every=2,
    ),
    "text, then pictures, averaged": mm(
        [{"steps": 3, "mix": [IMAGE | {"modality": "text"}]}, {"steps": 3, "mix": [FEW]}],
        groups=FROZEN_TOWER,
        eval_every=2,
        ema=0.9,
        accumulate=2,
    ),
    "frozen, then trained": mm(
        [{"steps": 3, "mix": [IMAGE | {"modality": "text"}]}, {"steps": 4, "mix": [FEW]}],
        stage_groups={"0": FROZEN_TOWER, "1": TRAINED_TOWER},
        eval_every=2,
    ),
    "trained, then frozen": mm(
        [{"steps": 4, "mix": [FEW]}, {"steps": 4, "mix": [FEW, IMAGE | {"modality": "text"}]}],
        stage_groups={"0": TRAINED_TOWER, "1": FROZEN_TOWER},
        eval_every=1,
    ),
    "text around a validation": mm(
        [{"steps": 12, "mix": [FEW, IMAGE | {"modality": "text", "weight": 3.0}]}],
        groups=TRAINED_TOWER,
        eval_every=1,
    ),
}
SHARDED = {
    "muon": (
        "lm",
        {
            **CONFIG,
            "model": {**CONFIG["model"], "n_layer": 3, "n_embd": 10},  # 5 rows do not halve
            "train": {**CONFIG["train"], "accumulate": 2, "ema": 0.9, "eval_every": 7},
        },
    ),
    "adamw": (
        "lm",
        {
            **CONFIG,
            "model": {**CONFIG["model"], "n_layer": 2},
            "train": {
                **CONFIG["train"],
                "groups": [{"name": "lm", "pattern": "", "lr": 0.01, "weight_decay": 0.1}],
                "clip": 0.5,
            },
        },
    ),
    "small tower": (
        "mm",
        mm([{"steps": 8, "mix": [IMAGE, {"rows": 1, "cols": 2}]}], groups=TRAINED_TOWER, ema=0.9),
    ),
    **{plan: ("mm", content) for plan, content in PLANS.items()},
}
CASES = {
    **SHARDED,
    **{plan: ("mm", content) for plan, content in PLANS.items()},
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


@pytest.fixture(scope="module")
def cases(tmp_path_factory, lm_run) -> Cases:
    """The cases, and most of them run in two processes, started once because that takes longest."""
    made = Cases(tmp_path_factory.mktemp("cases"), tmp_path_factory.mktemp("cache") / "features")
    for case, (kind, content) in CASES.items():
        more = {"lm": str(lm_run)} if kind == "mm" else {}
        write_yaml(made.root / f"{case}.yaml", {**content, **more})
    commands = {case: made.argv(case, 2) for case in (*PLANS, "frozen", "stages", "features")}
    for plan in PLANS:
        commands[plan] += ["--features.path", str(made.root / f"{plan} features")]
    commands["features"] += ["--features.mode", "require", "--features.path", str(made.cache)]
    (made.root / "old-2").mkdir()
    (made.root / "old-2" / "config.yaml").write_text("old")
    commands["old"] = [*made.argv("grids", 2)[:-1], str(made.root / "old-2")]
    for case in (*SHARDED, "frozen", "stages"):
        whole = commands.setdefault(case, made.argv(case, 2))
        out = str(made.root / f"{case}-shares")
        commands[f"{case} in shares"] = [*whole[:4], out, *whole[5:], "--train.shard", "true"]
    cut = [*made.argv("grids", 2)[:-1], str(made.root / "cut-2")]
    assert main(cut) == 0
    (made.root / "cut-2" / "results.json").unlink()
    shutil.rmtree(made.root / "cut-2" / "checkpoints" / "step-000020")
    commands["cut"] = [*cut, "--resume"]
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


@pytest.mark.parametrize("plan", PLANS)
def test_rank_0_may_see_pictures_that_no_process_has_seen(cases, plan):
    one = cases.alone(plan, "--features.path", str(cases.root / f"{plan} features of one"))
    two = cases.in_two(plan)
    torch.testing.assert_close(losses(two), losses(one), rtol=2e-3, atol=2e-4)
    scores = [json.loads((run / "results.json").read_text())["results"] for run in (one, two)]
    assert scores[0] == scores[1]
    text = "".join(stderr for _, _, stderr in cases.ended(plan))
    assert "arning" not in text, text  # torch's would be


def test_a_resume_with_another_number_of_processes_says_what_changes(cases):
    two = cases.in_two("cut")
    one = cases.alone("grids") if not (cases.root / "grids-1").is_dir() else cases.root / "grids-1"
    torch.testing.assert_close(losses(two), losses(one), rtol=2e-3, atol=2e-4)
    said = [line for _, _, err in cases.ended("cut") for line in err.splitlines()]
    assert [line for line in said if "cut a batch into 1 parts" in line and "not 2" in line] == said


def test_a_mistake_that_all_processes_find_is_one_line(cases):
    """torchrun ends them all as soon as one of them has ended."""
    done = ended_torchrun("-m", "gpt2v", *cases.argv("grids", 3), "--data.batch_size", "1")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("gpt2v: ")]
    assert line.endswith(
        "data.batch_size: a batch of 1 cannot be cut into 2 parts (processes times "
        "train.accumulate)"
    )


# Rank 0 works longer than an exchange would wait; then it fails, and the other one is told why.
TURNS = """
import sys, time
from datetime import timedelta
from gpt2v.train import distributed
from gpt2v.errors import UserError

distributed._PATIENCE = timedelta(seconds=2)

def work(fault=""):
    if distributed.rank() == 0:
        time.sleep(4)
        print("first", flush=True)
        if fault:
            raise UserError(fault)
    else:
        print("second", flush=True)
    return distributed.rank()

with distributed.processes():
    assert distributed.rank_0_first(work) == distributed.rank()
    try:
        distributed.rank_0_first(lambda: work("no room"))
    except UserError as error:
        assert str(error) == "no room"
    else:
        sys.exit("no error")
"""


def test_others_wait_for_rank_0_without_an_exchange(tmp_path):
    (tmp_path / "turns.py").write_text(TURNS)
    done = torchrun(str(tmp_path / "turns.py"))
    assert done.stdout.split() == ["first", "second", "first"]


@pytest.mark.parametrize("case", [*SHARDED, "frozen", "stages"])
def test_sharding_changes_no_loss_and_no_file(cases, case):
    two = cases.in_two(case)
    for status, _, stderr in cases.ended(f"{case} in shares"):
        assert status == 0, stderr
        assert "arning" not in stderr
    shares = cases.root / f"{case}-shares"
    torch.testing.assert_close(losses(shares), losses(two), rtol=2e-3, atol=2e-4)
    if not (one := cases.root / f"{case}-1").is_dir():
        cases.alone(case, *(["--features.mode", "off"] if CASES[case][0] == "mm" else []))
    torch.testing.assert_close(losses(shares), losses(one), rtol=2e-3, atol=2e-4)
    for name in ("model.safetensors", checkpoints.OPTIMIZER):
        tensors, expected = (
            load_file(checkpoints.newest_whole(run) / name) for run in (shares, two)
        )
        assert tensors.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(tensors[key], tensor, rtol=0.02, atol=2e-3, msg=key)


def cut_at_half(run, to):
    """A copy of a run as it was when it had done half of its steps."""
    shutil.copytree(run, to)
    (to / "results.json").unlink()
    shutil.rmtree(to / "checkpoints" / f"step-{STEPS:06d}")
    lines = (to / "metrics.jsonl").read_text().splitlines(keepends=True)
    (to / "metrics.jsonl").write_text("".join(lines[: len(lines) // 2]))


def test_a_sharded_training_is_resumed_without_shares_and_the_other_way_round(cases):
    root, commands = cases.root / "resumed", {}
    root.mkdir()
    for before, now in (("-2", "true"), ("-shares", "false")):
        cut_at_half(cases.root / f"muon{before}", root / before[1:])
        argv = cases.argv("muon", 2)
        argv = [*argv[:4], str(root / before[1:]), *argv[5:], "--resume", "--train.shard", now]
        commands[before[1:]] = argv
    (root / "commands.json").write_text(json.dumps(commands))
    torchrun(str(REPO / "tests" / "commands_in_turn.py"), str(root))
    for name in commands:
        said = (json.loads((root / f"{name}.{rank}.json").read_text()) for rank in (0, 1))
        assert [(status, "arning" in err) for status, _, err in said] == [(0, False)] * 2
        torch.testing.assert_close(
            losses(root / name), losses(cases.in_two("muon")), rtol=2e-3, atol=2e-4
        )


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
from helpers import Overflow, toy_task, train_config

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


OTHER_BUFFERS = """
import sys
from pathlib import Path

import torch

from gpt2v.train.distributed import parallel, processes, rank

with processes():
    model = torch.nn.BatchNorm1d(3)
    model.running_mean.fill_(rank() + 5)
    parallel(model, lambda model, batch: model(batch).sum(), False)
    torch.save(model.running_mean, Path(sys.argv[1]) / f"{rank()}.pt")
"""


def test_two_processes_begin_with_equal_buffers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(OTHER_BUFFERS)
    torchrun(str(script), str(tmp_path))
    for i in (0, 1):
        assert torch.load(tmp_path / f"{i}.pt").tolist() == [5, 5, 5]
