"""Batches drawn in a thread: the same ones, in order, while the step before is computed."""

import json
import threading

import pytest
import torch

from gpt2v.errors import UserError
from gpt2v.train import training
from gpt2v.train.ahead import Ahead
from gpt2v.train.loop import fit
from helpers import toy_task, train_config


class Drawing:
    """Draws the square of a step; records when it begins, and where."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.threads: list[threading.Thread] = []
        self.begun = threading.Condition()

    def __call__(self, step: int) -> int:
        with self.begun:
            self.steps.append(step)
            self.threads.append(threading.current_thread())
            self.begun.notify_all()
        return step**2

    def wait_for(self, step: int) -> bool:
        with self.begun:
            return self.begun.wait_for(lambda: step in self.steps, timeout=60)


@pytest.mark.parametrize("threads", [False, True])
def test_every_step_is_drawn_once_in_order(threads):
    drawing = Drawing()
    ahead = Ahead(drawing, 6, threads)
    assert [ahead.take(step) for step in range(2, 6)] == [4, 9, 16, 25]
    ahead.close()
    assert drawing.steps == [2, 3, 4, 5]  # nothing from the end on


def test_the_next_step_is_drawn_while_this_one_is_computed():
    drawing = Drawing()
    ahead = Ahead(drawing, 9, threads=True)
    ahead.take(0)
    assert drawing.wait_for(1)  # before step 1 is taken
    assert drawing.threads[1] is not threading.main_thread()
    ahead.close()
    plain = Drawing()
    Ahead(plain, 9, threads=False).take(0)
    assert plain.steps == [0]


def test_a_step_out_of_order_is_drawn_anew():
    drawing = Drawing()
    ahead = Ahead(drawing, 9, threads=True)
    assert [ahead.take(step) for step in (0, 5, 6)] == [0, 25, 36]
    ahead.close()
    assert drawing.steps.count(5) == 1


def test_what_drawing_raises_is_raised_when_the_step_is_taken():
    def draw(step):
        if step == 1:
            raise UserError("tile 3 is damaged")
        return step

    ahead = Ahead(draw, 9, threads=True)
    assert ahead.take(0) == 0
    with pytest.raises(UserError, match="tile 3"):
        ahead.take(1)
    ahead.close()


def lines(run):
    made = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: line.get(k) for k in ("step", "loss", "grad_norm")} for line in made]


def test_a_training_with_the_thread_is_the_same_bit_for_bit(tmp_path, monkeypatch):
    """Also when it is resumed, and with accumulation."""
    results = []
    for threads in (False, True):
        monkeypatch.setattr(training, "computes_alone", lambda device, threads=threads: threads)
        run = tmp_path / str(threads)
        run.mkdir()
        for steps in (7, 12):  # the second continues the first
            made = toy_task(dropout=0.3)
            fit(made, train_config(accumulate=2, log_every=1), steps, run, "test")
        results.append(([p.detach() for p in made.model.parameters()], lines(run)))
    (weights, logged), (others, also_logged) = results
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
    assert logged == also_logged


def test_the_thread_ends_with_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "computes_alone", lambda device: True)
    before = set(threading.enumerate())
    with pytest.raises(UserError, match="step 3"):
        fit(toy_task(spoil=3), train_config(), 12, tmp_path, "test")
    fit(toy_task(), train_config(), 12, tmp_path, "test")
    assert set(threading.enumerate()) <= before
