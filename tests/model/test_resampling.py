"""Position embeddings for pictures of another size; of whole towers, see test_encoders.py."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2v.model.resampling import resample_positions


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 1))
def test_resampling_keeps_class_tokens_and_constants(before, side, n_class):
    table = torch.full((n_class + before**2, 3), 2.0)
    table[:n_class] = torch.tensor([5.0, 6.0, 7.0])
    resampled = resample_positions(table, n_class, side)
    assert resampled.shape == (n_class + side**2, 3)
    torch.testing.assert_close(resampled[:n_class], table[:n_class], rtol=0, atol=0)
    torch.testing.assert_close(resampled[n_class:], torch.full((side**2, 3), 2.0))
    same = torch.randn(n_class + before**2, 3)
    torch.testing.assert_close(resample_positions(same, n_class, before), same)
