"""Shares of tensors in two processes: they make up the whole, and rank 0 can be a plain model."""

import pytest
import torch

from gpt2v.errors import UserError
from gpt2v.train import sharding
from two_processes import torchrun

# What two processes check; an assertion that fails ends both.
CHECKS = """
import copy
import torch
from torch import nn
from gpt2v.errors import UserError
from gpt2v.train.distributed import Losses, all_agree, processes, rank, sums
from gpt2v.train.sharding import (
    collected, is_sharded, local, shard, shared_as, total_norms, whole, whole_on_rank_0, with_share,
)

cpu = torch.device("cpu")

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 5)
        self.block = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 5))
        self.frozen = nn.Linear(5, 5)
        self.head = nn.Linear(5, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(self.frozen(self.block(self.words(ids))))

with processes():
    torch.manual_seed(0)
    model = Model()
    plain = copy.deepcopy(model)
    ids = torch.arange(7)
    named = {name: p for name, p in model.named_parameters() if "frozen" not in name}
    losses = Losses(model, lambda ids: model(ids).square().sum())
    shard(losses, [model.block], {f"model.{name}" for name in named})

    # Everything that trains is cut; a share is about half of it.
    for name, p in model.named_parameters():
        assert is_sharded(p) == ("frozen" not in name), name
        if is_sharded(p):
            assert p.shape == named[name].shape
            assert len(local(p)) in (len(p) // 2, len(p) - len(p) // 2), name
            assert sums([local(p).numel()]) == [p.numel()]
            again = shared_as(whole(p.detach()), p)
            assert torch.equal(local(again), local(p))
            assert torch.equal(whole(with_share(p, local(p.detach()))), whole(p.detach()))
    assert model.head.weight is model.words.weight

    # Gradients are the mean of those of the processes, which had other inputs.
    losses(ids[rank() :: 2]).backward()
    (plain(ids).square().sum() / 2).backward()
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        if is_sharded(p):
            torch.testing.assert_close(whole(p.grad), q.grad, msg=name)
    own = torch.stack([local(model.words.weight.grad).norm()])
    torch.testing.assert_close(total_norms(own, True)[0], plain.words.weight.grad.norm())

    # Whole tensors are on rank 0 alone; there the model runs, alone.
    state = collected({"words": model.words.weight.detach(), "step": torch.ones(())})
    assert list(state) == (["words", "step"] if rank() == 0 else [])
    with whole_on_rank_0(model, cpu):
        if rank() == 0:
            assert torch.equal(state["words"], plain.words.weight)
            assert model.head.weight is model.words.weight
            assert torch.equal(model(ids), plain(ids))
            for (name, value), expected in zip(
                model.state_dict().items(), plain.state_dict().values(), strict=True
            ):
                assert torch.equal(value, expected), name
    assert is_sharded(model.words.weight)
    torch.testing.assert_close(  # and again all of them together
        sums([losses(ids[rank() :: 2]).item()])[0], plain(ids).square().sum().item()
    )

    def check():
        if rank() == 1:
            raise UserError("of rank 1")
    try:
        all_agree(check)
    except UserError as error:
        assert str(error) == "of rank 1"
    else:
        raise SystemExit("no error")
"""


def test_shares_in_two_processes(tmp_path):
    (tmp_path / "checks.py").write_text(CHECKS)
    torchrun(str(tmp_path / "checks.py"))


def test_one_process_or_another_device_is_refused(monkeypatch):
    with pytest.raises(UserError, match=r"train\.shard: true has no effect: there is one process"):
        sharding.check_sharding(torch.device("cpu"))
    monkeypatch.setattr(sharding, "world_size", lambda: 2)
    sharding.check_sharding(torch.device("cpu"))
    with pytest.raises(UserError, match=r"train\.shard: true is not possible on mps"):
        sharding.check_sharding(torch.device("mps"))
