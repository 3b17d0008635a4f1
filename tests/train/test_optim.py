"""Parameter groups, including frozen ones, and learning-rate schedules."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from gpt2v.config.loop import GroupConfig, TrainConfig
from gpt2v.errors import UserError
from gpt2v.train.optim import Optimizers, _fused_devices, group_parameters, lr_factor
from helpers import train_config


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(3, 4)
        self.projector = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.projector(self.tower(x)).tanh())


def group(name, pattern, lr=0.1, **more):
    return {"name": name, "pattern": pattern, "lr": lr, **more}


def test_the_first_match_wins():
    config = train_config(groups=[group("w", "tower.weight"), group("t", "tower"), group("r", "")])
    groups = group_parameters(Net(), config.groups)
    assert [g.names for g in groups][:2] == [("tower.weight",), ("tower.bias",)]
    assert len(groups[2].names) == 4
    assert [g.size for g in groups] == [12, 4, 4 * 4 + 4 + 2 * 4 + 2]


def test_a_parameter_without_a_group_and_a_group_without_parameters_are_refused():
    config = train_config(groups=[group("t", "^tower"), group("p", "^projector")])
    with pytest.raises(UserError, match=r"train\.groups: no pattern matches .*head\.weight"):
        Optimizers(Net(), config)
    config = train_config(groups=[group("all", ""), group("t", "^tower")])
    with pytest.raises(UserError, match=r"train\.groups\.1\.pattern: '\^tower' matches no"):
        Optimizers(Net(), config)


def test_everything_frozen_is_refused():
    with pytest.raises(UserError, match="every group is frozen"):
        Optimizers(Net(), train_config(groups=[group("all", "", 0)]))


@pytest.mark.parametrize(("supported", "fused"), [(["cpu", "cuda"], True), (["cuda"], False)])
def test_adamw_is_fused_where_torch_has_it(monkeypatch, supported, fused):
    monkeypatch.setattr("gpt2v.train.optim._fused_devices", lambda: supported)
    (adamw,) = Optimizers(Net(), train_config()).optimizers
    assert adamw.defaults["fused"] == fused


def test_this_torch_tells_where_it_has_fused_adamw():
    """A function of torch that is not documented."""
    assert {"cpu", "cuda", "mps"} <= set(_fused_devices())


def step(net, optimizers):
    net(torch.ones(2, 3)).square().sum().backward()
    optimizers.step()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_rates_take_effect_group_by_group(kind):
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    groups = [
        group("t", "^tower", 0, weight_decay=0.5, optimizer=kind),
        group("p", "^projector", 1e-4, optimizer=kind),
        group("h", "", 1e-2, optimizer=kind),
    ]
    step(net, Optimizers(net, train_config(groups=groups)))
    change = {k: float((v - before[k]).abs().max()) for k, v in net.state_dict().items()}
    assert change["tower.weight"] == change["tower.bias"] == 0
    assert change["head.weight"] > 30 * change["projector.weight"] > 0
    assert not net.tower.weight.requires_grad


def test_each_muon_group_has_its_own_momentum():
    muon = {"optimizer": "muon"}
    groups = [group("t", "^tower", momentum=0.5, **muon), group("r", "", **muon)]
    net = Net()
    optimizers = Optimizers(net, train_config(groups=groups))
    gradients = {}
    for step in range(2):
        optimizers.zero_grad()
        net(torch.ones(1, 3) * (step + 1)).sum().backward()
        gradients[step] = [net.tower.weight.grad.clone(), net.projector.weight.grad.clone()]
        optimizers.step()
    state = optimizers.state_tensors()
    for i, (name, share) in enumerate((("tower", 0.5), ("projector", 0.95))):
        first, second = gradients[0][i], gradients[1][i]
        expected = (share * first + second) * (1 - share)
        torch.testing.assert_close(state[f"{name}.weight/momentum_buffer"], expected)
    with pytest.raises(ValueError, match=r"momentum: 0\.5 has no effect: optimizer: adamw"):
        GroupConfig(name="a", pattern="", momentum=0.5)


def test_each_group_follows_its_own_schedule():
    net = Net()
    groups = [
        group("t", "^tower", 0.2, optimizer="muon", schedule="constant", warmup=4),
        group("h", "", 0.4),
    ]
    config = train_config(groups=groups, schedule="linear", warmup=0)
    optimizers = Optimizers(net, config)
    assert optimizers.set_lr(0, 10) == pytest.approx({"t": 0.05, "h": 0.4})
    assert optimizers.set_lr(5, 10) == pytest.approx({"t": 0.2, "h": 0.2})
    rates = {e["group"].name: e["lr"] for o in optimizers.optimizers for e in o.param_groups}
    assert rates["h"] == pytest.approx(0.2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizers.set_lr(10, 10)
    step(net, optimizers)
    after = net.state_dict()
    assert torch.equal(after["head.weight"], before["head.weight"])
    assert not torch.equal(after["tower.weight"], before["tower.weight"])


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_the_state_is_restored(kind):
    config = train_config(groups=[group("all", "", 0.1, optimizer=kind)])
    torch.manual_seed(0)
    one, two = Net(), Net()
    first, second = Optimizers(one, config), Optimizers(two, config)
    step(one, first)
    two.load_state_dict(one.state_dict())
    state = {k: v.clone() for k, v in first.state_tensors().items()}
    assert all(name.rpartition("/")[0] in one.state_dict() for name in state)
    second.load_state_tensors({**state, "raw/tower.weight": torch.zeros(1)})
    first.zero_grad()
    step(one, first)
    step(two, second)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weight_decay_shrinks_matrices_only(kind):
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    options = {"weight_decay": 0.5, "optimizer": kind}
    optimizers = Optimizers(net, train_config(groups=[group("all", "", 0.1, **options)]))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.step()
    for name, value in net.state_dict().items():
        factor = 0.95 if name.endswith("weight") else 1.0
        torch.testing.assert_close(value, factor * before[name], atol=1e-6, rtol=1e-5)


def test_clipping_returns_the_norm_before_it():
    net = Net()
    optimizers = Optimizers(net, train_config())
    for p in net.parameters():
        p.grad = torch.full_like(p, 3.0)
    n = sum(p.numel() for p in net.parameters())
    for largest in (None, 1.0):
        norms = optimizers.clip(largest)
        assert norms == pytest.approx({"all": 3 * n**0.5, "total": 3 * n**0.5})
    assert sum(float(p.grad.square().sum()) for p in net.parameters()) == pytest.approx(1, rel=1e-3)


def test_what_trains_is_listed():
    groups = [group("t", "^tower", 0), group("rest", "", 0.5, optimizer="muon")]
    lines = Optimizers(Net(), train_config(groups=groups)).describe()
    assert "frozen" in lines[0]
    assert "16 parameters" in lines[0]
    assert "muon, lr 0.5" in lines[1]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
def test_schedules_warm_up_reach_the_peak_and_end(schedule):
    factors = [lr_factor(schedule, 10, step, 110) for step in range(111)]
    assert factors[:11] == pytest.approx([*(i / 10 for i in range(1, 11)), 1.0])
    assert max(factors) == 1.0
    after = factors[10:]
    assert all(a >= b for a, b in pairwise(after))
    assert factors[110] == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-12)
    middle = {"constant": 1.0, "linear": 0.5, "cosine": 0.5, "wsd": 1.0}[schedule]
    assert factors[60] == pytest.approx(middle)
    if schedule == "wsd":
        assert factors[100] == pytest.approx(0.5)


def test_a_training_shorter_than_its_warm_up_has_rates_in_range():
    assert all(0 < lr_factor("cosine", 50, step, 20) <= 1 for step in range(20))


def test_a_group_without_gradients_has_a_norm_of_zero_on_the_models_device(monkeypatch):
    """For no tensors torch returns a zero on the CPU, which does not stack with others on a GPU."""
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    groups = [GroupConfig(name=n, pattern=f"^{n}", lr=0.1) for n in ("a", "b")]
    optimizers = Optimizers(model, TrainConfig(groups=groups))
    model["a"](torch.ones(1, 2)).sum().backward()
    total_norm = torch.nn.utils.get_total_norm

    def of_something(tensors, *args, **kwargs):
        assert tensors, "the norm of nothing is on the CPU"
        return total_norm(tensors, *args, **kwargs)

    monkeypatch.setattr(torch.nn.utils, "get_total_norm", of_something)
    norms = optimizers.clip(1.0)
    assert norms["b"] == 0
    assert norms["a"] == norms["total"] > 0
