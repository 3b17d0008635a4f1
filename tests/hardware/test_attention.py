"""Attention written out equals torch's fused attention: outputs and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gpt2v.hardware.attention import written_out


class Causal(nn.Module):
    is_causal = True


class Full(nn.Module):
    is_causal = False


def inputs(n_queries, n_keys, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, n, 8) for n in (n_queries, n_keys, n_keys)]
    return [torch.randn(s, generator=draw).to(dtype).requires_grad_() for s in shapes]


def random_mask(n_samples, n_queries, n_keys, seed):
    """Boolean; every query sees at least one key."""
    draw = torch.Generator().manual_seed(seed)
    allowed = torch.rand(n_samples, 1, n_queries, n_keys, generator=draw) < 0.5
    allowed[..., 0] = True
    return allowed


def both(ours, expected, tensors):
    """Outputs and gradients of ours and of torch's, as (B, H, Y, E)."""
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9))
    found = [
        ours.transpose(1, 2),
        *torch.autograd.grad((ours.transpose(1, 2) * weights).sum(), tensors),
    ]
    right = [expected, *torch.autograd.grad((expected * weights).sum(), tensors)]
    return found, right


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 5))
def test_causal_attention_equals_torchs(length, seed):
    """Lengths below, at and above the parts in which it is computed."""
    q, k, v = inputs(length, length, seed=seed)
    ours, weights = written_out(Causal(), q, k, v, None)
    assert weights is None
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(*both(ours, expected, (q, k, v)), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(0, 5),
)
def test_masks_equal_torchs(n_queries, n_keys, n_samples, as_floats, seed):
    q, k, v = inputs(n_queries, n_keys, seed=seed)
    allowed = random_mask(n_samples, n_queries, n_keys, seed)
    floats = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    ours, _ = written_out(Causal(), q, k, v, floats if as_floats else allowed, scaling=0.3)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=0.3)
    torch.testing.assert_close(*both(ours, expected, (q, k, v)), rtol=1e-4, atol=1e-5)


def test_a_module_that_is_not_causal_sees_everything():
    q, k, v = inputs(7, 7)
    expected = F.scaled_dot_product_attention(q, k, v)
    for module, options in ((Full(), {}), (Causal(), {"is_causal": False})):
        ours, _ = written_out(module, q, k, v, None, **options)
        torch.testing.assert_close(ours.transpose(1, 2), expected)


def test_one_new_token_sees_all_keys():
    q, k, v = inputs(1, 9)
    ours, _ = written_out(Causal(), q, k, v, None)
    torch.testing.assert_close(ours.transpose(1, 2), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("causal", [True, False])
def test_bf16_is_as_exact_as_its_inputs(causal):
    """Against fp32 attention on the same inputs; also under autocast, as in a training."""
    tensors = inputs(200, 200, torch.bfloat16)
    exact = [t.detach().float().requires_grad_() for t in tensors]
    expected = F.scaled_dot_product_attention(*exact, is_causal=causal)
    with torch.autocast("cpu", torch.bfloat16):
        ours, _ = written_out(Causal() if causal else Full(), *tensors, None)
    assert ours.dtype == torch.bfloat16
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9)).bfloat16()
    found = torch.autograd.grad((ours.transpose(1, 2) * weights).sum(), tensors)
    right = torch.autograd.grad((expected * weights.float()).sum(), exact)
    torch.testing.assert_close(ours.transpose(1, 2).float(), expected, rtol=0.02, atol=0.02)
    for a, b in zip(found, right, strict=True):
        assert (a.float() - b).norm() / b.norm() < 0.01


@pytest.mark.parametrize("causal", [True, False])
def test_dropout_keeps_the_mean_and_the_mask(causal):
    q, k, v = inputs(60, 60)
    torch.manual_seed(0)
    module = Causal() if causal else Full()
    outputs = [written_out(module, q, k, v, None, dropout=0.2)[0] for _ in range(400)]
    assert not torch.equal(outputs[0], outputs[1])
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2)
    spread = torch.stack(outputs).std(0)
    off = (torch.stack(outputs).mean(0) - expected).abs()
    assert (off <= 6 * spread / 20 + 1e-5).all()
