"""Accuracy on minimal pairs, and its intervals; comparisons of pairs and of text."""

import math
import shutil
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from gpt2v.cli.main import main
from gpt2v.config.language import PairsEvalConfig
from gpt2v.eval.language.minimal_pairs import measure_pairs
from gpt2v.eval.language.models import LanguageModel
from gpt2v.eval.language.pairs.base import draw
from gpt2v.eval.language.rates import shared_by
from gpt2v.eval.language.shared_words import SharedWords
from gpt2v.results import read_records, read_results
from gpt2v.stats.intervals import rate_interval
from gpt2v.stats.student import width
from helpers import forget_imports, refusal


def config(*names, n_pairs=20, **fields):
    return PairsEvalConfig(pairs=list(names), n_pairs=n_pairs, **fields)


def test_both_sentences_are_scored_as_by_a_plain_loop(model, loop):
    found = measure_pairs(model, config("story-place", n_pairs=4))
    pairs = list(draw("story-place", 1, 4))
    for pair, record in zip(pairs, found.records.to_pylist(), strict=True):
        scores = [
            sum(loop(model, model.loaded.tokenizer.encode(text).ids))
            for text in (pair.good, pair.bad)
        ]
        assert [record["logprob_good"], record["logprob_bad"]] == pytest.approx(scores, rel=1e-5)
        assert record["exact"] == (scores[0] > scores[1])
        assert [record[key] for key in ("good", "bad")] == [pair.good, pair.bad]
        assert record["words"] == list(pair.words)


class Knows(LanguageModel):
    """Gives each text a probability by a function of it."""

    name, n_positions, start = "knows", 4096, 0

    def __init__(self, score):
        self.score = score

    def encode(self, texts, where):
        self.texts = texts
        return (np.array([i]) for i in range(len(texts)))

    def logprobs(self, tokens, read):
        return np.array([self.score(self.texts[i]) for i in tokens[:, 1]])


def test_equal_sentences_are_wrong_and_words_alone_are_chance():
    same = measure_pairs(Knows(lambda text: -1.0), config("all"))
    assert {row["accuracy"] for row in same.rows} == {0.0}
    words = Knows(lambda text: sum(crc32(word.encode()) for word in text[:-1].lower().split()))
    rows = measure_pairs(words, config("all")).rows
    assert {row["accuracy"] for row in rows} == {0.5}
    assert [row["n_pairs"] for row in rows] == [240, *[80] * 3, *[20] * 12]


def test_a_model_that_knows_a_family_is_right_there_only():
    good = {pair.good for name in ("story-wish", "agreement-simple") for pair in draw(name, 1, 20)}
    found = measure_pairs(Knows(lambda text: float(text in good)), config("story", "agreement"))
    rate = {row["phenomenon"]: row["accuracy"] for row in found.rows if row["by"] == "phenomenon"}
    assert len(rate) == 8
    assert {name for name, value in rate.items() if value == 1} == {
        "story-wish",
        "agreement-simple",
    }
    families = {row["family"]: row["accuracy"] for row in found.rows if row["by"] == "family"}
    assert families == {"agreement": 0.25, "story": 0.25}
    assert all(row["chance"] == 0.5 for row in found.rows)


def table(items, words, exact, phenomenon=None, slots=None):
    return pa.table(
        {
            "phenomenon": phenomenon or ["a"] * len(items),
            "item": items,
            "words": words,
            "slots": slots or [["word"] * len(own) for own in words],
            "exact": exact,
        }
    )


def test_repeated_material_is_not_counted_as_independent():
    """Pairs of one item, and of one word, are clusters."""
    exact = np.tile([True, True, False, False], 25)
    apart = table(range(100), [[str(i)] for i in range(100)], exact)
    together = table(range(100), [[str(i % 4 // 2)] for i in range(100)], exact)
    twins = table([i // 2 for i in range(100)], [[f"{i // 2}"] for i in range(100)], exact)
    widths = [
        high - low
        for low, high in (rate_interval(exact, shared_by(t)) for t in (apart, twins, together))
    ]
    assert widths[0] < 0.8 * widths[1]
    assert widths[0] < 0.7 * widths[2]
    shared = shared_by(twins)
    assert (shared.n, shared.n_pictures) == (100, 50)


def test_items_of_two_phenomena_are_different_and_words_are_the_same():
    records = table(
        [0, 0, 1, 1], [["dog"], ["dog"], ["dog", "cat"], ["cat"]], [True] * 4, list("aabb")
    )
    shared = shared_by(records)
    assert (np.unique(shared.picture, return_inverse=True)[1] == [0, 0, 1, 1]).all()
    assert shared.tiles.tolist() == [[0, -1], [0, -1], [0, 1], [1, -1]]
    assert shared.part.tolist() == [0, 0, 1, 1]


def drawn_words(n_words, n_together, n_items, seed):
    """Items of several words of one slot, each word with an effect on the pair's value."""
    rng = np.random.default_rng(seed)
    words = rng.permuted(np.tile(np.arange(n_words), (n_items, 1)), axis=1)[:, :n_together]
    none = np.zeros(words.shape, int)
    return SharedWords(np.arange(n_items), words, np.zeros(n_items, int), none), rng


@pytest.mark.parametrize("n_together", [1, 2, 3])
def test_the_variance_over_new_words_is_the_true_one(n_together):
    """Words only, and no other noise; in one item stand several words of one slot."""
    estimates, means = [], []
    for seed in range(400):
        shared, rng = drawn_words(8, n_together, 2000, seed)
        value = rng.standard_normal(8)[shared.tiles].sum(1)
        estimates.append(shared.variance(value))
        means.append(value.mean())
    assert np.mean(estimates) == pytest.approx(n_together**2 / 8, rel=0.1)
    assert np.var(means) == pytest.approx(n_together**2 / 8, rel=0.2)


@pytest.mark.parametrize("n_together", [1, 2, 3])
def test_independent_pairs_are_not_called_dependent(n_together):
    shared, rng = drawn_words(20, n_together, 500, 0)
    found = [shared.variance(rng.standard_normal(500)) for _ in range(200)]
    assert 0.95 / 500 < np.mean(found) < 2 / 500


def test_the_variance_is_that_of_means_without_each_word():
    """Two parts, one of which lacks some words; no pair shares an item."""
    rng = np.random.default_rng(0)
    part = np.repeat([0, 1], [60, 40])
    words = np.where(part == 0, rng.integers(0, 10, 100), rng.integers(5, 15, 100))[:, None]
    shared = SharedWords(np.arange(100), words, part, part[:, None])
    value = rng.standard_normal(100) + 3 * rng.standard_normal(15)[words[:, 0]] + 5 * part

    def mean(kept):
        return sum((part == p).mean() * value[(part == p) & kept].mean() for p in (0, 1))

    everything = mean(np.ones(100, bool))
    left_out = [mean(words[:, 0] != word) - everything for word in range(15)]
    assert shared.n_drawn == 10
    assert shared.variance(value) == pytest.approx(np.square(left_out).sum() * 0.9)


def test_words_that_are_always_together_are_one():
    couples = [["Ann", "Bob"], ["Eve", "Tom"], ["Mia", "Max"]] * 4
    assert shared_by(table(range(12), couples, [True] * 12)).n_drawn == 3
    others = [["Ann", "Bob"], ["Ann", "Tom"], ["Mia", "Bob"], ["Mia", "Tom"], ["Eve", "Ann"]]
    assert shared_by(table(range(5), others, [True] * 5)).n_drawn == 5
    assert shared_by(table(range(4), [[]] * 4, [True] * 4)).n_drawn == 4


def test_a_word_of_all_items_leaves_everything_open():
    records = table(range(20), [["dog"]] * 20, [True, False] * 10)
    low, high = rate_interval(records["exact"].to_numpy(), shared_by(records), width(1))
    assert low < 0.01
    assert high > 0.99


def test_small_slots_belong_to_the_template():
    (pair, *_) = draw("story-emotion", 1, 2)
    assert set(pair.slots) == {"person", "events"}
    assert len(pair.words) == len(pair.slots) == 3


# ---- the command, and comparisons ----------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small, lm_run):
    """Pairs and text, each measured with two models."""
    root = tmp_path_factory.mktemp("language")
    text = root / "text.txt"
    text.write_text("<|endoftext|>".join(f"| bird | {'frog ' * n}|" for n in range(1, 9)))
    for name, model in (("one", small), ("two", lm_run)):
        for kind, asked in (
            ("pairs", ["--pairs", "story,agreement-simple", "--n-pairs", "20"]),
            ("text", ["--corpus", str(text)]),
        ):
            argv = ["eval", str(model), *asked, "--out", str(root / f"{kind}-{name}")]
            assert main(argv) == 0
    return root


def test_pairs_are_compared_one_by_one(runs, tmp_path, capsys):
    names = [str(runs / "pairs-one"), str(runs / "pairs-two")]
    assert main(["eval", "compare", *names, "--out", str(tmp_path / "c")]) == 0
    results = read_results(tmp_path / "c")
    assert results["kind"] == "compare"
    one, two = (read_records(name).to_pandas() for name in names)
    rows = {(row["by"], row["value"]): row for row in results["results"]}
    assert len(rows) == 1 + 2 + 5
    for (by, value), row in rows.items():
        here = slice(None) if by == "all" else one[by] == value
        assert row["difference"] == pytest.approx(
            two["exact"][here].mean() - one["exact"][here].mean()
        )
        low, high = row["ci95"]
        assert low <= row["difference"] <= high
    assert "phenomenon story-wish" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "c")]) == 0
    page = (tmp_path / "c/report/index.html").read_text()
    assert "story-wish" in page
    assert "95% intervals over new items of new words" in page


def test_only_all_pairs_are_compared_by_none(runs, tmp_path, capsys):
    argv = ("eval", "compare", runs / "pairs-one", runs / "pairs-two", "--out", tmp_path / "c")
    assert "--by: cell has no effect on language" in refusal(capsys, *argv, "--by", "cell")
    assert main([*map(str, argv), "--by", "none"]) == 0
    assert [row["by"] for row in read_results(tmp_path / "c")["results"]] == ["all"]


def test_texts_are_compared_document_by_document(runs, tmp_path, capsys):
    names = [str(runs / "text-one"), str(runs / "text-two")]
    assert main(["eval", "compare", *names, "--out", str(tmp_path / "c")]) == 0
    (row,) = read_results(tmp_path / "c")["results"]
    bits, others = (read_results(name)["results"][0]["bits_per_byte"] for name in names)
    assert row["difference"] == pytest.approx(others - bits)
    one, two = (read_records(name).to_pandas() for name in names)
    more = (two["nll"] - one["nll"]).to_numpy() / math.log(2)
    size = one["n_bytes"].to_numpy()
    without = [np.delete(more, i).sum() / (size.sum() - size[i]) for i in range(len(size))]
    shrunk = (len(size) - 1) / len(size)
    error = math.sqrt(np.square(np.array(without) - row["difference"]).sum() * shrunk)
    t = stats.t(size.sum() ** 2 / np.square(size).sum() - 1)
    half = error * t.ppf(0.975)
    assert row["ci95"] == pytest.approx(
        [row["difference"] - half, row["difference"] + half], rel=1e-5
    )
    assert row["p"] == pytest.approx(2 * t.sf(abs(row["difference"]) / error), rel=1e-4)
    assert row["smallest_difference"] == pytest.approx(half + error * t.ppf(0.8), rel=1e-5)
    assert row["p_holm"] == row["p"]
    assert f"{row['difference']:+.4f}" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "c")]) == 0
    page = (tmp_path / "c/report/index.html").read_text()
    assert f"needs {row['difference']:+.3f} bits per byte" in page.replace("&#43;", "+")


def test_pairs_of_an_older_version_are_refused(runs, tmp_path, capsys):
    old = shutil.copytree(runs / "pairs-one", tmp_path / "old")
    path = old / "records.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["slots"]), path)
    argv = ("eval", "compare", runs / "pairs-two", old, "--out", tmp_path / "c")
    assert "old: was measured by an older version; measure it again" in refusal(capsys, *argv)


def test_what_is_not_the_same_is_refused(runs, small, lm_run, tmp_path, capsys):
    pairs, text = runs / "pairs-one", runs / "text-one"
    out = ("--out", tmp_path / "out")
    line = refusal(capsys, "eval", "compare", pairs, text, *out)
    assert "task is corpus, not pairs" in line
    other = tmp_path / "other"
    argv = ["eval", str(small), "--pairs", "story,agreement-simple", "--n-pairs", "20"]
    assert main([*argv, "--seed", "2", "--out", str(other)]) == 0
    assert "data_hash is " in refusal(capsys, "eval", "compare", pairs, other, *out)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--pairs", "grammar"],
            "--pairs: no such phenomenon or family: 'grammar'; choose",
        ),
        (["--pairs", "story,story"], "--pairs: must name each once"),
        (["--pairs", "all", "--n-pairs", "3"], "--n-pairs: "),
        (["--pairs", "all", "--n-pairs", "4000"], "--n-pairs: agreement-simple has only 3,840"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(small, tmp_path, capsys, options, says):
    assert says in refusal(capsys, "eval", small, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


OWN = """
from gpt2v.eval.language.pairs.base import Item, Phenomenon
from gpt2v.registry import PHENOMENA


@PHENOMENA.register("articles")
class Articles(Phenomenon):
    \"\"\"The article before a vowel.\"\"\"

    family = "sound"
    slots = {"verb": ("saw", "ate"), "nouns": (("apple", "pear"), ("egg", "cake"))}

    def item(self, verb, nouns):
        return Item(tuple(f"Tom {verb} _ {noun}." for noun in nouns), ("an", "a"))
"""


def test_a_phenomenon_of_ones_own(small, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    out = tmp_path / "out"
    argv = ["eval", str(small), "--import", str(tmp_path / "own.py"), "--pairs", "sound"]
    with forget_imports():
        assert main([*argv, "--n-pairs", "8", "--out", str(out)]) == 0
    assert [row["family"] for row in read_results(out)["results"]] == [None, "sound", "sound"]
    goods = {record["good"] for record in read_records(out).to_pylist()}
    assert len(goods) == 8
    assert {"Tom ate an egg.", "Tom saw a pear."} < goods
