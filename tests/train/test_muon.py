"""Muon: it approximates the polar factor, however matrices are stored, and only for matrices."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from gpt2v.config.loop import GroupConfig
from gpt2v.train.muon import Muon, matrix_layout, orthogonalise
from gpt2v.train.optim import Optimizers
from helpers import train_config


@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 24), (64, 40)])
def test_orthogonalise_approaches_the_polar_factor(shape):
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    results = orthogonalise(x).numpy().astype(np.float64)
    for matrix, given in zip(results, x.numpy(), strict=True):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.3
        u, _, vt = np.linalg.svd(given.astype(np.float64), full_matrices=False)
        # The singular vectors are those of the input: U^T X V is diagonal.
        inner = u.T @ matrix @ vt.T
        assert np.abs(inner - np.diag(np.diag(inner))).max() < 1e-3
        assert np.abs(np.diag(inner) - 1).max() < 0.4


def test_orthogonalise_does_not_depend_on_the_scale_of_the_gradient():
    torch.manual_seed(0)
    x = torch.randn(2, 10, 6)
    torch.testing.assert_close(orthogonalise(x), orthogonalise(1000 * x), atol=1e-4, rtol=1e-3)
    assert torch.isfinite(orthogonalise(torch.zeros(1, 4, 4))).all()


def steps(optimizer, params, gradients):
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()


def test_conv1d_gets_the_update_of_the_equivalent_linear():
    torch.manual_seed(0)
    linear, conv = nn.Linear(6, 15, bias=False), Conv1D(15, 6)
    conv.weight.data = linear.weight.data.T.clone()
    gradients = [torch.randn(15, 6) for _ in range(3)]
    options = {"lr": 0.1, "weight_decay": 0.5}
    steps(Muon([linear.weight], **options), [linear.weight], [[g] for g in gradients])
    muon = Muon([conv.weight], transposed=[conv.weight], **options)
    steps(muon, [conv.weight], [[g.T] for g in gradients])
    torch.testing.assert_close(conv.weight.data.T, linear.weight.data)
    wrong = nn.Parameter(conv.weight.data.clone())  # a planted error: not transposed
    steps(Muon([wrong], **options), [wrong], [[gradients[0].T]])
    steps(muon, [conv.weight], [[gradients[0].T]])
    assert not torch.allclose(conv.weight, wrong)


def test_the_fused_attention_matrix_is_three_matrices():
    torch.manual_seed(0)
    fused = nn.Parameter(torch.randn(8, 24))  # (inputs, outputs) as in GPT-2's c_attn
    single = [nn.Parameter(fused.data[:, 8 * i : 8 * i + 8].T.clone()) for i in range(3)]
    gradients = [torch.randn(8, 24) for _ in range(2)]
    steps(Muon([fused], [fused], {fused: 3}), [fused], [[g] for g in gradients])
    split = [[g[:, 8 * i : 8 * i + 8].T for i in range(3)] for g in gradients]
    steps(Muon(single), single, split)
    for i in range(3):
        torch.testing.assert_close(fused.data[:, 8 * i : 8 * i + 8].T, single[i].data)


def test_the_layout_of_gpt2():
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=20))
    transposed, splits = matrix_layout(model)
    names = {id(p): n for n, p in model.named_parameters()}
    assert len(transposed) == 8
    assert all(names[id(p)].endswith("weight") and p.ndim == 2 for p in transposed)
    expected = {f"transformer.h.{i}.attn.c_attn.weight": 3 for i in range(2)}
    assert {names[id(p)]: n for p, n in splits.items()} == expected


def muon_names(model):
    config = train_config(groups=[GroupConfig(name="a", pattern="", optimizer="muon").model_dump()])
    optimizers = Optimizers(model, config).optimizers
    names = {id(p): n for n, p in model.named_parameters()}
    taken = {
        kind: {names[id(p)] for o in optimizers if isinstance(o, kind) for e in o.param_groups
               for p in e["params"]}
        for kind in (Muon, torch.optim.AdamW)
    }  # fmt: skip
    assert taken[Muon] | taken[torch.optim.AdamW] == set(names.values())
    assert not taken[Muon] & taken[torch.optim.AdamW]
    return taken[Muon]


def test_muon_takes_all_matrices_but_embeddings_and_heads(gpt2v):
    expected = {
        n
        for n, p in gpt2v.named_parameters()
        if p.ndim == 2 and "embedding" not in n and ".wte." not in n and ".wpe." not in n
    }
    names = muon_names(gpt2v)
    assert names == expected - {"language_model.lm_head.weight"}
    assert "projector.linear_1.weight" in names
    assert "language_model.transformer.h.0.attn.c_attn.weight" in names
    untied = GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, tie_word_embeddings=False)
    )
    assert "lm_head.weight" not in muon_names(untied)
