"""The chunked loss of the head equals torch's cross-entropy, values and gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from gpt2v.model import head
from gpt2v.model.head import head_loss, read_head, token_logprobs


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


def cast_at_every_product(hidden, weight, target):
    """Loss and gradients with autocast's own casts, and logits, softmax and gradient in fp32."""
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = (hidden @ weight.T).float()
        p = logits.softmax(1)
        log_sum = logits.amax(1, keepdim=True) - p.amax(1, keepdim=True).log()
        loss = (log_sum - logits.gather(1, target[:, None])).sum()
        p[range(len(p)), target] -= 1
        return loss, (p @ weight).float(), (hidden.T @ p).T.float()


def test_one_cast_in_bf16_changes_no_bit():
    torch.manual_seed(0)
    hidden = torch.randn(200, 64, requires_grad=True)
    weight = torch.randn(1001, 64, requires_grad=True)
    target = torch.randint(0, 1001, (200,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = head_loss(hidden, weight, target)
    loss.backward()
    expected = cast_at_every_product(hidden, weight, target)
    for ours, theirs in zip((loss.detach(), hidden.grad, weight.grad), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("rows", [1, 4, 512])
def test_chunks_of_logits_are_read_as_a_whole(lm, monkeypatch, rows):
    """Positions that are asked several times, in any order, or not at all."""
    monkeypatch.setattr(head, "_ROWS", rows)
    monkeypatch.setattr(head, "_CPU_CHUNK", 1)
    draw = np.random.default_rng(0)
    hidden = torch.randn(11, lm.config.n_embd)
    hidden[7, 0] = float("inf")
    at, tokens = draw.integers(0, 7, 30), draw.integers(0, lm.config.vocab_size, 30)
    with torch.no_grad():
        found = read_head(lm, hidden, at, tokens)
        logits = lm.lm_head(hidden)
    assert found.finite.tolist() == [i != 7 for i in range(11)]
    assert found.likeliest[found.finite].tolist() == logits.argmax(1).numpy()[found.finite].tolist()
    np.testing.assert_allclose(found.logp, logits.log_softmax(1).numpy()[at, tokens], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 4, 512])
def test_the_log_probability_of_a_token_is_that_of_all_logits(lm, monkeypatch, rows):
    monkeypatch.setattr(head, "_ROWS", rows)
    monkeypatch.setattr(head, "_CPU_CHUNK", 1)
    hidden = 9 * torch.randn(11, lm.config.n_embd, generator=torch.Generator().manual_seed(0))
    hidden[7, 0] = float("inf")
    tokens = np.random.default_rng(0).integers(0, lm.config.vocab_size, 11)
    with torch.no_grad():
        found = token_logprobs(lm, hidden, tokens)
        expected = lm.lm_head(hidden).double().log_softmax(1).numpy()[np.arange(11), tokens]
    assert np.isfinite(found).tolist() == [i != 7 for i in range(11)]
    np.testing.assert_allclose(found[[*range(7), *range(8, 11)]], np.delete(expected, 7), rtol=1e-5)


def test_nothing_is_read_from_nothing(lm):
    none = np.empty(0, np.int64)
    found = read_head(lm, torch.empty(0, lm.config.n_embd), none, none)
    assert len(found.likeliest) == len(found.finite) == len(found.logp) == 0
    assert len(token_logprobs(lm, torch.empty(0, lm.config.n_embd), none)) == 0


def test_many_equal_targets_leave_the_range_of_fp16_in_no_sum():
    """The gradient of a word's row is a sum over all positions whose target it is."""
    torch.manual_seed(0)
    hidden = (3 + 0.1 * torch.randn(30_000, 16)).requires_grad_()
    weight = torch.randn(8, 16, requires_grad=True)
    target = torch.zeros(30_000, dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        head_loss(hidden, weight, target).backward()
    expected = torch.autograd.grad(head_loss(hidden, weight, target), weight)[0]
    assert float(expected.abs().max()) > torch.finfo(torch.float16).max
    torch.testing.assert_close(weight.grad, expected, rtol=0.01, atol=1.0)


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_a_gradient_that_is_not_wanted_is_not_computed(frozen, monkeypatch):
    products = []
    plain = head.product
    monkeypatch.setattr(head, "product", lambda a, b: products.append(1) or plain(a, b))
    torch.manual_seed(0)
    tensors = {"hidden": torch.randn(5, 6), "weight": torch.randn(9, 6)}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name != frozen)
    head_loss(tensors["hidden"], tensors["weight"], torch.randint(0, 9, (5,))).backward()
    assert len(products) == 2
    assert {n for n, t in tensors.items() if t.grad is not None} == tensors.keys() - {frozen}
