"""What stands beside a tokenizer's files is done, or refused: added tokens, settings, families."""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from gpt2v.cli.main import main
from gpt2v.data.text_pieces import IMAGE, special_id
from gpt2v.data.tokenizer import load_tokenizer
from gpt2v.errors import UserError
from helpers import TINY_ENCODER, TINY_LM, refusal, write_yaml

USER = "<|user|>"


@pytest.fixture
def parts(tmp_path, bank):
    """A folder with GPT-2's kind of files, and the number of their tokens."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator(bank.class_names, trainer)
    plain.model.save(str(tmp_path))
    return tmp_path, len(json.loads((tmp_path / "vocab.json").read_text()))


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def test_added_tokens_keep_their_ids(parts):
    """Else the row that was trained for another token would be read as <image>."""
    folder, n = parts
    write(folder, "added_tokens.json", {"<pad>": n + 1, IMAGE: n + 2, USER: n})
    loaded = load_tokenizer(str(folder))
    assert [loaded.token_to_id(t) for t in (USER, "<pad>", IMAGE)] == [n, n + 1, n + 2]
    assert loaded.encode(f"a{USER}b").ids.count(n) == 1
    write(folder, "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    theirs = AutoTokenizer.from_pretrained(folder).get_vocab()
    assert {t: loaded.token_to_id(t) for t in theirs} == theirs


@pytest.mark.parametrize("with_json", [False, True])
def test_added_tokens_of_the_settings(parts, tokenizer, with_json):
    folder, n = parts
    if with_json:
        tokenizer.save(str(folder / "tokenizer.json"))
        n = tokenizer.get_vocab_size()
    fields = {"__type": "AddedToken", "content": USER, "special": True, "lstrip": False}
    settings = {"added_tokens_decoder": {str(n): fields}}
    write(folder, "tokenizer_config.json", settings)
    loaded = load_tokenizer(str(folder))
    assert loaded.token_to_id(USER) == n
    assert special_id(loaded, IMAGE) != n
    assert loaded.decode([n]) == ""  # it is special


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("added_tokens.json", {USER: 9999}, r"'<\|user\|>' is token 9999 there, but [0-9]+ in"),
        ("added_tokens.json", {IMAGE: "x"}, "names added tokens in an unknown way"),
        ("added_tokens.json", [USER], "expected a mapping"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1": 2}}, "in an unknown way"),
        ("tokenizer_config.json", {"add_prefix_space": True}, "puts a space before every text"),
        ("tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"}, "CLIPTokenizer does not"),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "Qwen2TokenizerFast"},
            "with a tokenizer.jso",
        ),
    ],
)
def test_what_is_not_done_is_refused(parts, name, content, fault):
    folder, _ = parts
    write(folder, name, content)
    with pytest.raises(UserError, match=rf"^lm: .*{name}: .*{fault}"):
        load_tokenizer(str(folder), "lm")


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "GPT2TokenizerFast", "RobertaTokenizer", None])
def test_families_that_read_as_gpt2_does(parts, kind):
    folder, _ = parts
    before = load_tokenizer(str(folder)).to_str()
    write(folder, "tokenizer_config.json", {"tokenizer_class": kind, "add_prefix_space": False})
    assert load_tokenizer(str(folder)).to_str() == before


def test_ends_of_words_are_marked(parts):
    folder, _ = parts
    vocabulary = json.loads((folder / "vocab.json").read_text())
    write(folder, "vocab.json", {**vocabulary, "t</w>": len(vocabulary)})
    with pytest.raises(UserError, match=r"vocab\.json: marks the ends of words by </w>"):
        load_tokenizer(str(folder))


def test_files_that_are_not_there(parts):
    folder, _ = parts
    with pytest.raises(UserError, match=r"vocab\.json: is a file; give the folder"):
        load_tokenizer(str(folder / "vocab.json"))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "tokenizer.json").write_text(pointer)
    with pytest.raises(UserError, match=r"tokenizer\.json: is a pointer of Git LFS"):
        load_tokenizer(str(folder))


CHARACTERS = ["\n", *map(chr, range(32, 127))]


def without_unknown(model, pieces):
    made = Tokenizer(model)
    made.pre_tokenizer, made.decoder = pieces, decoders.Fuse()
    return made


LETTERS = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (without_unknown(models.WordLevel({"cat": 0}), pre_tokenizers.Whitespace()), "UNK"),
        (without_unknown(models.WordPiece({"a": 0}), pre_tokenizers.Whitespace()), "UNK"),
        (without_unknown(models.Unigram([("a", -1.0)]), LETTERS), "unknown token"),
        (
            without_unknown(models.WordLevel({c: i for i, c in enumerate(CHARACTERS)}), LETTERS),
            None,
        ),
        (Tokenizer(models.BPE()), "does not keep the text"),
    ],
)
def test_a_text_that_cannot_be_read(tmp_path, capsys, monkeypatch, made, fault):
    """Without a token for unknown words the library raises; a tokenizer of all letters is fine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").mkdir()
    made.save("t/tokenizer.json")
    config = write_yaml(tmp_path / "c.yaml", {**TINY_LM, "tokenizer": {"source": "t"}})
    if fault is None:
        assert main(["lm", "train", str(config), "--out", "out"]) == 0
        return
    line = refusal(capsys, "lm", "train", config, "--out", "out")
    assert line.startswith(f"gpt2v: {config}: tokenizer.source: t: ")
    assert fault in line
    assert not (tmp_path / "out").exists()


def test_a_caption_that_cannot_be_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t").mkdir()
    without_unknown(models.WordLevel({"a": 0}), pre_tokenizers.Whitespace()).save(
        "t/tokenizer.json"
    )
    config = write_yaml(tmp_path / "c.yaml", {**TINY_ENCODER, "tokenizer": {"source": "t"}})
    line = refusal(capsys, "encoder", "train", config, "--out", "out")
    assert "tokenizer.source: t: cannot read 'a picture of" in line
    assert not (tmp_path / "out").exists()
