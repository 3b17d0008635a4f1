"""Token files return what was written, or an error that says what is wrong."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from gpt2v.data.corpus import encoding
from gpt2v.data.corpus import parts as splitting
from gpt2v.data.corpus.cleaning import CleaningReport
from gpt2v.data.corpus.encoding import token_bytes
from gpt2v.data.corpus.tokens import open_tokens, tokenizer_hash
from gpt2v.data.text_pieces import END_OF_TEXT, special_id
from gpt2v.data.tokenizer import load_tokenizer, train_tokenizer
from gpt2v.errors import UserError
from gpt2v.model.files import wrap_tokenizer
from helpers import write_tokens

TEXTS = ["Once upon a time.\nThe end.", "Ñandú 東京 🦜", "", "12 birds | cat"]

texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"])),
        st.sampled_from(["<|endoftext|>", "a<image>b", "<pad>", "cat\n\n\ndog \n x\n"]),
    ),
    min_size=1,
)


@pytest.fixture
def folder(tokenizer, tmp_path):
    write_tokens(tmp_path / "t", TEXTS, tokenizer, "a.txt", CleaningReport(read=9, kept=4))
    return tmp_path / "t"


def plain(tokenizer, text):
    """Tokens of one document; special tokens in it are tokenized as text."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return [special_id(tokenizer, END_OF_TEXT), *copy.encode(text, add_special_tokens=False).ids]


def same_documents(file, tokenizer, expected):
    assert file.meta.n_documents == len(expected)
    assert file.tokens.tolist() == [t for text in expected for t in plain(tokenizer, text)]
    for i, text in enumerate(expected):
        ids = file.document(i)
        assert ids.tolist() == plain(tokenizer, text)
        assert tokenizer.decode(ids[1:].tolist(), skip_special_tokens=False) == text
    assert file.meta.n_tokens == len(file.tokens) == file.offsets[-1]
    assert file.meta.n_bytes == sum(len(text.encode()) for text in expected)
    assert token_bytes(tokenizer)[file.tokens].sum() == file.meta.n_bytes


@given(texts, st.integers(1, 30))
def test_documents_come_back(tokenizer, tmp_path_factory, documents, size):
    folder = tmp_path_factory.mktemp("tokens") / "t"
    with pytest.MonkeyPatch.context() as patch:  # many batches, many parts
        patch.setattr(encoding, "BATCH", size)
        patch.setattr(splitting, "_PART", size)
        written = write_tokens(folder, documents, tokenizer, "given")
    same_documents(written, tokenizer, documents)
    same_documents(open_tokens(folder, tokenizer), tokenizer, documents)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_the_parts_of_a_long_document_have_its_tokens(monkeypatch, size):
    monkeypatch.setattr(splitting, "_PART", size)
    text = "one line\nand\n\n\nmore \n  of\t\n\nthem\n\n" * 30
    spaced = train_tokenizer([text], 400)  # has tokens of several line ends
    parts = list(splitting.parts_of(text, spaced))
    assert len(parts) > 10
    assert "".join(parts) == text
    tokens = [token for part in parts for token in spaced.encode(part).ids]
    assert tokens == spaced.encode(text).ids


def test_the_content_of_meta(folder, tokenizer):
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["dtype"] == "uint16"
    assert meta["source"] == "a.txt"
    assert meta["cleaning"]["read"] == 9
    assert meta["tokenizer_hash"] == tokenizer_hash(tokenizer)
    assert (folder / "tokens.bin").stat().st_size == 2 * meta["n_tokens"]


def test_large_vocabularies_take_four_bytes(tokenizer, tmp_path):
    large = Tokenizer.from_str(tokenizer.to_str())
    large.add_tokens([f"word{i}" for i in range(70_000)])
    file = write_tokens(tmp_path / "t", ["word69999 cat"], large, "a.txt")
    assert file.meta.dtype == "uint32"
    assert file.tokens.max() > 2**16
    same_documents(file, large, ["word69999 cat"])


def test_a_saved_tokenizer_is_the_same_one(tokenizer, tmp_path):
    wrap_tokenizer(tokenizer).save_pretrained(tmp_path)
    assert tokenizer_hash(load_tokenizer(str(tmp_path))) == tokenizer_hash(tokenizer)
    assert tokenizer_hash(train_tokenizer(["other words"] * 3, 300)) != tokenizer_hash(tokenizer)


def test_nothing_is_left_of_a_writing_that_failed(tokenizer, tmp_path):
    def failing():
        yield "a"
        raise UserError("line 2 is bad")

    with pytest.raises(UserError, match="line 2 is bad"):
        write_tokens(tmp_path / "t", failing(), tokenizer, "a.txt")
    with pytest.raises(UserError, match=r"a\.txt: no document"):
        write_tokens(tmp_path / "t", [], tokenizer, "a.txt")
    assert list(tmp_path.iterdir()) == []


def _flip(path, byte=-1):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda f: _flip(f / "tokens.bin"), "tokens.bin is damaged"),
        (lambda f: _flip(f / "tokens.bin", 0), "tokens.bin is damaged"),
        (lambda f: (f / "tokens.bin").write_bytes(b""), "tokens.bin is damaged"),
        (
            lambda f: (f / "tokens.bin").write_bytes((f / "tokens.bin").read_bytes()[:-1]),
            "tokens.bin is damaged",
        ),
        (lambda f: (f / "tokens.bin").unlink(), "tokens.bin is damaged or missing"),
        (lambda f: _flip(f / "offsets.npy"), "offsets.npy is damaged"),
        (lambda f: (f / "offsets.npy").unlink(), "damaged or missing"),
        (lambda f: (f / "meta.json").write_text("{"), "meta.json is damaged"),
        (lambda f: (f / "meta.json").write_text("{}"), "meta.json is damaged"),
        (lambda f: (f / "meta.json").unlink(), "no meta.json here"),
    ],
)
def test_damage_is_found(folder, tokenizer, damage, match):
    damage(folder)
    with pytest.raises(UserError, match=f"^valid: .*{match}") as caught:
        open_tokens(folder, tokenizer, "valid")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["n_tokens", "n_documents"])
def test_meta_that_contradicts_the_files_is_refused(folder, tokenizer, name):
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, name: meta[name] + 1}))
    with pytest.raises(UserError, match=r"meta\.json is damaged"):
        open_tokens(folder, tokenizer)


def test_another_tokenizer_is_refused(folder):
    other = train_tokenizer(["other words"] * 3, 300)
    with pytest.raises(UserError, match=r"with another tokenizer \(hash .*tokenize again"):
        open_tokens(folder, other)


def test_tokens_are_mapped_not_read(folder, tokenizer):
    file = open_tokens(folder, tokenizer)
    assert isinstance(file.tokens, np.memmap)
    assert not file.tokens.flags.writeable


CHANGES = {
    "lower case": ("normalizer", normalizers.Lowercase()),
    "NFKC": ("normalizer", normalizers.NFKC()),
    "strip": ("normalizer", normalizers.Strip()),
    "prefix space": ("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_tokenizer_that_changes_text_is_refused(tokenizer, tmp_path, name):
    part, value = CHANGES[name]
    other = Tokenizer.from_str(tokenizer.to_str())
    setattr(other, part, value)
    with pytest.raises(UserError, match=r"corpus: a\.txt: the tokenizer does not keep .* becomes"):
        write_tokens(tmp_path / "t", ["Once upon a time.\n", " x² \n"], other, "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_lost_later_in_the_corpus_is_noticed(tokenizer, tmp_path):
    """The first documents are decoded again; of all others, the bytes of their tokens count."""
    parts = json.loads(tokenizer.to_str())
    parts["model"]["vocab"]["?lost?"] = parts["model"]["vocab"].pop("Z")
    lacking = Tokenizer.from_str(json.dumps(parts))
    documents = ["a b c\n" * 40_000, "and Zebra"]
    with pytest.raises(UserError, match="does not keep its text: 'and Zebra' becomes 'and ebra'"):
        write_tokens(tmp_path / "t", documents, lacking, "a.txt")


def test_a_tokenizer_without_bytes_is_refused_before_anything_is_written(tmp_path):
    words = Tokenizer(models.WordLevel({"a": 0, END_OF_TEXT: 1}, "a"))
    with pytest.raises(UserError, match="not a byte-level tokenizer"):
        write_tokens(tmp_path / "t", ["a"], words, "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("letters", ["ACGT", "abcdefXYZ019+/", "東京都は高い。、", "ab ", " \t"])
def test_a_long_line_is_cut_where_its_tokens_allow(monkeypatch, letters):
    text = "".join(Random(0).choices(letters, k=5000))
    trained = train_tokenizer([text], 320)
    monkeypatch.setattr(splitting, "_PART", 100)
    parts = list(splitting.parts_of(text, trained))
    assert len(parts) > 30
    assert "".join(parts) == text
    assert [t for part in parts for t in trained.encode(part).ids] == trained.encode(text).ids


def test_cuts_fit_the_tokenizer(monkeypatch, bank):
    """Some tokenizers join punctuation with the line breaks after it; they are not cut there."""
    text = "one.\ntwo three.\n" * 100
    joins = train_tokenizer([text], 300)
    joins.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    joins.add_tokens([".\ntwo"])
    monkeypatch.setattr(splitting, "_PART", 20)
    parts = list(splitting.parts_of(text, joins))
    assert len(parts) > 20
    assert [t for part in parts for t in joins.encode(part).ids] == joins.encode(text).ids


@pytest.mark.parametrize("group", [2, 5, 8])
def test_groups_of_characters_are_not_shifted(monkeypatch, group):
    """They are counted from the start of the document, not of a part."""
    text = "".join(Random(0).choices("acgt", k=3001))
    grouped = train_tokenizer([text], 300)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    groups = pre_tokenizers.FixedLength(group)
    grouped.pre_tokenizer = pre_tokenizers.Sequence([groups, to_bytes])
    monkeypatch.setattr(splitting, "_PART", 1001)
    parts = list(splitting.parts_of(text, grouped))
    assert [t for part in parts for t in grouped.encode(part).ids] == grouped.encode(text).ids


def test_a_long_document_is_tokenized_in_several_calls(tokenizer, tmp_path, monkeypatch):
    """So a signal is answered between them."""
    monkeypatch.setattr(splitting, "_PART", 1000)
    monkeypatch.setattr(encoding, "BATCH", 3000)
    assert list(encoding._batches([1000] * 7)) == [(0, 3), (3, 6), (6, 7)]
    assert list(encoding._batches([])) == []
    text = "one line of it\n" * 2000
    same_documents(write_tokens(tmp_path / "t", [text], tokenizer, "a.txt"), tokenizer, [text])
