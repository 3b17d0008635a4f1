"""Muon: it approximates the polar factor, however matrices are stored, and only for matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    GPT2Config,
    GPT2LMHeadModel,
    SiglipVisionModel,
)
from transformers.pytorch_utils import Conv1D

from gpt2v.config.loop import GroupConfig
from gpt2v.config.models import ConvConfig
from gpt2v.model.conv import new_conv_tower
from gpt2v.train.muon import Muon, matrix_layout, orthogonalise
from gpt2v.train.optim import Optimizers
from helpers import train_config


@pytest.mark.parametrize("shape", [(16, 16), (24, 8), (8, 24), (64, 40)])
def test_orthogonalise_approaches_the_polar_factor(shape):
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    results = orthogonalise(x).numpy().astype(np.float64)
    for matrix, target in zip(results, x.numpy(), strict=True):
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.min() > 0.6
        assert values.max() < 1.3
        u, _, vt = np.linalg.svd(target.astype(np.float64), full_matrices=False)
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


@settings(max_examples=20)
@given(
    st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 2, 3]), st.booleans(), st.booleans()
)
def test_kernels_are_matrices_of_their_outputs(n_out, n_in, side, channels_last, decay):
    torch.manual_seed(0)
    kernels = torch.randn(n_out, n_in, side, side)
    matrix = nn.Parameter(kernels.flatten(1).clone())
    if channels_last:
        kernels = kernels.to(memory_format=torch.channels_last)
    kernels = nn.Parameter(kernels)
    layout = kernels.stride()
    gradients = [torch.randn(n_out, n_in, side, side) for _ in range(3)]
    options = {"lr": 0.1, "weight_decay": 0.5 * decay}
    steps(Muon([matrix], **options), [matrix], [[g.flatten(1)] for g in gradients])
    own = [g.to(memory_format=torch.channels_last) if channels_last else g for g in gradients]
    steps(Muon([kernels], **options), [kernels], [[g] for g in own])
    torch.testing.assert_close(kernels.detach().flatten(1), matrix.detach())
    assert kernels.stride() == layout


def test_the_update_of_kernels_is_orthogonal():
    torch.manual_seed(0)
    before = torch.randn(12, 5, 3, 3)
    kernels = nn.Parameter(before.clone())
    steps(Muon([kernels], lr=1.0), [kernels], [[torch.randn(12, 5, 3, 3)]])
    values = torch.linalg.svdvals((kernels.data - before).reshape(12, 45))
    assert values.min() > 0.6
    assert values.max() < 1.3
    one_place = torch.linalg.svdvals((kernels.data - before)[:, :, 1, 1])
    assert one_place.min() < 0.5  # as only the whole is


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


@pytest.mark.parametrize("kind", [CLIPVisionModel, SiglipVisionModel, Dinov2Model])
def test_kernels_that_cut_patches_are_embeddings(kind):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = kind(kind.config_class(image_size=32, patch_size=8, **shape))
    parameters = dict(model.named_parameters())
    names = muon_names(model)
    assert [name for name, p in parameters.items() if p.ndim == 4 and "embed" in name]
    assert names == {n for n, p in parameters.items() if p.ndim == 2 and "embed" not in n}


def test_muon_takes_the_kernels_of_a_convolutional_tower():
    model = new_conv_tower(ConvConfig(image_size=16, widths=[8, 8]))
    assert muon_names(model) == {f"layers.{i}.conv.weight" for i in range(4)}
