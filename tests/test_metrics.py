"""What a training logs."""

import json

from gpt2v.train.metrics import Metrics


def test_metrics_are_one_object_per_line(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.log(1, loss=2.0)
    metrics.log(2, loss=1.5, lr={"a": 0.1})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()  # before it is closed
    metrics.close()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.5, "lr": {"a": 0.1}},
    ]
