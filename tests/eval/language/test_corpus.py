"""Loss, perplexity and bits per byte of documents, and what is refused."""

import importlib.util
import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import gpt2v
from gpt2v.cli.main import main
from gpt2v.config.language import CorpusEvalConfig
from gpt2v.data.text_pieces import SPECIAL_TOKENS
from gpt2v.eval.language.corpus import measure_corpus
from gpt2v.eval.language.models import LanguageModel
from gpt2v.eval.language.rates import Ratio
from gpt2v.results import read_records, read_results
from helpers import refusal

DOCUMENTS = ["| bird | frog |\n| cat | horse |", "What object is in row 2? A: bird", "é 東京 " * 9]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("<|endoftext|>".join(DOCUMENTS))
    return path


def measured(model, path, **fields):
    found = measure_corpus(model, CorpusEvalConfig(corpus=str(path), **fields))
    return found.rows[0], found.records


def test_documents_are_scored_as_by_a_plain_loop(model, loop, text):
    row, records = measured(model, text, clean=False)
    assert records["document"].to_pylist() == [0, 1, 2]
    for document, record in zip(DOCUMENTS, records.to_pylist(), strict=True):
        tokens = model.loaded.tokenizer.encode(document).ids
        scores = loop(model, tokens)
        assert record["nll"] == pytest.approx(-sum(scores), rel=1e-5)
        assert record["n_tokens"] == len(tokens) == len(scores)
        assert record["n_bytes"] == len(document.encode())
    nll, n_tokens, n_bytes = (sum(records[k].to_pylist()) for k in ("nll", "n_tokens", "n_bytes"))
    assert row["loss"] == pytest.approx(nll / n_tokens)
    assert row["perplexity"] == pytest.approx(math.exp(nll / n_tokens))
    assert row["bits_per_byte"] == pytest.approx(nll / math.log(2) / n_bytes)
    assert (row["n_documents"], row["n_tokens"], row["n_bytes"]) == (3, n_tokens, n_bytes)


class Uniform(LanguageModel):
    """Gives each of four tokens the same probability; a token is two bytes."""

    name, n_positions, start = "uniform", 8, 0

    def encode(self, texts, where):
        return (np.zeros(len(text.encode()) // 2, int) for text in texts)

    def logprobs(self, tokens, read):
        return np.full(read.sum(), -math.log(4))


def test_four_tokens_of_two_bytes_are_one_bit_for_each_byte(text):
    text.write_text("abcd<|endoftext|>" + "efgh" * 20)
    row, _ = measured(Uniform(), text)
    assert row["loss"] == pytest.approx(math.log(4))
    assert row["perplexity"] == pytest.approx(4)
    assert row["bits_per_byte"] == pytest.approx(1)
    assert row["bits_per_byte_ci95"] == pytest.approx([1, 1])


def test_the_interval_of_a_ratio_is_the_jackknifes():
    rng = np.random.default_rng(0)
    size = rng.integers(5, 50, 40).astype(float)
    total = size * rng.uniform(1, 3, 40)
    found = Ratio.of(total, size)
    assert found.value == pytest.approx(total.sum() / size.sum())
    kept = ~np.eye(40, dtype=bool)
    without = np.array([total[k].sum() / size[k].sum() for k in kept])
    assert found.error == pytest.approx(math.sqrt(np.square(without - found.value).sum() * 39 / 40))
    t = stats.t(size.sum() ** 2 / (size**2).sum() - 1)
    assert found.ci95 == pytest.approx(list(t.interval(0.95)) * np.array(found.error) + found.value)
    one = Ratio.of(total[:1], size[:1])
    assert (one.value, one.error, one.ci95) == (total[0] / size[0], None, None)


@pytest.mark.parametrize("n", [3, 10])
def test_few_documents_of_unequal_sizes_hold_the_truth(n):
    """Long ones have a lower loss: the ratio of the expectations is not 1, but exp(-0.1)."""
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(2000):
        size = np.exp(rng.standard_normal(n))
        low, high = Ratio.of(size**0.9 * np.exp(0.3 * rng.standard_normal(n)), size).ci95
        held += low <= math.exp((0.81 + 0.09 - 1) / 2) <= high
    assert held > 0.93 * 2000


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("lm_eval", "accelerate"))),
    reason="lm_eval is not installed: pip install 'gpt2v[eval]'",
)
def test_scores_are_those_of_the_harness(model, text):
    """Its rolling log-likelihood has the same windows."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=2)
    asked = [Instance("loglikelihood_rolling", {}, (d,), i) for i, d in enumerate(DOCUMENTS)]
    expected = harness.loglikelihood_rolling(asked)
    _, records = measured(model, text, clean=False)
    assert records["nll"].to_pylist() == pytest.approx([-value for value in expected], rel=1e-4)


def test_one_document_has_no_interval(model, text):
    text.write_text(DOCUMENTS[0])
    row, _ = measured(model, text)
    assert row["n_documents"] == 1
    assert row["loss_ci95"] is row["perplexity_ci95"] is row["bits_per_byte_ci95"] is None


def test_a_limit_takes_the_first_documents_that_are_left(model, text):
    text.write_text("<|endoftext|>".join(["one", "one", "", "two", "three"]))
    _, records = measured(model, text, limit=2)
    assert records["n_bytes"].to_pylist() == [3, 3]
    row, _ = measured(model, text)
    assert row["n_documents"] == 3
    assert measured(model, text, clean=False)[0]["n_documents"] == 4


def test_many_documents_are_scored_in_parts(model, text, monkeypatch):
    whole = measured(model, text)[1]
    monkeypatch.setattr("gpt2v.eval.language.texts._TOGETHER", 2)
    parts = measured(model, text)[1]
    assert parts["document"].to_pylist() == [0, 1, 2]
    assert parts["nll"].to_pylist() == pytest.approx(whole["nll"].to_pylist(), rel=1e-6)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_writes_a_run_that_is_repeated_by_its_configuration(
    small, text, tmp_path, capsys
):
    out = tmp_path / "out"
    assert (
        main(["eval", str(small), "--corpus", str(text), "--stride", "7", "--out", str(out)]) == 0
    )
    shown = capsys.readouterr().out
    results = read_results(out)
    (row,) = results["results"]
    assert results["kind"] == "language"
    assert results["cleaning"]["kept"] == 3
    assert f"{row['bits_per_byte']:.4f}" in shown
    again = ["eval", str(small), "--suite", str(out / "config.yaml"), "--out", str(tmp_path / "b")]
    assert main(again) == 0
    assert read_results(tmp_path / "b")["results"] == results["results"]
    assert read_records(tmp_path / "b").equals(read_records(out))
    called = gpt2v.evaluate(small, out / "config.yaml")
    assert called.records.equals(read_records(out))


def test_a_folder_has_splits(small, tmp_path, capsys):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text("of the training")
    (folder / "valid.txt").write_text("one<|endoftext|>two")
    for split, n in (("val", 2), ("train", 1)):
        out = str(tmp_path / split)
        assert (
            main(["eval", str(small), "--corpus", str(folder), "--split", split, "--out", out]) == 0
        )
        assert read_results(out)["results"][0]["n_documents"] == n
        assert f"reads {'valid' if split == 'val' else split}.txt" in capsys.readouterr().err


def not_byte_level(small, tmp_path):
    path = shutil.copytree(small, tmp_path / "words")
    words = Tokenizer(
        models.WordLevel({"a": 0, **{t: i + 1 for i, t in enumerate(SPECIAL_TOKENS)}})
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.WordPiece()
    words.save(str(path / "tokenizer.json"))
    (path / "MANIFEST.json").unlink(missing_ok=True)
    return path


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, [], "--corpus: {text}: no such file or folder"),
        ("", [], "--corpus: {text}: holds no documents"),
        ("\n \n", [], "--corpus: {text}: holds no documents"),
        (b"\xff\xfe", [], "--corpus: {text}: not UTF-8 text"),
        ("a", ["--limit", "1"], "--limit: "),
        ("a", ["--stride", "0"], "--stride: "),
        ("a", ["--split", "train"], "--split: train has no effect: {text} is a file"),
        ("a", ["--suite", "grid-3x3-v2"], "--corpus: has no grids, but --suite grid-3x3-v2 has"),
        ("a", ["--pairs", "all"], "--pairs: has no meaning here"),
        ("a", ["--n_images", "9"], "--n_images: has no meaning here"),
        ("a", ["--resume"], "--resume: only an evaluation of grids can be continued"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    small, text, tmp_path, capsys, content, options, says
):
    if content is None:
        text.unlink()
    else:
        text.write_bytes(content if isinstance(content, bytes) else content.encode())
    out = tmp_path / "out"
    line = refusal(capsys, "eval", small, "--corpus", text, "--out", out, *options)
    assert says.format(text=text) in line
    assert not out.exists()


def test_a_tokenizer_without_bytes_is_one_line(small, text, tmp_path, capsys):
    words = not_byte_level(small, tmp_path)
    line = refusal(capsys, "eval", words, "--corpus", text, "--out", tmp_path / "out")
    assert line.endswith(f"model: {words}: its tokenizer: not a byte-level tokenizer like GPT-2's")
    assert not (tmp_path / "out").exists()


def test_token_folders_are_refused(small, tmp_path, capsys):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "meta.json").write_text(json.dumps({}))
    line = refusal(capsys, "eval", small, "--corpus", tmp_path / "t", "--out", tmp_path / "out")
    assert "holds tokens, not text; name the text" in line
