"""Which files of a folder train, which validate, which are left out, and that all of it is said."""

import bz2
import gzip
import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpt2v.config.data import CorpusConfig
from gpt2v.data.corpus import tokenizing
from gpt2v.data.corpus.corpora import open_corpus
from gpt2v.data.corpus.documents import read_documents
from gpt2v.data.corpus.sources import sources_of
from gpt2v.data.corpus.tokenizing import corpus_texts, tokenize_corpus
from gpt2v.data.corpus.tokens import TokenMeta, tokenizer_hash
from gpt2v.errors import UserError
from gpt2v.storage.manifest import sha256

SEPARATOR = "\n<|endoftext|>\n"


def story(name, i=0):
    return f"{name} {i}: the bird saw the cat and {i * i} dogs by the river."


def text(name, n=1):
    return SEPARATOR.join(story(name, i) for i in range(n))


def folder(root, **contents):
    """A folder with these files: name -> text, bytes, or None for `text(name)`."""
    root.mkdir(exist_ok=True)
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text(name, 5) if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def config(corpus, **changes):
    return CorpusConfig(corpus=str(corpus), context=8, **changes)


def stories(corpus, tokenizer, tmp_path, **changes):
    """The names in the stories that train, and in those that validate."""
    opened = open_corpus(config(corpus, **changes), tokenizer, tmp_path / "cache")
    names = []
    for windows in (opened.train, opened.valid):
        documents = tokenizer.decode(list(windows.tokens), skip_special_tokens=False)
        names.append({one.split(" ")[0] for one in documents.split("<|endoftext|>")[1:]})
    return names


def said(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "reads" in line]


def refused(match, call, *args, **options):
    with pytest.raises(UserError, match=match) as caught:
        list(call(*args, **options))
    assert "\n" not in str(caught.value)


# ---- splits ------------------------------------------------------------------------------------

LAYOUTS = [
    ("train-a.txt", "validation-b.txt", "test-c.txt"),
    ("TinyStories-train.txt", "TinyStories-valid.txt", "TinyStories-test.txt"),
    ("train/a.txt", "dev/b.txt", "testing/c.txt"),
    ("a_training.txt", "a_val.txt", "a_eval.txt"),
    ("stories.txt", "valid.txt", "evaluation-1.txt"),  # no file is named for training
    *(
        tuple(f"data/{split}-00000-of-00001.txt" for split in splits)
        for splits in [("train", "validation", "test")]
    ),
]


@pytest.mark.parametrize("names", LAYOUTS)
def test_training_validation_and_test_text(tmp_path, tokenizer, capsys, names):
    root = folder(tmp_path / "x", **dict.fromkeys(names))
    train, valid, test = names
    assert stories(root, tokenizer, tmp_path) == [{train}, {valid}]
    assert said(capsys) == [
        f"gpt2v: corpus: {root}: reads {train}, for validation {valid}; "
        f"left out: {test} (test split)"
    ]
    assert "".join(corpus_texts(config(root))).count(story(train)) == 1
    assert test not in "".join(corpus_texts(config(root)))
    assert stories(root, tokenizer, tmp_path) == [{train}, {valid}]
    assert len(said(capsys)) == 1  # also if the tokens are in the cache
    for split, name in zip(("train", "validation", "test"), names, strict=True):
        assert story(name) in list(read_documents(str(root), split=split))


def test_the_user_s_validation_text_is_used(tmp_path, tokenizer, capsys):
    root = folder(tmp_path / "x", **dict.fromkeys(["train.txt", "valid.txt"]))
    own = folder(tmp_path / "own", **dict.fromkeys(["dev.txt", "train.txt"]))
    assert stories(root, tokenizer, tmp_path, valid=str(own)) == [{"train.txt"}, {"dev.txt"}]
    assert said(capsys) == [
        f"gpt2v: corpus: {root}: reads train.txt; left out: valid.txt (validation split)",
        f"gpt2v: valid: {own}: reads dev.txt; left out: train.txt (train split)",
    ]
    plain = folder(tmp_path / "plain", **dict.fromkeys(["a.txt", "b.txt"]))
    both = stories(root, tokenizer, tmp_path, valid=str(plain))
    assert both == [{"train.txt"}, {"a.txt", "b.txt"}]
    file = stories(root, tokenizer, tmp_path, valid=str(root / "valid.txt"))
    assert file == [{"train.txt"}, {"valid.txt"}]


def test_validation_documents_in_the_training_text_are_counted(tmp_path, tokenizer, capsys):
    """A copy of a file has another name, and `clean: false` keeps what is there."""
    root = folder(tmp_path / "x", **dict.fromkeys(["train.txt"]))
    (root / "valid.txt").write_bytes((root / "train.txt").read_bytes())
    (root / "train-2.txt").write_text("another one")
    n_both = len(list(read_documents(str(root / "valid.txt"))))
    stories(root, tokenizer, tmp_path, clean=False)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gpt2v: corpus: {n_both} documents are training text, too; clean: false trains on them"
    )


def test_validation_text_is_never_trained_on(tmp_path, tokenizer):
    root = folder(tmp_path / "x", **dict.fromkeys(["a.txt", "b.txt"]))
    for valid in (root / "b.txt", root):
        spec = config(root, valid=str(valid), clean=False)
        refused(r"^valid: .*\.txt is training text, too", lambda spec=spec: sources_of(spec))
    both = stories(root, tokenizer, tmp_path, valid=str(root / "b.txt"))
    assert both == [{"a.txt"}, {"b.txt"}]  # cleaning takes the documents out
    tokens = tmp_path / "tokens"
    tokenize_corpus(config(root), tokenizer, tokens)
    spec = config(tokens / "train", valid=str(tmp_path / "x" / ".." / "tokens" / "train"))
    with pytest.raises(UserError, match="is the corpus itself; leave valid out"):
        open_corpus(spec, tokenizer)


def test_without_names_of_splits_everything_trains_and_nothing_is_said(tmp_path, tokenizer, capsys):
    root = folder(tmp_path / "x", **dict.fromkeys(["a.txt", "attest.txt", "trainer.txt"]))
    train, valid = stories(root, tokenizer, tmp_path)
    assert train | valid == {"a.txt", "attest.txt", "trainer.txt"}
    assert said(capsys) == []


def test_training_text_beside_files_without_a_split(tmp_path, tokenizer, capsys):
    root = folder(tmp_path / "x", **dict.fromkeys(["train.txt", "dev.txt", "other.txt"]))
    assert stories(root, tokenizer, tmp_path) == [{"train.txt"}, {"dev.txt"}]
    assert "left out: other.txt (no split in its name)" in said(capsys)[0]


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["test.txt"], r"no file of the train split, only test\.txt \(test split\); name a file"),
        (["dev-1.txt", "dev-2.txt"], r"only dev-1\.txt, dev-2\.txt \(validation split\)"),
        (["train-eval.txt"], "its name says both train and test"),
    ],
)
def test_no_training_text(tmp_path, names, match):
    root = folder(tmp_path / "x", **dict.fromkeys(names))
    refused(f"^corpus: .*{match}", read_documents, str(root))


def test_a_file_that_is_named_is_read_whatever_its_name_says(tmp_path):
    root = folder(tmp_path / "x", **dict.fromkeys(["test.txt", "train.txt"]))
    assert len(list(read_documents(str(root / "test.txt")))) == 5


def test_one_shard_is_read_alone_and_that_is_said(tmp_path, tokenizer, capsys):
    names = [f"train-{i}-of-3.txt" for i in range(3)]
    root = folder(tmp_path / "x", **dict.fromkeys(names))
    train, valid = stories(root / names[1], tokenizer, tmp_path)
    assert train | valid == {names[1]}
    assert f"left out: {names[0]}, {names[2]} (of the same set)" in said(capsys)[0]


# ---- what is not read --------------------------------------------------------------------------


def test_everything_that_is_left_out_is_said_in_one_line(tmp_path, tokenizer, capsys):
    names = ["a.txt", ".b.txt", "README.txt", "c.csv", "d.md", "e.txt.zst", "f.zip", "sub/g.txt"]
    root = folder(tmp_path / "x", **dict.fromkeys(names), **{"empty.jsonl": b""})
    train, valid = stories(root, tokenizer, tmp_path)
    assert train | valid == {"a.txt"}
    (line,) = said(capsys)
    assert line == (
        f"gpt2v: corpus: {root}: reads a.txt; left out: empty.jsonl (empty); .b.txt (hidden); "
        "README.txt (about the data); c.csv, d.md (other format); e.txt.zst, f.zip (compressed in "
        "a way that is not read); sub (sub-folder)"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sub/g.txt", "sub (sub-folder)"),
        ("e.txt.zst", "e.txt.zst (compressed in a way that is not read)"),
        ("c.csv", "c.csv (other format)"),
    ],
)
def test_one_thing_that_is_left_out_is_said(tmp_path, tokenizer, capsys, name, reason):
    root = folder(tmp_path / "x", **dict.fromkeys(["a.txt", name]))
    train, valid = stories(root, tokenizer, tmp_path)
    assert train | valid == {"a.txt"}
    assert said(capsys) == [f"gpt2v: corpus: {root}: reads a.txt; left out: {reason}"]


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
def test_compressed_text_beside_plain_text_is_read(tmp_path, tokenizer, suffix, compress):
    root = folder(
        tmp_path / "x", **{"a.txt": None, f"b.txt.{suffix}": compress(text("b", 5).encode())}
    )
    train, valid = stories(root, tokenizer, tmp_path)
    assert train | valid == {"a.txt", "b"}


def test_what_was_read_and_left_out_is_in_the_metadata(tmp_path, tokenizer):
    names = ["train.txt", "dev.txt", "test.txt", "notes.md"]
    root = folder(tmp_path / "x", **dict.fromkeys(names))
    tokenize_corpus(config(root), tokenizer, tmp_path / "out")
    left_out = "test.txt (test split); notes.md (other format)"
    for part, name in (("train", "train.txt"), ("valid", "dev.txt")):
        meta = json.loads((tmp_path / "out" / part / "meta.json").read_text())
        assert (meta["files"], meta["left_out"]) == ([name], left_out)
    assert stories(tmp_path / "out", tokenizer, tmp_path) == [{"train.txt"}, {"dev.txt"}]
    for part in ("train", "valid"):  # a folder from before these were written
        path = tmp_path / "out" / part / "meta.json"
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({k: meta[k] for k in meta if k not in ("files", "left_out")}))
        assert TokenMeta.model_validate_json(path.read_bytes()).files == []
    assert stories(tmp_path / "out", tokenizer, tmp_path) == [{"train.txt"}, {"dev.txt"}]


def test_files_without_documents_are_said(tmp_path, tokenizer, capsys):
    root = folder(tmp_path / "x", **{"a.txt": None, "b.txt": " \n", "c.jsonl": "\n\n"})
    folder(root, **{"d.txt.gz": gzip.compress(b"")})
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), root / "e.parquet")
    stories(root, tokenizer, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"gpt2v: corpus: {root}: no documents in b.txt, c.jsonl, d.txt.gz and 1 more",
    ]


def test_sub_folders_are_read_only_if_there_is_no_text_above_them(tmp_path, tokenizer, capsys):
    names = ["b/2.txt", "a/1.txt", "a/c/3.txt", ".git/4.txt", "README.md"]
    root = folder(tmp_path / "x", **dict.fromkeys(names))
    order = [one.split(" ")[0] for one in read_documents(str(root))][::5]
    assert order == ["a/1.txt", "a/c/3.txt", "b/2.txt"]
    stories(root, tokenizer, tmp_path)
    assert "left out: .git (hidden); README.md (about the data)" in said(capsys)[0]
    folder(root, **{"0.txt": None})
    assert len(list(read_documents(str(root)))) == 5
    stories(root, tokenizer, tmp_path)
    assert "a, b (sub-folder)" in said(capsys)[0]


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"train-00000-of-00003.txt": None, "train-00002-of-00003.txt": None}, "00001 is missing"),
        ({"a.txt": None, "a.jsonl": b"{}"}, "a.txt look like the same text in two formats"),
        ({"a.txt": None, "a.txt.gz": b""}, "a.txt.gz look like the same text in two formats"),
        ({"a.csv": None, "b.arrow": None}, r"not read: a\.csv, b\.arrow \(other format\)"),
        ({"a.txt.zst": None}, r"no \.txt, .*; not read: a\.txt\.zst \(compressed in a way"),
        ({"a.txt": b"version https://git-lfs.github.com/spec/v1\noid"}, "run git lfs pull"),
        ({"a.txt": b""}, "holds no documents"),
        ({"a.parquet": b""}, "not a readable parquet file"),
        ({"a.txt.gz": b""}, "a.txt.gz: cannot be read: it ends too early"),
    ],
)
def test_folders_that_are_refused(tmp_path, files, match):
    root = folder(tmp_path / "x", **files)
    refused(f"^corpus: {root}.*{match}", read_documents, str(root))


def test_a_link_to_a_file_of_the_folder_is_refused(tmp_path):
    root = folder(tmp_path / "x", **dict.fromkeys(["test.txt"]))
    (root / "train.txt").symlink_to("test.txt")
    refused("test.txt and .*train.txt are the same file", read_documents, str(root))
    refused("are the same file", lambda: sources_of(config(root)))


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "c4-train.00000-of-00001.ndjson"])
def test_json_under_another_name_is_another_format(tmp_path, name):
    root = folder(tmp_path / "x", **dict.fromkeys([name]))
    refused("; name it .jsonl if it has one object in each line", read_documents, str(root / name))
    refused(rf"not read: {name} \(other format\)", read_documents, str(root))


@pytest.mark.parametrize("name", ["a.txt.zst", "a.zip", "a.parquet.gz", "a.gz"])
def test_compressed_files_that_cannot_be_read(tmp_path, name):
    root = folder(tmp_path / "x", **dict.fromkeys([name]))
    refused(f"^corpus: {root / name}: .*decompress it first", read_documents, str(root / name))
    refused("no such file or folder", read_documents, name)  # it is no hub id


def test_json_arrays_and_other_columns_are_explained(tmp_path):
    one = folder(tmp_path / "x", **{"a.jsonl": '[\n  {"text": "a"},\n  {"text": "b"}\n]'})
    refused("line 1: not JSON: the start of a JSON array: .*one object in each line",
            read_documents, str(one))  # fmt: skip
    folder(one, **{"a.jsonl": '[{"text": "a"}]'})
    refused("expected an object with the column 'text', not an array", read_documents, str(one))
    folder(one, **{"a.jsonl": '{"story": "a", "n": 1}'})
    refused(r"no column 'text' \(columns: story, n\); set field", read_documents, str(one))
    pq.write_table(pa.table({"story": ["a"]}), tmp_path / "b.parquet")
    refused(r"\(columns: story\); set field", read_documents, str(tmp_path / "b.parquet"))


# ---- what stays as it was ----------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
def test_the_cache_key_of_a_folder_has_not_changed(tmp_path, tokenizer, monkeypatch, large):
    if large:
        monkeypatch.setattr(tokenizing, "_SMALL", 0)
    root = folder(tmp_path / "x", **{"b.TXT": "b", "a.jsonl": '{"text": "a"}', "notes.md": ""})
    files = [root / "a.jsonl", root / "b.TXT"]
    identity = (
        [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
        if large
        else [(f.suffix, sha256(f)) for f in files]
    )
    parts = (tokenizing._FORMAT, [identity], "text", True, tokenizer_hash(tokenizer))
    expected = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    assert tokenizing._cache_key(config(root), tokenizer) == expected


def test_the_same_bytes_as_another_format_have_another_key(tmp_path, tokenizer):
    packed = bz2.compress(b'{"text": "a"}')
    keys = set()
    for name in ("a.txt.bz2", "a.jsonl.bz2"):
        root = folder(tmp_path / name, **{name: packed})
        keys.add(tokenizing._cache_key(config(root), tokenizer))
    assert len(keys) == 2
