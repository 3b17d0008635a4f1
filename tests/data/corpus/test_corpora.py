"""A corpus is tokenized once and again if damaged; no text is in both parts."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import helpers
from gpt2v.config.data import CorpusConfig
from gpt2v.data.corpus import tokenizing
from gpt2v.data.corpus.corpora import open_corpus
from gpt2v.data.corpus.tokenizing import corpus_texts, tokenize_corpus
from gpt2v.data.tokenizer import train_tokenizer
from gpt2v.errors import UserError
from helpers import write_tokens

STORIES = helpers.SHARED / "tinystories"
TEXTS = [f"Story {i}: the bird saw {i * i} cats and {i} dogs by the river." for i in range(300)]


def write(path, texts):
    path.write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return str(path)


@pytest.fixture
def text_file(tmp_path):
    return write(tmp_path / "train.txt", TEXTS)


def config(corpus, **changes):
    return CorpusConfig(corpus=str(corpus), context=16, **changes)


def words(tokens, tokenizer):
    """The documents in an array of tokens."""
    text = tokenizer.decode(list(tokens), skip_special_tokens=False)
    return text.split("<|endoftext|>")[1:]


def parts(corpus):
    return [words(w.tokens, corpus.tokenizer) for w in (corpus.train, corpus.valid)]


def test_a_hundredth_is_held_out_and_the_rest_trains(text_file, tokenizer, tmp_path):
    corpus = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    train, valid = parts(corpus)
    assert sorted(train + valid) == sorted(TEXTS)
    assert 0 < len(valid) < 15
    assert train == [text for text in TEXTS if text not in valid]
    assert corpus.name == "train.txt"
    assert corpus.meta.cleaning["kept"] == 300
    assert list(corpus_texts(config(text_file))) == train


def test_the_second_time_nothing_is_read(text_file, tokenizer, tmp_path, monkeypatch):
    first = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    monkeypatch.setattr(tokenizing, "read_documents", None)
    again = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    assert again.content_hash == first.content_hash
    other_context = CorpusConfig(corpus=text_file, context=8)
    assert open_corpus(other_context, tokenizer, tmp_path / "cache").meta == first.meta
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_default_cache(text_file, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    open_corpus(config(text_file), tokenizer)
    (entry,) = (tmp_path / "home" / "gpt2v" / "tokens").iterdir()
    assert sorted(part.name for part in entry.iterdir()) == ["train", "valid"]


@pytest.mark.parametrize("large", [False, True])
def test_each_change_makes_another_cache_entry(text_file, tokenizer, tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr(tokenizing, "_SMALL", 0)
    keys = {
        tokenizing._cache_key(config(text_file, **c), tokenizer) for c in ({}, {"clean": False})
    }
    keys.add(tokenizing._cache_key(config(text_file, field="story"), tokenizer))
    keys.add(tokenizing._cache_key(config(text_file, valid=text_file), tokenizer))
    keys.add(tokenizing._cache_key(config(text_file), train_tokenizer(TEXTS, 300)))
    write(Path(text_file), [*TEXTS, "one more"])
    keys.add(tokenizing._cache_key(config(text_file), tokenizer))
    assert len(keys) == 6
    before = tokenizing._cache_key(config(text_file), tokenizer)
    os.utime(text_file, ns=(0, 0))  # only large files are identified by their time
    assert (tokenizing._cache_key(config(text_file), tokenizer) != before) == large


def test_a_damaged_entry_is_made_again(text_file, tokenizer, tmp_path, capsys):
    first = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    file = entry / "valid" / "tokens.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    capsys.readouterr()
    again = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "tokens.bin is damaged" in lines[0]
    assert "making it again" in lines[0]
    assert again.content_hash == first.content_hash


def test_one_of_several_makes_the_tokens_and_the_others_wait(text_file, tokenizer, tmp_path):
    """Four threads at once; a thread is an owner of its own."""
    made, write_pair = [], tokenizing._write_pair

    def slowly(*args):
        made.append(args)
        time.sleep(0.3)
        write_pair(*args)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(tokenizing, "_write_pair", slowly)
        cache = tmp_path / "cache"
        opened = [pool.submit(open_corpus, config(text_file), tokenizer, cache) for _ in range(4)]
        assert len({one.result().content_hash for one in opened}) == 1
    assert len(made) == 1
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written(text_file, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        open_corpus(config(text_file), tokenizer, tmp_path / "file")


def test_validation_documents_do_not_train(text_file, tokenizer, tmp_path, capsys):
    valid = write(tmp_path / "valid.txt", ["Something else by the river. " * 5, TEXTS[7] + " \r\n"])
    spec = config(text_file, valid=valid)
    corpus = open_corpus(spec, tokenizer, tmp_path / "cache")
    train, held = parts(corpus)
    assert held[1] == TEXTS[7]
    assert train == TEXTS[:7] + TEXTS[8:] == list(corpus_texts(spec))
    assert corpus.meta.cleaning["held_out"] == 1
    assert "1 held out" in capsys.readouterr().out
    raw = open_corpus(config(text_file, valid=valid, clean=False), tokenizer, tmp_path / "cache")
    assert parts(raw)[0] == TEXTS
    assert raw.meta.cleaning is None


def test_texts_for_a_tokenizer_are_bounded(text_file):
    texts = list(corpus_texts(config(text_file), limit_bytes=200))
    assert 3 <= len(texts) <= 5


def test_a_tokenized_folder_equals_the_file(text_file, tokenizer, tmp_path):
    out = tmp_path / "out"
    tokenize_corpus(config(text_file), tokenizer, out)
    from_folder = open_corpus(config(out), tokenizer, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    from_file = open_corpus(config(text_file), tokenizer, tmp_path / "cache")
    assert from_folder.content_hash == from_file.content_hash
    assert parts(from_folder) == parts(from_file)
    with pytest.raises(UserError, match="already exists; choose another --out"):
        tokenize_corpus(config(text_file), tokenizer, out)
    with pytest.raises(UserError, match="holds tokens, not text"):
        tokenize_corpus(config(out), tokenizer, tmp_path / "again")
    with pytest.raises(UserError, match=r"holds tokens, not text; .*tokenizer\.source"):
        next(corpus_texts(config(out)))
    with pytest.raises(UserError, match="leave valid out"):
        open_corpus(config(out, valid=text_file), tokenizer)
    for options in ({"field": "story"}, {"clean": False}):
        with pytest.raises(UserError, match=r"(field: story|clean: False) has no effect: .*tokens"):
            open_corpus(config(out, **options), tokenizer)
    with pytest.raises(UserError, match="tokenized with another tokenizer"):
        open_corpus(config(out), train_tokenizer(TEXTS, 300))
    (out / "valid" / "meta.json").unlink()
    with pytest.raises(UserError, match=r"valid: no meta\.json here"):
        open_corpus(config(out), tokenizer)


def test_a_folder_of_tokens_alone(tokenizer, tmp_path):
    write_tokens(tmp_path / "a", TEXTS, tokenizer, "a")
    write_tokens(tmp_path / "b", TEXTS[:5], tokenizer, "b")
    train, valid = parts(open_corpus(config(tmp_path / "a"), tokenizer))
    assert (train, valid) == (TEXTS[:297], TEXTS[297:])
    both = open_corpus(config(tmp_path / "a", valid=str(tmp_path / "b")), tokenizer)
    assert parts(both) == [TEXTS, TEXTS[:5]]
    with pytest.raises(UserError, match=r"^valid: .*no meta\.json here"):
        open_corpus(config(tmp_path / "a", valid=str(tmp_path)), tokenizer)


@pytest.mark.parametrize(
    ("texts", "valid", "match"),
    [
        (["only one " * 2], None, "train.txt has .* tokens, too few for one window of context: 16"),
        (["\ufffd", "a\x01"], None, r"^corpus: .*no document is left \(2 read, 2 broken\)"),
        (["a" * 99], ["\ufffd"], r"^valid: .*no document is left \(1 read, 1 broken\)"),
        (["b" * 99], ["b" * 99], r"^corpus: .*no document is left \(1 read, 1 held out\)"),
        (["short", "shorter"], None, "too few for one window of context: 16"),
        (["long enough " * 20], ["no"], "the validation part of train.txt has .* context: 16"),
    ],
)
def test_too_little_text_is_refused(tokenizer, tmp_path, texts, valid, match):
    text_file = write(tmp_path / "train.txt", texts)
    held = valid and write(tmp_path / "valid.txt", valid)
    with pytest.raises(UserError, match=match) as caught:
        open_corpus(config(text_file, valid=held), tokenizer, tmp_path / "cache")
    assert "\n" not in str(caught.value)


BOOK = "\n\n".join(TEXTS)


@pytest.mark.parametrize("context", [16, 500])
@pytest.mark.parametrize("repeats", [1, 9])
def test_of_one_document_the_last_tokens_are_for_validation(
    tokenizer, tmp_path, capsys, context, repeats
):
    """No token is lost, and both parts have a window, in the cache and in a folder of tokens."""
    book = "\n".join([BOOK] * repeats)
    text_file = write(tmp_path / "book.txt", [book])
    whole = CorpusConfig(corpus=text_file, context=context)
    corpus = open_corpus(whole, tokenizer, tmp_path / "cache")
    said = capsys.readouterr()
    tokens = [*corpus.train.tokens, *corpus.valid.tokens]
    assert tokenizer.decode(tokens) == book
    n = len(corpus.valid.tokens)
    assert n == max(len(tokens) // 100, context + 1)
    assert said.err == (
        f"gpt2v: corpus: {text_file}: is one document; the last {n:,} of its {len(tokens):,} "
        "tokens are for validation; if blank lines separate documents in it, set separator: "
        "blank-lines\n"
    )
    assert "tokens: book.txt: documents, separated by <|endoftext|>: 1 read, 1 kept" in said.out
    tokenize_corpus(whole, tokenizer, tmp_path / "out")
    for again in (tmp_path / "out", tmp_path / "out" / "train", text_file):
        same = open_corpus(whole.model_copy(update={"corpus": str(again)}), tokenizer, tmp_path)
        assert [*same.train.tokens, *same.valid.tokens] == tokens
        assert len(same.valid.tokens) == n
    assert list(corpus_texts(whole)) == [book]


def test_a_folder_of_many_documents_needs_its_validation_part(text_file, tokenizer, tmp_path):
    tokenize_corpus(config(text_file), tokenizer, tmp_path / "out")
    (tmp_path / "out" / "valid").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"valid: no meta\.json here"):
        open_corpus(config(tmp_path / "out"), tokenizer)


def test_blank_lines_separate_documents_if_that_is_set(tokenizer, tmp_path, capsys):
    text_file = write(tmp_path / "stories.txt", [BOOK])
    corpus = open_corpus(config(text_file, separator="blank-lines"), tokenizer, tmp_path / "cache")
    train, valid = parts(corpus)
    assert sorted(train + valid) == sorted(TEXTS)
    assert valid
    said = capsys.readouterr()
    assert said.err == ""
    assert "documents, separated by blank lines: 300 read, 300 kept" in said.out
    one = open_corpus(config(text_file), tokenizer, tmp_path / "cache")  # another cache entry
    assert one.meta.n_documents == 1


def test_a_separator_without_text_files_is_refused(text_file, tokenizer, tmp_path):
    tokenize_corpus(config(text_file), tokenizer, tmp_path / "out")
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' * 9)
    for corpus in (tmp_path / "out", tmp_path / "a.jsonl"):
        with pytest.raises(UserError, match=r"^separator: blank-lines has no effect: "):
            open_corpus(config(corpus, separator="blank-lines"), tokenizer, tmp_path / "cache")


def test_nothing_is_left_of_a_corpus_with_a_fault(tokenizer, tmp_path):
    text_file = tmp_path / "train.jsonl"
    text_file.write_text('{"text": "fine"}\n{"text": 3}\n')
    with pytest.raises(UserError, match=r"train\.jsonl: line 2"):
        tokenize_corpus(config(text_file), tokenizer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [text_file]


def test_tinystories(tmp_path):
    if not (STORIES / "train.txt").is_file():
        pytest.skip("train.txt and valid.txt of TinyStories are not beside the repository")
    spec = CorpusConfig(
        corpus=str(STORIES / "train.txt"), valid=str(STORIES / "valid.txt"), context=256
    )
    tokenizer = train_tokenizer(corpus_texts(spec, limit_bytes=500_000), 1024)
    tokenize_corpus(spec, tokenizer, tmp_path / "out")
    corpus = open_corpus(
        spec.model_copy(update={"corpus": str(tmp_path / "out"), "valid": None}), tokenizer
    )
    train, valid = parts(corpus)
    assert len(train) == corpus.meta.n_documents > 1000
    assert not set(train) & set(valid)
    assert sum(len(text.encode()) for text in train) == corpus.meta.n_bytes
    raw = (STORIES / "train.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    squeezed = {" ".join(text.split()) for text in raw}  # cleaning changes nothing but spaces here
    assert {" ".join(text.split()) for text in train} <= squeezed
    assert {corpus.meta.cleaning[name] for name in ("empty", "broken", "repaired")} == {0}
    assert corpus.train.train_batch(0, 0, 4).tokens.shape == (4, 257)
