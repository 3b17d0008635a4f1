"""The loss of plain text equals that of transformers, whatever computes the attention."""

import copy

import numpy as np
import pytest
import torch

from gpt2v.data.corpus.windows import TextBatch
from gpt2v.hardware.attention import WRITTEN_OUT
from gpt2v.model.losses import window_loss


@pytest.mark.parametrize("attention", ["eager", "sdpa", WRITTEN_OUT])
def test_the_loss_of_windows_is_transformers_own(lm, attention):
    model = copy.deepcopy(lm)
    model.set_attn_implementation(attention)
    tokens = np.random.default_rng(0).integers(0, lm.config.vocab_size, (3, 21))
    loss = window_loss(model, TextBatch(tokens))
    loss.backward()
    plain = copy.deepcopy(lm)
    plain.set_attn_implementation("eager")
    ids = torch.from_numpy(tokens)
    logits = plain(input_ids=ids[:, :-1]).logits
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"
    )
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4, msg=name)
