"""One process, accumulation and two processes train on the same thing."""

import json
import socket
import subprocess
import sys

import pytest
import torch

from gpt2v.data.stream import slice_of_batch
from gpt2v.errors import UserError
from gpt2v.train.loop import fit
from helpers import TINY_MM, toy_task, train_config, write_yaml

STEPS = 20


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("size", [8, 7])
def test_accumulation_does_not_change_the_gradient(tmp_path, size):
    found = []
    for parts in (1, 2, 3):
        run = tmp_path / str(parts)
        run.mkdir()
        fit(toy_task(size=size), train_config(accumulate=parts, log_every=1), STEPS, run, "test")
        found.append(losses(run))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[2], found[0], rtol=1e-4, atol=1e-6)


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


def train(config, run, *options, processes=1, kind="lm"):
    """`gpt2v lm train` in one process, or in two that torchrun starts."""
    command = [sys.executable, "-m"]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += ["torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-addr", "127.0.0.1", "--master-port", str(port), "-m"]
    command += ["gpt2v", kind, "train", str(config), "--out", str(run), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_process_accumulation_and_two_processes_give_the_same_losses(tmp_path):
    config = write_yaml(tmp_path / "c.yaml", CONFIG)
    runs = {
        "one": train(config, tmp_path / "one"),
        "accumulate": train(config, tmp_path / "accumulate", "--train.accumulate", "2"),
        "two": train(config, tmp_path / "two", processes=2),
    }
    for name, done in runs.items():
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(losses(tmp_path / name)) == STEPS
    one = losses(tmp_path / "one")
    assert one[-1] < one[0]
    for name in ("accumulate", "two"):
        torch.testing.assert_close(losses(tmp_path / name), one, rtol=2e-3, atol=2e-4)
    found = [json.loads((tmp_path / name / "results.json").read_text()) for name in runs]
    assert found[0]["data_hash"] == found[2]["data_hash"]
    assert runs["two"].stdout.count("what trains") == 1


def test_two_processes_refuse_an_existing_run_with_one_line(tmp_path):
    config = write_yaml(tmp_path / "c.yaml", CONFIG)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "config.yaml").write_text("kept")
    done = train(config, tmp_path / "r", processes=2)
    assert done.returncode != 0
    assert sum(line.startswith("gpt2v: ") for line in done.stderr.splitlines()) == 1
    assert (tmp_path / "r" / "config.yaml").read_text() == "kept"


def test_steps_that_touch_frozen_parts_only_keep_two_processes_together(tmp_path, lm_run):
    """Text leaves the vision tower alone; with the GPT-2 frozen nothing trains in such a step."""
    mix = [{"rows": 1, "cols": 2, "modality": "image"}, {"rows": 1, "cols": 2}]
    groups = [{"name": "lm", "pattern": "^language_model", "lr": 0}]
    groups.append({"name": "rest", "pattern": "", "lr": 0.001})
    content = {
        **TINY_MM,
        "lm": str(lm_run),
        "data": {"batch_size": 4, "stages": [{"steps": 10, "mix": mix}]},
        "train": {"groups": groups, "log_every": 1, "eval_grids": 4, "tensorboard": False},
    }
    config = write_yaml(tmp_path / "c.yaml", content)
    for processes in (1, 2):
        done = train(config, tmp_path / str(processes), processes=processes, kind="mm")
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    torch.testing.assert_close(two, one, rtol=2e-3, atol=2e-4)
    lines = (tmp_path / "1" / "metrics.jsonl").read_text()
    assert '"total": 0.0' in lines  # there was such a step
    assert len(set(one)) > 5


def test_two_processes_exchange_the_gradients_of_what_each_stage_trains(tmp_path, lm_run):
    """The first stage ends with a step that trains nothing: its exchange must not linger."""
    mix = [{"rows": 1, "cols": 2, "modality": "image"}, {"rows": 1, "cols": 2}]
    groups = {
        str(stage): [
            {"name": "lm", "pattern": "^language_model", "lr": of_lm},
            {"name": "rest", "pattern": "", "lr": of_rest},
        ]
        for stage, (of_lm, of_rest) in enumerate(((0, 0.01), (0.003, 0), (0.003, 0.01)))
    }
    content = {
        **TINY_MM,
        "lm": str(lm_run),
        "data": {"batch_size": 4, "stages": [{"steps": 6, "mix": mix}] * 3},
        "train": {
            "stage_groups": groups,
            "log_every": 1,
            "eval_grids": 4,
            "tensorboard": False,
            "warmup": 0,
        },
    }
    config = write_yaml(tmp_path / "c.yaml", content)
    for processes in (1, 2):
        done = train(config, tmp_path / str(processes), processes=processes, kind="mm")
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("what trains") == 3
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    torch.testing.assert_close(two, one, rtol=2e-3, atol=2e-4)


def test_two_processes_read_the_same_features_of_a_frozen_tower(tmp_path, lm_run):
    groups = [{"name": "vision_tower", "pattern": "^vision_tower", "lr": 0}]
    groups.append({"name": "rest", "pattern": "", "lr": 0.001})
    mix = [{"rows": 1, "cols": 2, "modality": "image", "n_images": 10}]
    content = {
        **TINY_MM,
        "lm": str(lm_run),
        "data": {"batch_size": 4, "stages": [{"steps": 8, "mix": mix}]},
        "train": {"groups": groups, "log_every": 1, "eval_grids": 4, "tensorboard": False},
    }
    config = write_yaml(tmp_path / "c.yaml", content)
    plain = train(config, tmp_path / "1", "--features.mode", "off", kind="mm")
    assert plain.returncode == 0, plain.stderr[-3000:]
    kept = ("--features.mode", "require", "--features.path", str(tmp_path / "kept"))
    done = train(config, tmp_path / "2", *kept, processes=2, kind="mm")
    assert done.returncode == 0, done.stderr[-3000:]
    torch.testing.assert_close(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=2e-3, atol=2e-4)
    assert done.stdout.count(", into ") == 1
    assert len(list((tmp_path / "kept").iterdir())) == 1
