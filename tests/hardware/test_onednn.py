"""oneDNN's products equal torch's own, values and gradients."""

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

from gpt2v.hardware import onednn as products
from gpt2v.hardware.onednn import OneDnnConv1D, OneDnnLinear, OneDnnMLP, affine, use_onednn

needs_onednn = pytest.mark.skipif(products._PRODUCT is None, reason="torch without oneDNN")


def layers():
    torch.manual_seed(0)
    return nn.ModuleList([Conv1D(7, 5), nn.Linear(5, 7), nn.Linear(5, 7, bias=False)])


def gradients(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


@needs_onednn
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 5), (1, 5)])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_a_layer_computes_the_same(i, shape):
    torch.manual_seed(1)
    x = torch.randn(shape)
    theirs, ours = layers()[i], layers()
    use_onednn(ours)
    for a, b in zip(gradients(theirs, x), gradients(ours[i], x), strict=True):
        torch.testing.assert_close(b, a)
    assert isinstance(ours[i], OneDnnConv1D | OneDnnLinear)


@needs_onednn
@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu", "relu"])
@pytest.mark.parametrize("shape", [(3, 8), (2, 4, 8)])
def test_an_mlp_computes_the_same_with_and_without_gradients(shape, activation):
    torch.manual_seed(1)
    theirs = GPT2MLP(32, GPT2Config(n_embd=8, activation_function=activation)).eval()
    ours = copy.deepcopy(theirs)
    use_onednn(ours)
    assert type(ours) is OneDnnMLP
    x = torch.randn(shape)
    for a, b in zip(gradients(theirs, x), gradients(ours, x), strict=True):
        torch.testing.assert_close(b, a)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@needs_onednn
@pytest.mark.parametrize("part", ["c_fc", "act"])
def test_hooks_within_an_mlp_see_what_passes(part):
    mlp = GPT2MLP(32, GPT2Config(n_embd=8)).eval()
    use_onednn(mlp)
    seen = []
    getattr(mlp, part).register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        mlp(torch.randn(2, 8))
    assert len(seen) == 1


@needs_onednn
def test_a_part_that_is_not_contiguous_computes_the_same():
    x = torch.randn(5, 3).T
    theirs, ours = layers(), layers()
    use_onednn(ours)
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(other(x), one(x))


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("part", [slice(None), slice(3, None), slice(0, 0)])
def test_some_columns_of_a_matrix_compute_the_same(part, onednn, monkeypatch):
    if not onednn:
        monkeypatch.setattr(products, "_PRODUCT", None)
    torch.manual_seed(1)
    x = torch.randn(2, 3, 5)
    weight, bias = torch.randn(5, 9, requires_grad=True), torch.randn(9, requires_grad=True)
    result = affine(x, weight[:, part], bias[part])
    expected = x @ weight[:, part] + bias[part]
    torch.testing.assert_close(result, expected)
    for ours, plain in zip(
        torch.autograd.grad(result.square().sum(), (weight, bias)),
        torch.autograd.grad(expected.square().sum(), (weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain)


@needs_onednn
def test_names_weights_and_copies_stay_as_they_are():
    theirs, ours = layers(), layers()
    use_onednn(ours)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    again = copy.deepcopy(ours)
    with torch.no_grad():
        again[0].weight.zero_()
        again[0].bias.zero_()
    assert again[0](torch.ones(1, 5)).abs().max() == 0
    assert ours[0](torch.ones(1, 5)).abs().max() > 0
    assert isinstance(ours[0], Conv1D)


@needs_onednn
def test_autocast_is_left_to_torch():
    ours = layers()
    use_onednn(ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(layer(torch.ones(2, 5)).dtype == torch.bfloat16 for layer in ours)
    ours = ours.double()
    assert all(layer(torch.ones(2, 5).double()).dtype == torch.float64 for layer in ours)


@needs_onednn
def test_frozen_layers_get_no_gradient():
    ours = layers()
    use_onednn(ours)
    ours.requires_grad_(False)
    x = torch.randn(2, 5, requires_grad=True)
    for layer in ours:
        layer(x).sum().backward()
        assert all(p.grad is None for p in layer.parameters())
    assert x.grad is not None
