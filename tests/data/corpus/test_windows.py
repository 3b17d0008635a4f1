"""Windows equal those of a plain loop over the tokens; a slice equals a slice of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from gpt2v.data.corpus.encoding import token_bytes
from gpt2v.data.corpus.windows import Windows
from gpt2v.errors import UserError

sizes = st.tuples(st.integers(2, 12), st.integers(1, 200)).map(lambda s: (s[0], s[0] + s[1]))


def numbered(n, context):
    """Windows over 0..n-1: each token is its own index."""
    return Windows(np.arange(n, dtype=np.uint16), context)


@given(sizes, st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_a_permutation_of_shifted_windows(size, seed, epoch):
    context, n = size
    windows = numbered(n, context)
    count = windows.n_windows
    rows = windows.train_batch(seed, epoch * count, count).tokens
    starts = rows[:, 0].tolist()
    for row, start in zip(rows.tolist(), starts, strict=True):
        assert row == [(start + i) % n for i in range(context + 1)]
    shift = min((s for s in range(context) if s in starts), default=None)
    assert shift is not None
    assert sorted(starts) == sorted((shift + i * context) % n for i in range(count))
    predicted = rows[:, 1:].ravel().tolist()
    assert len(set(predicted)) == len(predicted) > n - context


@given(sizes, st.integers(0, 5), st.integers(0, 500), st.integers(0, 30), st.integers(1, 30))
def test_any_slice_is_the_same_alone(size, seed, start, skip, count):
    windows = numbered(size[1], size[0])
    whole = windows.train_batch(seed, start, skip + count)
    part = windows.train_batch(seed, start + skip, count)
    assert (part.tokens == whole.tokens[skip:]).all()
    assert part.tokens.shape == (count, size[0] + 1)
    for i in range(count):  # one at a time, over the borders of epochs
        alone = numbered(size[1], size[0]).train_batch(seed, start + skip + i, 1)
        assert (alone.tokens[0] == part.tokens[i]).all()


def test_seeds_and_epochs_differ():
    windows = numbered(1000, 10)
    epochs = [windows.train_batch(s, e * 100, 100).tokens for s in (0, 1) for e in (0, 1, 2)]
    assert len({tuple(tokens[:, 0]) for tokens in epochs}) == 6
    assert len({tuple(sorted(tokens[:, 0] % 10)) for tokens in epochs}) > 1  # the shifts


@given(sizes, st.integers(1, 9), st.integers(1, 40))
def test_validation_predicts_every_token_once(size, batch, limit):
    context, n = size
    batches = list(numbered(n, context).validation_batches(batch, limit))
    rows = [row for windows in batches for row in windows.tokens.tolist()]
    expected = [list(range(s, s + context + 1)) for s in range(0, n - context, context)]
    assert rows == expected[:limit]
    targets = [t for windows in batches for t in windows.targets.ravel().tolist()]
    assert targets == list(range(1, len(targets) + 1))
    assert sum(windows.n_supervised for windows in batches) == len(targets)
    assert all(len(windows.tokens) <= batch for windows in batches)


def test_inputs_and_targets():
    (batch,) = numbered(9, 4).validation_batches(8, 8)
    assert batch.input_ids.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batch.targets.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert batch.n_supervised == batch.n_tokens == 8
    assert batch.tokens.dtype == np.int64


def test_a_corpus_without_one_window_is_refused():
    assert numbered(9, 8).n_windows == 1
    with pytest.raises(UserError, match=r"stories\.txt has 8 tokens, .* window of context: 8"):
        Windows(np.arange(8, dtype=np.uint16), 8, "stories.txt")


def check_token_bytes(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert token_bytes(tokenizer)[ids].sum() == len(text.encode())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_of_a_texts_tokens_are_its_bytes(tokenizer, text):
    check_token_bytes(tokenizer, text)


def test_bytes_of_gpt2s_tokens(gpt2_table):
    gpt2 = gpt2_table.tokenizer
    check_token_bytes(gpt2, "The café’s 東京 🦜\n\n  100%  done")
    assert token_bytes(gpt2)[50256] == 0


def test_special_and_added_tokens(tokenizer):
    lengths = token_bytes(tokenizer)
    assert len(lengths) == tokenizer.get_vocab_size()
    assert (lengths == 0).sum() == 3
    more = Tokenizer.from_str(tokenizer.to_str())
    more.add_tokens(["née"])
    assert token_bytes(more)[more.token_to_id("née")] == 4


def test_other_tokenizers_have_no_bytes():
    other = Tokenizer(models.WordLevel({"a": 0}, "a"))
    other.decoder = decoders.WordPiece()
    with pytest.raises(UserError, match="not a byte-level tokenizer"):
        token_bytes(other)
