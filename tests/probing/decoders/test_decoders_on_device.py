"""Decoders on an accelerator find what they find on the CPU. The accelerator is pretended."""

import numpy as np
import pytest

import pretended_device
from gpt2v.config.choice import choose
from gpt2v.registry import DECODERS
from planted_features import drawn
from pretended_device import pretended

pytestmark = pytest.mark.skipif(
    bool(pretended_device.MISSING), reason=pretended_device.MISSING or "it is there"
)
QUICK = {
    "projector": {"epochs": 3, "weight_decays": [0.1], "hidden_size": 16},
    "attentive": {"epochs": 3, "weight_decays": [0.1]},
    "logistic": {"n_strengths": 3, "weakest": 1e-2},
}


@pytest.mark.parametrize("name", list(DECODERS))
@pytest.mark.parametrize("n_features", [6, 84], ids=["primal", "dual"])
def test_scores_are_those_of_the_cpu(name, n_features):
    decoder = choose(DECODERS, {"name": name, **QUICK.get(name, {})}).load()()
    (x, labels), (x_val, val_labels) = (drawn(k, n_features, 3, k) for k in (48, 24))
    if decoder.reads == "picture":
        x, x_val = x.reshape(48, 3, -1), x_val.reshape(24, 3, -1)
    sets, val_sets = np.stack([labels, labels[::-1]]), np.stack([val_labels, val_labels[::-1]])

    def scores():
        fitted = decoder.fit(x, sets, x_val, val_sets, 3)
        return [(own.strength, own.scores(x_val)) for own in fitted]

    expected = scores()
    with pretended():
        found = scores()
    for (strength, own), (other_strength, other) in zip(found, expected, strict=True):
        assert strength == other_strength
        np.testing.assert_allclose(own, other, atol=1e-4)
