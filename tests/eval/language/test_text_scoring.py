"""Log-probabilities of texts equal those of plain transformers, one document at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers

from gpt2v.errors import UserError
from gpt2v.eval.language.models import HFLanguageModel, OwnModel
from gpt2v.eval.language.scoring import logprobs_of, windows_of
from gpt2v.model.load import load_model
from hf_checkpoints import FAMILIES, build

LENGTHS = [1, 3, 23, 24, 25, 47, 48, 49, 100, 0, 7]


def texts_of(model, lengths=LENGTHS):
    rng = np.random.default_rng(0)
    return [rng.integers(0, model.model.config.vocab_size, n) for n in lengths]


@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_each_token_is_predicted_once_with_enough_before_it(n_tokens, n_positions, data):
    stride = data.draw(st.integers(1, n_positions))
    windows = list(windows_of(3, n_tokens, n_positions, stride))
    predicted = [t for w in windows for t in range(w.first + 1, w.end + 1)]
    assert predicted == list(range(1, n_tokens + 1))
    for window in windows:
        assert window.text == 3
        assert 0 <= window.start <= window.first < window.end
        assert window.length <= n_positions
        if window is not windows[0]:
            assert window.length == n_positions
            assert window.first + 1 - window.start >= n_positions - stride + 1  # read before


@pytest.mark.parametrize("stride", [None, 1, 5, 24, 1000])
def test_scores_are_those_of_a_plain_loop(model, loop, stride):
    texts = texts_of(model)
    expected = [sum(loop(model, text, min(stride or 24, 24))) for text in texts]
    found = logprobs_of(model, texts, 100, stride)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 24, 90, 10**6])
def test_the_size_of_a_batch_does_not_matter(model, batch_tokens):
    texts = texts_of(model)
    found = logprobs_of(model, texts, batch_tokens)
    assert found == pytest.approx(logprobs_of(model, texts, 64), rel=1e-6, abs=1e-4)


def test_the_memory_is_bounded_by_the_batch(model, monkeypatch):
    sizes = []
    plain = type(model).logprobs

    def watched(self, tokens, read):
        sizes.append(read.size)
        return plain(self, tokens, read)

    monkeypatch.setattr(type(model), "logprobs", watched)
    logprobs_of(model, texts_of(model), 60)
    assert max(sizes) <= 60
    assert sum(sizes) < 2 * sum(LENGTHS)


CAUSAL = [family for family in FAMILIES if family != "paligemma"]


@pytest.mark.parametrize("family", CAUSAL)
def test_a_model_of_another_project_is_scored_as_by_a_plain_loop(tmp_path, loop, family):
    model = HFLanguageModel(f"hf:{build(family, tmp_path / family)}")
    texts = list(model.encode(["What object is in row 2?", "frog | ship\n", "bird " * 90], "x"))
    expected = [sum(loop(model, text)) for text in texts]
    for batch_tokens in (1, 10**4):
        found = logprobs_of(model, texts, batch_tokens)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_one_of_ours_is_the_same_under_both_names(small, model):
    other = HFLanguageModel(f"hf:{small}")
    texts = ["| bird | frog |\n", "cat " * 60]
    ours, theirs = (list(one.encode(texts, "x")) for one in (model, other))
    assert [text.tolist() for text in ours] == [text.tolist() for text in theirs]
    assert other.start == model.start
    assert logprobs_of(other, theirs, 99) == pytest.approx(logprobs_of(model, ours, 99), rel=1e-5)


# of PaliGemma's processor
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_that_sees_later_tokens_is_refused(tmp_path):
    path = build("paligemma", tmp_path / "paligemma")
    with pytest.raises(UserError, match="reads a text in both directions"):
        HFLanguageModel(f"hf:{path}")


def test_a_tokenizer_of_another_project_must_keep_its_text(tmp_path):
    path = build("llama", tmp_path / "llama")
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save(str(path / "tokenizer.json"))
    model = HFLanguageModel(f"hf:{path}")
    assert len(next(model.encode(["a small one"], "corpus: x"))) > 1
    says = r"corpus: x: the tokenizer of .* 'A Large One' becomes 'a l"
    with pytest.raises(UserError, match=says):
        list(model.encode(["A Large One"], "corpus: x"))


def test_the_language_model_of_a_gpt2v_is_measured(mm_run):
    loaded = load_model(str(mm_run))
    assert loaded.gpt2v is not None
    model = OwnModel(loaded)
    texts = texts_of(model, [5, 9])
    with torch.no_grad():
        for text, found in zip(texts, logprobs_of(model, texts, 99), strict=True):
            ids = torch.tensor([[model.start, *text]])
            logp = loaded.gpt2v.language_model(ids).logits[0, :-1].log_softmax(-1)
            assert found == pytest.approx(float(logp.gather(1, ids[0, 1:, None]).sum()), rel=1e-4)


def test_logits_that_are_not_finite_are_one_line(small):
    model = OwnModel(load_model(str(small)))
    with torch.no_grad():
        model.model.transformer.wpe.weight[3] = float("nan")
    texts = texts_of(model, [2, 2, 6])
    with pytest.raises(UserError, match="its logits for text 12 are NaN or infinite"):
        logprobs_of(model, texts, 99, number=10)
