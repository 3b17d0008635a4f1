"""Too little memory, of the machine or of a card, ends a training with one line that says what to
change; the last checkpoint stays whole.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gpt2v.errors import UserError
from gpt2v.train import checkpoints
from gpt2v.train.loop import fit
from helpers import toy_task, train_config


def too_large(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")


def failing_at(step, task):
    loss = task.loss
    return replace(task, loss=lambda part: too_large() if part.step == step else loss(part))


def test_in_a_step(tmp_path):
    says = (
        r"^test: at step 5: out of memory \(CUDA out of memory. Tried to allocate 9.00 GiB.\); "
        r"4 samples are read at once with train.accumulate: 2; raise it, or lower the batch size "
        r"\(step-000004 is complete\)$"
    )
    config = train_config(save_every=2, accumulate=2)
    with pytest.raises(UserError, match=says):
        fit(failing_at(5, toy_task()), config, 12, tmp_path, "test")
    newest = checkpoints.newest_whole(tmp_path)
    assert newest.name == "step-000004"
    whole = toy_task()
    fit(whole, config, 12, tmp_path, "test")  # with more memory it continues
    assert checkpoints.newest_whole(tmp_path).name == "step-000012"


def test_in_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"at step 0: .* lower the batch size$"):
        fit(failing_at(0, toy_task()), train_config(), 12, tmp_path, "test")


def test_in_the_optimizer(tmp_path, monkeypatch):
    """Its state is made in the first step."""
    monkeypatch.setattr(torch.optim.AdamW, "step", too_large)
    with pytest.raises(UserError, match=r"^test: at step 0: out of memory"):
        fit(toy_task(), train_config(), 12, tmp_path, "test")


def test_in_a_batch_of_the_machine_s_memory(tmp_path):
    def batch(*_):
        raise MemoryError

    with pytest.raises(UserError, match=r"at step 0: out of memory \(MemoryError\)"):
        fit(replace(toy_task(), batch=batch), train_config(), 12, tmp_path, "test")


def test_in_a_validation(tmp_path):
    with pytest.raises(
        UserError, match=r"^test: validation after step 4: out of memory .* smaller model"
    ):
        fit(toy_task(evaluate=too_large), train_config(eval_every=4), 12, tmp_path, "test")


def test_while_a_checkpoint_is_saved(tmp_path):
    task = toy_task()
    save = task.save

    def failing(folder):
        save(folder)
        if folder.name.startswith(".step-000006"):
            too_large()

    with pytest.raises(UserError, match=r"at step 5: out of memory .*step-000003 is complete"):
        fit(replace(task, save=failing), train_config(save_every=3), 12, tmp_path, "test")
    assert checkpoints.newest_whole(tmp_path).name == "step-000003"


def test_an_error_of_another_kind_is_not_hidden(tmp_path):
    broken = nn.Linear(3, 1)
    task = replace(toy_task(), loss=lambda part: broken(part.x).sum())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(task, train_config(), 12, tmp_path, "test")
