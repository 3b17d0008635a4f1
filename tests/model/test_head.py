"""The chunked loss of the head equals torch's cross-entropy, values and gradients."""

import pytest
import torch
from torch import nn

from gpt2v.model import head
from gpt2v.model.head import head_loss


@pytest.mark.parametrize("rows", [1, 3, 10, 512])
def test_the_chunked_loss_is_cross_entropy(monkeypatch, rows):
    monkeypatch.setattr(head, "_ROWS", rows)
    monkeypatch.setattr(head, "_CPU_CHUNK", 1)
    torch.manual_seed(0)
    target = torch.randint(0, 9, (11,))
    results = []
    for ours in (True, False):
        torch.manual_seed(2)
        hidden = torch.randn(11, 6, requires_grad=True)
        weight = torch.randn(9, 6, requires_grad=True)
        if ours:
            loss = head_loss(hidden, weight, target)
        else:
            loss = nn.functional.cross_entropy(hidden @ weight.T, target, reduction="sum")
        (loss * 0.3).backward()
        results.append([loss.detach(), hidden.grad, weight.grad])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_the_chunked_loss_without_gradients_and_in_bf16():
    torch.manual_seed(0)
    hidden, weight = torch.randn(11, 6), torch.randn(9, 6, requires_grad=True)
    target = torch.randint(0, 9, (11,))
    with torch.no_grad():
        value = head_loss(hidden, weight, target)
    assert not value.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        close = head_loss(hidden, weight, target)
    close.backward()
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(close.detach(), value, rtol=0.02, atol=0.02)
    whole = nn.functional.cross_entropy(hidden @ weight.detach().T, target, reduction="sum")
    torch.testing.assert_close(value, whole)


def test_the_chunked_loss_of_a_hopeless_prediction_is_finite():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    loss = head_loss(hidden, torch.tensor([[500.0], [-500.0]]), torch.tensor([1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1000)
    assert float(hidden.grad) == pytest.approx(1000)
