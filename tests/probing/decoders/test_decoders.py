"""What every decoder does: reads what is there, refuses what cannot be learnt, and can be saved."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from gpt2v.config.choice import choose
from gpt2v.config.decoders import NeighbourOptions
from gpt2v.errors import UserError
from gpt2v.probing.decoders.knn import Neighbours, votes_of
from gpt2v.probing.decoders.saved import load, save
from gpt2v.registry import DECODERS
from planted_features import drawn

N_PATCHES, N_CLASSES = 4, 3
QUICK = {
    "projector": {"epochs": 30, "batch_size": 32, "weight_decays": [0.1], "hidden_size": 16},
    "attentive": {"epochs": 30, "batch_size": 32, "weight_decays": [0.1], "lr": 1e-2},
    "logistic": {"n_strengths": 5, "weakest": 1e-3},
}
EACH = pytest.mark.parametrize("name", list(DECODERS))
PROBABILISTIC = pytest.mark.parametrize("name", ["attentive", "logistic", "projector"])


def decoder_of(name):
    return choose(DECODERS, {"name": name, **QUICK.get(name, {})}).load()()


def features(decoder, seed, n=120, distance=3.0):
    """Rows as the decoder reads them, and their classes; of a picture, the third patch tells it."""
    x, labels = drawn(n, 8, N_CLASSES, seed, distance)
    if decoder.reads == "cell":
        return x, labels
    patches = np.random.default_rng(seed).normal(size=(n, N_PATCHES, 8)).astype(np.float32)
    patches[:, 2] = x
    return patches, labels


def fitted_on(decoder, shuffled=False, **kwargs):
    x, labels = features(decoder, 1, **kwargs)
    x_val, val_labels = features(decoder, 2, n=60)
    if shuffled:
        shuffle = np.random.default_rng(5).permutation
        labels, val_labels = shuffle(labels), shuffle(val_labels)
    (own,) = decoder.fit(x, labels[None], x_val, val_labels[None], N_CLASSES)
    return own


@EACH
def test_separable_features_are_read(name):
    decoder = decoder_of(name)
    x, truth = features(decoder, 3)
    scores = fitted_on(decoder).scores(x)
    assert scores.shape == (120, N_CLASSES)
    assert scores.dtype == np.float64
    assert (scores.argmax(1) == truth).mean() > 0.95


@EACH
def test_random_labels_are_read_by_chance(name):
    decoder = decoder_of(name)
    x, truth = features(decoder, 3, n=600)
    rate = (fitted_on(decoder, shuffled=True).scores(x).argmax(1) == truth).mean()
    assert rate < 0.7  # classes are clusters, and each has one answer: 0, 1/3, 2/3 or 1 would be


@EACH
def test_the_same_fit_twice_is_the_same(name):
    decoder = decoder_of(name)
    x, _ = features(decoder, 3)
    torch.manual_seed(1)
    first = fitted_on(decoder).scores(x)
    torch.manual_seed(2)
    drawn_before = torch.get_rng_state()
    np.testing.assert_array_equal(fitted_on(decoder).scores(x), first)
    assert torch.equal(torch.get_rng_state(), drawn_before)


@EACH
def test_sets_of_labels_together_equal_one_by_one(name):
    decoder = decoder_of(name)
    (x, labels), (x_val, val_labels) = features(decoder, 1), features(decoder, 2, n=60)
    sets, val_sets = np.stack([labels, labels[::-1]]), np.stack([val_labels, val_labels[::-1]])
    together = decoder.fit(x, sets, x_val, val_sets, N_CLASSES)
    for k, own in enumerate(together):
        (alone,) = decoder.fit(x, sets[k : k + 1], x_val, val_sets[k : k + 1], N_CLASSES)
        assert own.strength == alone.strength
        np.testing.assert_allclose(own.scores(x), alone.scores(x), atol=1e-3)


@EACH
def test_a_saved_decoder_opens_with_the_same_scores(name, tmp_path):
    decoder = decoder_of(name)
    own = fitted_on(decoder)
    about = {"decoder": name, "site": "vision", "cell": [0, 1], "classes": ["cat", "ü"]}
    save(tmp_path / "new" / "d.safetensors", own, about)
    opened, said = load(tmp_path / "new" / "d.safetensors")
    assert said == about
    assert opened.strength == own.strength
    x, _ = features(decoder, 3)
    np.testing.assert_array_equal(opened.scores(x), own.scores(x))
    if hasattr(own, "logprobs"):
        np.testing.assert_array_equal(opened.logprobs(x), own.logprobs(x))


def test_a_decoder_of_other_features_is_refused(tmp_path):
    own, path = fitted_on(decoder_of("ridge")), tmp_path / "d.safetensors"
    save(path, own, {"decoder": "ridge", "features": "0123"})
    assert load(path, "0123")[1]["features"] == "0123"
    with pytest.raises(
        UserError, match=r"d\.safetensors: was fitted on features 0123, not on 4567"
    ):
        load(path, "4567")


@PROBABILISTIC
def test_probabilities_are_those_of_the_scores(name):
    decoder = decoder_of(name)
    own = fitted_on(decoder)
    x, truth = features(decoder, 3)
    p = np.exp(own.logprobs(x))
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    np.testing.assert_array_equal(p.argmax(1), own.scores(x).argmax(1))
    assert -own.logprobs(x)[np.arange(len(x)), truth].mean() < np.log(N_CLASSES)


@EACH
def test_labels_that_cannot_be_learnt_are_refused(name):
    decoder = decoder_of(name)
    (x, labels), (x_val, val_labels) = features(decoder, 1), features(decoder, 2, n=60)
    sets = np.stack([np.where(labels == 1, 0, labels), labels])
    val_sets = np.stack([val_labels, val_labels])
    with pytest.raises(UserError, match=r"^class 1: no picture of train shows it"):
        decoder.fit(x, sets, x_val, val_sets, N_CLASSES)
    with pytest.raises(UserError, match="2 training pictures are too few for 3 classes"):
        decoder.fit(x[:2], sets[:, :2], x_val, val_sets, N_CLASSES)
    with pytest.raises(UserError, match="no picture of val"):
        decoder.fit(x, sets[:1], x_val[:0], val_sets[:1, :0], N_CLASSES)


def test_what_is_no_decoder_is_one_line(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(UserError, match=r"missing\.safetensors: cannot be read"):
        load(tmp_path / "missing.safetensors")
    (tmp_path / "torn").write_bytes(b"12345678{")
    with pytest.raises(UserError, match="torn: cannot be read"):
        load(tmp_path / "torn")
    save_file({"x": np.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="other: holds no fitted decoder"):
        load(tmp_path / "other")


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbours_are_those_of_scikit_learn(distance):
    x, labels = drawn(90, 6, N_CLASSES, 1, distance=0.5)
    x_val, val_labels = drawn(60, 6, N_CLASSES, 2, distance=0.5)
    decoder = Neighbours(NeighbourOptions(distance=distance, neighbours=[1, 7, 500]))
    (own,) = decoder.fit(x, labels[None], x_val, val_labels[None], N_CLASSES)

    def expected(rows, truth, asked, k):
        model = NearestNeighbors(n_neighbors=k, metric=distance).fit(rows - rows.mean(0))
        near = model.kneighbors(asked - rows.mean(0), return_distance=False)
        # The most frequent class; Counter lists equally frequent ones as they come, nearest first.
        return np.array([Counter(truth[of].tolist()).most_common(1)[0][0] for of in near])

    rates = {k: (expected(x, labels, x_val, k) == val_labels).mean() for k in (1, 7)}
    assert own.strength == max(rates, key=lambda k: (rates[k], k))
    both, truth = np.concatenate([x, x_val]), np.concatenate([labels, val_labels])
    fresh, _ = drawn(50, 6, N_CLASSES, 3)
    predicted = expected(both, truth, fresh, int(own.strength))
    np.testing.assert_array_equal(own.scores(fresh).argmax(1), predicted)


def test_the_nearest_neighbour_decides_a_tie_and_no_more():
    assert votes_of(np.array([[2, 0, 0, 2]]), 3).argmax() == 2
    assert votes_of(np.array([[0, 2, 2, 0]]), 3).argmax() == 0
    assert votes_of(np.array([[2, 2, 0, 0, 0]]), 3).argmax() == 0


def test_neighbours_need_rows():
    x, labels = drawn(9, 6, N_CLASSES, 1)
    with pytest.raises(UserError, match="neighbours: one number must be from 1 to the 9"):
        Neighbours(NeighbourOptions(neighbours=[10])).fit(
            x, labels[None], x, labels[None], N_CLASSES
        )


def test_attention_finds_the_patch_that_tells_the_class():
    """Each cell's answer stands in one patch; the others are noise."""
    decoder = decoder_of("attentive")
    own = fitted_on(decoder)
    x, _ = features(decoder, 3, n=20)
    noise = np.random.default_rng(9).normal(size=x.shape).astype(np.float32)
    others_changed, own_changed = x.copy(), x.copy()
    others_changed[:, [0, 1, 3]] = noise[:, [0, 1, 3]]
    own_changed[:, 2] = noise[:, 2]
    predicted = own.scores(x).argmax(1)
    assert (own.scores(others_changed).argmax(1) == predicted).mean() > 0.9
    assert (own.scores(own_changed).argmax(1) == predicted).mean() < 0.9
