"""Dropout of projectors: in training only, before both layers, and nothing where it is 0."""

import pytest
import torch

from gpt2v.config.projectors import MLPOptions
from gpt2v.model.projector import AverageProjector, MLPProjector, PixelShuffleProjector

WORDS = torch.empty(0, 8)


def built(kind, dropout):
    torch.manual_seed(0)
    return kind(6, 8, pool=2, options=MLPOptions(dropout=dropout))


@pytest.mark.parametrize("kind", [MLPProjector, AverageProjector, PixelShuffleProjector])
def test_it_is_for_training_only_and_has_no_weights(kind):
    dropping, plain = built(kind, 0.5), built(kind, 0.0)
    assert dropping.state_dict().keys() == plain.state_dict().keys()
    patches = torch.randn(3, 16, 6)
    plain.train()
    expected = plain(patches, WORDS)
    assert torch.equal(dropping.eval()(patches, WORDS), expected)
    assert not torch.allclose(dropping.train()(patches, WORDS), expected)


def test_none_draws_no_random_number():
    projector = built(MLPProjector, 0.0).train()
    before = torch.get_rng_state()
    projector(torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(0)), WORDS)
    assert torch.equal(torch.get_rng_state(), before)


def test_each_layer_loses_its_share_of_inputs_and_keeps_their_mean():
    """With the identity as both layers and no activation, values are 0, or 1 / (1 - rate)**2."""
    projector = MLPProjector(8, 8, options=MLPOptions(dropout=0.4)).train()
    projector.act = torch.nn.Identity()
    with torch.no_grad():
        for layer in (projector.linear_1, projector.linear_2):
            layer.weight.copy_(torch.eye(8))
            layer.bias.zero_()
    values = projector(torch.ones(500, 10, 8), WORDS)
    assert sorted(values.unique().tolist()) == pytest.approx([0, 1 / 0.36])
    assert float((values > 0).float().mean()) == pytest.approx(0.36, abs=0.01)
