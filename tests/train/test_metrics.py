"""The log of a training."""

import json
import sys

import pytest

from gpt2v.errors import UserError
from gpt2v.train.metrics import Metrics
from helpers import train_config


def lines(run):
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time"} for line in logged]


def test_metrics_are_one_object_per_line(tmp_path):
    metrics = Metrics(tmp_path, train_config())
    metrics.log(1, loss=2.0)
    metrics.log(2, loss=1.5, lr={"a": 0.1})
    logged = lines(tmp_path)  # before the file is closed
    metrics.close()
    assert logged == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5, "lr": {"a": 0.1}}]


def test_lines_of_steps_that_are_repeated_are_deleted(tmp_path):
    with (tmp_path / "metrics.jsonl").open("w") as file:
        file.write("".join(json.dumps({"step": step, "loss": 0}) + "\n" for step in (1, 2, 3)))
        file.write('{"step": 2, "lo')  # an interrupted write
    metrics = Metrics(tmp_path, train_config(), done=2)
    metrics.log(3, loss=1)
    metrics.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert lines(tmp_path)[-1]["loss"] == 1


def test_tensorboard_is_written_unless_switched_off(tmp_path):
    for on in (True, False):
        (tmp_path / str(on)).mkdir()
        metrics = Metrics(tmp_path / str(on), train_config(tensorboard=on))
        metrics.log(1, loss=2.0)
        metrics.close()
        assert (tmp_path / str(on) / "tensorboard").exists() == on


def test_weights_and_biases_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"train.wandb: .*not installed.*gpt2v\[wandb\]"):
        Metrics(tmp_path, train_config(wandb="project"))


def test_weights_and_biases_gets_what_is_asked_for(tmp_path, monkeypatch):
    calls = []

    class Fake:
        @staticmethod
        def init(**options):
            calls.append(options["project"])
            return Fake

        @staticmethod
        def log(scalars, step):
            calls.append((step, scalars))

        @staticmethod
        def finish():
            calls.append("finish")

    monkeypatch.setitem(sys.modules, "wandb", Fake)
    metrics = Metrics(tmp_path, train_config(wandb="p"))
    metrics.log(4, loss=2.0, lr={"a": 0.1}, data="x")
    metrics.close()
    assert calls == ["p", (4, {"loss": 2.0, "lr/a": 0.1}), "finish"]
