"""The pretended accelerator: its values are the CPU's, it refuses what CUDA refuses, and it counts
exactly what waits for it."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pretended_device
from gpt2v.hardware.device import chosen_device
from gpt2v.model.losses import head_loss
from gpt2v.train.finite import check_finite
from pretended_device import DEVICE, NAME, counted, pretended

pytestmark = pytest.mark.skipif(
    bool(pretended_device.MISSING), reason=pretended_device.MISSING or "it is there"
)


def on_device(*values):
    return torch.tensor(values).to(DEVICE)


# ---- values ----------------------------------------------------------------------------------

_STEPS = {
    "in place": lambda x, y: x.add_(y, alpha=0.5),
    "times": lambda x, y: x.mul_(0.9) if x.abs().max() > 4 else x.mul_(1.1),
    "row": lambda x, y: x[1].copy_(y[0]),
    "columns": lambda x, y: x[:, ::2].sub_(y[:, 1::2]),
    "transposed": lambda x, y: x.T[2].fill_(0.3),
    "flat": lambda x, y: x.view(-1)[3:7].clamp_(max=0.2),
    "heads": lambda x, y: x.unflatten(1, (2, 2)).permute(1, 0, 2)[1].neg_(),
    "diagonal": lambda x, y: x.diagonal().zero_(),
    "mask": lambda x, y: x.masked_fill_(y > 0.5, -1.0),
    "mask as index": lambda x, y: x.__setitem__(y > 1, 0.5),
    "rows": lambda x, y: x.index_add_(0, x.new_tensor([0, 2]).long(), y[:2]),
    "accumulate": lambda x, y: x.index_put_((x.new_ones(3).long(),), y, accumulate=True),
    "scatter": lambda x, y: x.scatter_add_(1, (y > 0).long(), y),
    "product": lambda x, y: x.copy_((x @ y.T @ y).tanh()),
    "into": lambda x, y: torch.addmm(x, y @ y.T, x, out=x.new_empty(3, 4)).sigmoid_(),
    "out of a view": lambda x, y: torch.mul(y[:2], 2, out=x[1:]),
    "joined": lambda x, y: x.copy_(torch.cat([y, x])[1:4]),
    "chunks": lambda x, y: [part.add_(i) for i, part in enumerate(x.chunk(2, 1))],
    "foreach": lambda x, y: torch._foreach_add_([x[0], x[1]], [y[1], y[2]]),
    "lerp": lambda x, y: x.lerp_(y, 0.3),
    "where": lambda x, y: x.copy_(torch.where(x > y, x, y)),
    "sorted": lambda x, y: x.copy_(y.sort(dim=1, stable=True).values),
    "sums": lambda x, y: x.copy_(y.cumsum(0) - y.logsumexp(1, keepdim=True)),
    "data": lambda x, y: x.data.div_(1.5),
    "swap": lambda x, y: y.copy_(x.flip(0)),
}


@pytest.mark.parametrize("seed", range(8))
def test_programs_of_views_and_changes_in_place_compute_what_they_do_on_the_cpu(seed):
    draw = np.random.default_rng(seed)
    x, y = (torch.from_numpy(draw.normal(size=(3, 4))) for _ in range(2))
    other_x, other_y = x.to(DEVICE), y.to(DEVICE)
    for name in draw.permutation(list(_STEPS)):
        _STEPS[name](x, y)
        _STEPS[name](other_x, other_y)
        assert other_x.device == other_y.device == DEVICE
        assert other_x.tolist() == x.tolist(), name
        assert other_y.tolist() == y.tolist(), name


def network():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 2, stride=2)
    return nn.Sequential(convolution, nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.GELU(),
                         nn.Dropout(0.2), nn.Linear(8, 5))  # fmt: skip


OPTIMIZERS = {
    "fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "one by one": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
}


def trained(device, optimizer, steps=3):
    """Losses of a training, with clipping and dropout, and the weights after it."""
    model = network().to(device)
    assert all(p.device == device for p in model.parameters())
    by = OPTIMIZERS[optimizer](model.parameters())
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        pictures, classes = torch.randn(6, 3, 4, 4).to(device), torch.arange(6).to(device) % 5
        loss = nn.functional.cross_entropy(model(pictures), classes)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        by.step()
        by.zero_grad()
        losses.append(loss.item())
    return losses, [p.detach().cpu() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_training_has_the_losses_and_weights_of_the_cpu(optimizer):
    losses, weights = trained(torch.device("cpu"), optimizer)
    on_device, other = trained(DEVICE, optimizer)
    assert losses[0] != losses[-1]
    assert on_device == pytest.approx(losses, abs=1e-6)
    for a, b in zip(weights, other, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-5)


def test_our_own_gradient_and_gradients_of_gradients():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(7, 4), torch.randn(9, 4), torch.arange(7)
    found = []
    for device in (torch.device("cpu"), DEVICE):
        h, w = (t.clone().to(device).requires_grad_() for t in (hidden, weight))
        loss = head_loss(h, w, targets.to(device))
        loss.backward()
        (slope,) = torch.autograd.grad((h**3).sum(), h, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), h)
        found.append([loss.item(), h.grad.tolist(), w.grad.tolist(), curve.tolist()])
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-6)
    np.testing.assert_allclose(found[1][2], found[0][2], atol=1e-6)
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-5)
    np.testing.assert_allclose(found[1][3], found[0][3], rtol=1e-6)


def test_a_module_moves_with_its_tied_weights_and_is_saved(tmp_path):
    model = network()
    model.tied = nn.Linear(16, 8)
    model.tied.weight = model[2].weight
    expected = {name: p.clone() for name, p in model.state_dict().items()}
    with pretended():
        moved = copy.deepcopy(model.to(DEVICE))
    assert moved.tied.weight is moved[2].weight
    save_file({k: v.clone() for k, v in moved.state_dict().items()}, tmp_path / "m.safetensors")
    for name, value in load_file(tmp_path / "m.safetensors").items():
        assert torch.equal(value, expected[name])
    with torch.no_grad():
        moved.tied.weight.fill_(7)
    assert moved[2].weight.min() == 7
    with pretended():
        assert model.to("cpu")[2].weight.max() < 7


def test_random_numbers_are_those_of_the_cpu():
    drawn = []
    for device in (torch.device("cpu"), DEVICE):
        torch.manual_seed(5)
        with pretended():
            own = torch.Generator(device).manual_seed(7)
        drawn.append([torch.randn(3, device=device).tolist(),
                      torch.randperm(6, device=device).tolist(),
                      torch.rand(2, device=device, generator=own).tolist()])  # fmt: skip
    assert drawn[0] == drawn[1]


def test_autocast_has_cudas_rules():
    model = network().to(DEVICE)
    pictures = torch.randn(2, 3, 4, 4, device=DEVICE)
    with torch.autocast(NAME, torch.bfloat16):
        out = model(pictures)
        assert out.dtype == torch.bfloat16
        assert model[:4](pictures).dtype == torch.float32  # LayerNorm
        assert out.softmax(-1).dtype == out.sum().dtype == torch.float32
        assert torch.cat([out, out.float()]).dtype == torch.float32
        with torch.autocast(NAME, enabled=False):
            assert (model[2].weight @ model[2].weight.T).dtype == torch.float32
    out.float().sum().backward()
    assert model[2].weight.grad.dtype == torch.float32
    assert (model[2].weight @ model[2].weight.T).dtype == torch.float32


def test_it_is_chosen_only_where_it_is_pretended():
    assert chosen_device().type != NAME
    with pretended() as device:
        assert chosen_device().type == device.type == NAME
        assert torch.zeros(1, device=NAME).device == device
    assert chosen_device().type != NAME


# ---- devices that do not mix -------------------------------------------------------------------

MIXED = {
    "sum": lambda x, c: x + c,
    "sum, other way round": lambda x, c: c + x,
    "in place": lambda x, c: x.add_(c),
    "in place, on the CPU": lambda x, c: c.add_(x),
    "scalar in place, on the CPU": lambda x, c: torch.tensor(1.0).add_(x.sum()),
    "product": lambda x, c: x @ c,
    "cat": lambda x, c: torch.cat([x, c]),
    "stack": lambda x, c: torch.stack([x, c]),
    "where": lambda x, c: torch.where(x > 0, x, c),
    "out": lambda x, c: torch.mul(x, x, out=c),
    "gather": lambda x, c: x.gather(1, c.long().clamp(0, 1)),
    "index_select": lambda x, c: x.index_select(0, torch.tensor([1])),
    "embedding": lambda x, c: nn.functional.embedding(torch.tensor([1]), x),
    "index of the CPU": lambda x, c: c[x > 0],
    "values to put": lambda x, c: x.__setitem__(torch.tensor([1]), c[:1]),
    "masked_scatter": lambda x, c: x.masked_scatter(x > 0, c),
    "masked_fill": lambda x, c: x.masked_fill(c > 0, 1.0),
    "linear": lambda x, c: nn.functional.linear(x, c),
    "loss": lambda x, c: nn.functional.cross_entropy(x, torch.tensor([0, 1])),
    "foreach": lambda x, c: torch._foreach_add([x], [c]),
    "attention": lambda x, c: nn.functional.scaled_dot_product_attention(
        x[None, None], x[None, None], x[None, None], attn_mask=c[None, None]
    ),
    "numpy": lambda x, c: x.numpy(),
}


@pytest.mark.parametrize("mix", MIXED)
def test_devices_do_not_mix(mix):
    x, c = on_device([1.0, -2.0], [0.5, 3.0]), torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"pretend|same device"):
        MIXED[mix](x, c)
    MIXED[mix](x.cpu(), c)  # it is the devices that were wrong


def test_a_module_on_the_cpu_refuses_inputs_from_the_device():
    with pytest.raises(RuntimeError, match="same device"):
        nn.Linear(2, 2)(on_device([1.0, 2.0]))


def test_what_cuda_mixes():
    x, two = on_device([1.0, -2.0], [0.5, 3.0]), torch.tensor(2.0)
    assert (x * two).tolist() == (two * x).tolist() == [[2, -4], [1, 6]]
    assert torch.where(x > 0, x, two).tolist() == [[1, 2], [0.5, 3]]
    assert x[torch.tensor([1])].tolist() == x[np.array([1])].tolist() == [[0.5, 3]]
    assert x[torch.tensor([[True, False], [False, True]])].tolist() == [1, 3]
    x[torch.tensor([0])] = two
    x[1] = torch.tensor(5.0)
    x.masked_fill_(x > 4, two)
    assert x.tolist() == [[2, 2], [2, 2]]


# ---- what waits for the device -----------------------------------------------------------------

READS = {
    "float": ("item", lambda x: float(x.sum())),
    "int": ("item", lambda x: int(x[0])),
    "bool": ("item", lambda x: bool(x.any())),
    "if": ("item", lambda x: 1 if x.sum() > 0 else 0),
    "item": ("item", lambda x: x[0].item()),
    "format": ("item", lambda x: f"{x[0]:.3f}"),
    "isclose": ("item", lambda x: torch.allclose(x, x)),
    "in": ("item", lambda x: 3 in x),
    "cpu": ("copy to the CPU", lambda x: x.cpu()),
    "to": ("copy to the CPU", lambda x: x.to("cpu")),
    "tolist": ("copy to the CPU", lambda x: x.tolist()),
    "copy_": ("copy to the CPU", lambda x: torch.zeros(3).copy_(x)),
    "equal": ("torch.equal", lambda x: torch.equal(x, x + 1)),
    "nonzero": ("nonzero", lambda x: x.nonzero()),
    "where": ("nonzero", lambda x: torch.where(x > 0)),
    "mask": ("nonzero", lambda x: x[x > 0]),
    "put by a mask": ("nonzero", lambda x: x.__setitem__(x > -9, x.clone())),
    "masked_select": ("masked_select", lambda x: x.masked_select(x > 0)),
    "unique": ("unique", lambda x: x.unique()),
    "unique_consecutive": ("unique", lambda x: x.unique_consecutive()),
    "repeat": ("repeat_interleave", lambda x: x.repeat_interleave((x > 0).long())),
}
UPLOADS = {
    "to": lambda x: torch.ones(3).to(DEVICE),
    "from numpy": lambda x: torch.from_numpy(np.ones(3, np.float32)).to(DEVICE),
    "tensor": lambda x: torch.tensor([1.0, 2.0, 3.0], device=DEVICE),
    "as_tensor": lambda x: torch.as_tensor([1.0, 2.0, 3.0], device=DEVICE),
    "copy_": lambda x: x.copy_(torch.ones(3)),
    "new_tensor": lambda x: x.new_tensor([1.0, 2.0, 3.0]),
}
FREE = {
    "copy": lambda x: torch.ones(3).to(DEVICE, non_blocking=True),
    "fill": lambda x: torch.full((3,), 2.0, device=DEVICE) + torch.arange(3, device=DEVICE),
    "number": lambda x: x.mul_(2).add_(torch.tensor(1.0)).masked_fill_(x > 3, 0.0),
    "mask": lambda x: x.__setitem__(x > 0, 1.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "index": lambda x: x[x.argsort()][1:].flip(0).gather(0, x[:1].long() * 0),
    "scatter": lambda x: x.masked_scatter(x > 0, x),
    "repeat": lambda x: x.repeat_interleave((x > 0).long(), output_size=2),
    "same number": lambda x: x.repeat_interleave(2),
    "loss": lambda x: nn.functional.cross_entropy(x, x[0].long() * 0),
    "shape": lambda x: (len(x), x.numel(), x.shape, x.is_contiguous(), x.data_ptr(), x._version),
    "on the CPU": lambda x: torch.ones(3).cumsum(0)[torch.ones(3) > 0].tolist(),
    "norm": lambda x: nn.utils.clip_grad_norm_([x], 0.1),
}


def line_of(work):
    return f"test_pretended_device.py:{work.__code__.co_firstlineno}"


@pytest.mark.parametrize("name", READS)
def test_a_read_is_counted_once_with_its_line(name):
    what, work = READS[name]
    x = on_device(1.0, -2.0, 3.0)
    with counted() as syncs:
        work(x)
    assert (syncs.reads, syncs.uploads) == ([f"{what}, {line_of(work)}"], [])
    work(x)
    assert len(syncs.reads) == 1  # only in the block


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_is_counted_once_with_its_line(name):
    x = on_device(1.0, -2.0, 3.0)
    with counted() as syncs:
        UPLOADS[name](x)
    assert (syncs.reads, syncs.uploads) == ([], [f"1-d float32, {line_of(UPLOADS[name])}"])


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_not_counted(name):
    x = on_device(1.0, -2.0, 3.0)
    with counted() as syncs:
        FREE[name](x)
    assert (syncs.reads, syncs.uploads) == ([], [])


def test_a_step_of_training_does_not_wait_by_itself():
    model = network().to(DEVICE)
    by = torch.optim.AdamW(model.parameters(), fused=True)
    pictures, classes = torch.randn(6, 3, 4, 4, device=DEVICE), torch.zeros(6, device=DEVICE).long()
    with counted() as syncs:
        for _ in range(2):
            nn.functional.cross_entropy(model(pictures), classes).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            by.step()
            by.zero_grad()
    assert (syncs.reads, syncs.uploads) == ([], [])


def test_a_backward_pass_waits_for_masks_too():
    x = on_device(1.0, -2.0, 3.0).requires_grad_()
    with counted() as syncs:
        x[x > 0].sum().backward()
    assert len(syncs.reads) == 2
    assert syncs.reads[1] == "nonzero, backward of IndexBackward0"


def test_a_line_of_gpt2v_is_named_before_that_of_its_caller():
    x = on_device(1.0, 2.0)
    with counted() as syncs:
        check_finite({"w": x}, "where", "advice")
        x.tolist()
    places = [read.split(", ")[1] for read in syncs.reads]
    assert places[0].startswith("train/finite.py:")
    assert places[1].startswith("test_pretended_device.py:")
    assert str(syncs).splitlines()[0] == "2 reads, 0 uploads"
    assert f"     1  read: {syncs.reads[0]}" in str(syncs).splitlines()


def test_pinned_memory_is_there_where_the_device_is():
    with pretended(), counted() as syncs:
        x = torch.ones(3).pin_memory().to(DEVICE, non_blocking=True)
    assert x.tolist() == [1, 1, 1]
    assert not syncs.uploads
    with pytest.raises(RuntimeError, match="none is available"):
        torch.ones(3).pin_memory()
