"""Windows that were seen before, or their mirror images: the same bits, and nothing is computed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2v.config.models import ConvConfig
from gpt2v.model.clip import normalise
from gpt2v.model.conv import new_conv_tower
from gpt2v.model.remembered import Remembered

CPU = torch.device("cpu")
WINDOW = 8  # of pictures of 16 pixels, with patches of 4


def new_tower(mirror):
    torch.manual_seed(0)
    options = ConvConfig(image_size=16, window=WINDOW, widths=[8, 8], depth=1, mirror=mirror)
    return new_conv_tower(options).eval()


@pytest.fixture(scope="module")
def tower():
    return new_tower(mirror=False)


class Counted:
    """A tower that counts the windows that it is shown, without those that are all zero."""

    def __init__(self, tower):
        self.tower, self.n = tower, 0

    @torch.no_grad()
    def __call__(self, windows):
        self.n += int((windows != 0).flatten(1).any(1).sum())
        return self.tower(windows).last_hidden_state


def pictures(*squares):
    """Pictures of 2 x 2 windows, each of which has one of ten contents; 10 to 19 mirror these."""
    rng = np.random.default_rng(0)
    every = rng.integers(0, 256, (10, WINDOW, WINDOW, 3), dtype=np.uint8)
    every = np.concatenate([every, every[:, :, ::-1]])
    whole = every[np.array(squares)].reshape(-1, 2, 2, WINDOW, WINDOW, 3)
    return whole.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 2 * WINDOW, 2 * WINDOW, 3)


def patches(remembered, pixels):
    return remembered.patches(pixels, normalise(pixels, CPU))


four = st.lists(st.integers(0, 19), min_size=4, max_size=4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(four, min_size=1, max_size=5), min_size=1, max_size=4))
def test_it_says_what_the_tower_says_and_computes_each_window_once(tower, batches):
    counted = Counted(tower)
    remembered = Remembered(counted, WINDOW, 2**20)
    for batch in batches:
        pixels = pictures(*batch)
        with torch.no_grad():
            expected = tower(normalise(pixels, CPU)).last_hidden_state
        torch.testing.assert_close(patches(remembered, pixels), expected)
    n = len({square for batch in batches for squares in batch for square in squares})
    assert counted.n == remembered.n_kept == n


def test_of_a_window_and_its_mirror_image_one_is_computed_if_the_tower_mirrors():
    tower = new_tower(mirror=True)
    counted = Counted(tower)
    remembered = Remembered(counted, WINDOW, 2**20, mirror=True)
    for batch in ([1, 2, 3, 11], [12, 4, 4, 14], [5, 15, 15, 5]):
        pixels = pictures(batch)
        with torch.no_grad():
            expected = tower(normalise(pixels, CPU)).last_hidden_state
        torch.testing.assert_close(patches(remembered, pixels), expected)
    assert counted.n == remembered.n_kept == 5


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.lists(st.lists(four, min_size=1, max_size=30), max_size=3), four)
def test_what_was_seen_before_changes_no_bit(mirror, before, squares):
    tower = new_tower(mirror)
    remembered = Remembered(Counted(tower), WINDOW, 2**20, mirror)
    for batch in before:
        patches(remembered, pictures(*batch))
    alone = Remembered(Counted(tower), WINDOW, 2**20, mirror)
    pixels = pictures(squares)
    assert torch.equal(patches(remembered, pixels), patches(alone, pixels))


def test_it_forgets_what_is_too_much(tower):
    counted = Counted(tower)
    one_window = 4 * 8 * 4  # patches, channels, bytes
    remembered = Remembered(counted, WINDOW, 3 * one_window)
    expected = [patches(remembered, pictures([i, i, i, i])) for i in (1, 2, 3, 4)]
    assert (counted.n, remembered.n_kept) == (4, 4)
    assert torch.equal(patches(remembered, pictures([1, 1, 1, 1])), expected[0])
    assert (counted.n, remembered.n_kept) == (5, 1)
