"""Every format returns the documents that were written; errors name the line or byte."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.data.corpus import documents
from gpt2v.data.corpus.documents import read_documents
from gpt2v.errors import UserError

SEPARATOR = "<|endoftext|>"
TEXTS = ["Tom sat.\nTom slept.", "Ñandú “ran” 東京 🦜", "x"]

texts = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(path_or_id, **options):
    return list(read_documents(path_or_id, **options))


def refused(path_or_id, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        read(path_or_id, **options)
    assert "\n" not in str(caught.value)


@given(st.lists(texts, min_size=1), st.integers(1, 40), st.booleans())
def test_txt_equals_a_split_of_the_whole_text_for_any_chunk(tmp_path_factory, parts, chunk, spaced):
    path = tmp_path_factory.mktemp("txt") / "a.txt"
    text = (f"\n{SEPARATOR}\n" if spaced else SEPARATOR).join(parts)
    path_or_id = write(path, text)
    expected = [part.strip("\r\n") for part in text.removeprefix("\ufeff").split(SEPARATOR)]
    if not expected[-1].strip():
        expected.pop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_CHUNK", chunk)
        if expected:
            assert read(path_or_id) == expected
        else:
            refused(path_or_id, "holds no documents")


@given(
    st.lists(texts | st.sampled_from(["\n", "\n\n", " \n\t\n", SEPARATOR, "a\r\n\r\nb"])),
    st.integers(1, 40),
)
def test_blank_lines_lose_no_text(tmp_path_factory, parts, chunk):
    path_or_id = write(tmp_path_factory.mktemp("txt") / "a.txt", "a" + "".join(parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_CHUNK", chunk)
        found = read(path_or_id, blank_lines=True)
    whole = ("a" + "".join(parts)).replace(SEPARATOR, "")
    assert "".join("".join(found).split()) == "".join(whole.split())
    for document in found:
        assert document.strip()
        assert all(line.strip() for line in document.split("\n"))
        assert SEPARATOR not in document


def test_blank_lines_and_separators_both_separate(tmp_path):
    text = f"one\nstill one\n\n \t\ntwo{SEPARATOR}three\r\n\r\n\nfour\n"
    path_or_id = write(tmp_path / "a.txt", text)
    assert read(path_or_id, blank_lines=True) == ["one\nstill one", "two", "three", "four"]
    assert read(path_or_id) == [text.split(SEPARATOR)[0], "three\r\n\r\n\nfour"]


def test_jsonl_parquet_and_folders_give_the_same_documents(tmp_path):
    lines = "\n\n".join(json.dumps({"text": text, "n": 1}) for text in TEXTS)
    assert read(write(tmp_path / "b.jsonl", lines)) == TEXTS
    pq.write_table(pa.table({"n": [1, 2, 3], "text": TEXTS}), tmp_path / "a.parquet")
    assert read(str(tmp_path / "a.parquet")) == TEXTS
    write(tmp_path / "c.txt", SEPARATOR.join(["last"]))
    write(tmp_path / "README.md", "not read")
    write(tmp_path / "empty.txt", "")
    assert read(str(tmp_path)) == [*TEXTS, *TEXTS, "last"]


def test_other_columns_and_rows_without_text(tmp_path):
    pq.write_table(pa.table({"story": ["a", None]}), tmp_path / "a.parquet")
    assert read(str(tmp_path / "a.parquet"), field="story") == ["a", ""]
    path_or_id = write(
        tmp_path / "a.jsonl", '{"story": "a"}\n{"story": null}\n{"story": "\\ud800!"}'
    )
    assert read(path_or_id, field="story") == ["a", "", "\ufffd!"]  # half a pair is not a character


def test_only_what_is_asked_for_is_read(tmp_path):
    path_or_id = write(tmp_path / "a.jsonl", '{"text": "good"}\n' * 3 + "bad")
    stream = read_documents(path_or_id)
    assert [next(stream) for _ in range(3)] == ["good"] * 3
    with pytest.raises(UserError, match="line 4"):
        next(stream)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", "", "holds no documents"),
        ("a.txt", f" \n{SEPARATOR}\n"[:2], "holds no documents"),
        ("a.txt", b"good text\0", "a.txt: not UTF-8 text: NUL at byte 9"),
        ("a.txt", b"\xff\xfeg\0", "invalid start byte at byte 0"),
        ("a.txt", "Ñ".encode() * 5 + b"\xff...", "invalid start byte at byte 10"),
        ("a.txt", "ab東".encode()[:-1], "unexpected end of data at byte 2"),
        ("a.jsonl", "", "holds no documents"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', "a.jsonl: line 2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n[1]', "line 2: expected an object"),
        ("a.jsonl", '{"story": "a"}', r"line 1: no column 'text' \(columns: story\)"),
        ("a.jsonl", '{"text": 3}', "line 1: column 'text' is int, expected text"),
        ("a.jsonl", b'{"text": "a"}\n\xff', "line 2: not UTF-8 text: .* at byte 14"),
        ("a.jsonl", b'{"text": "a"}\n\0', "line 2: .* NUL at byte 14"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.parquet", "no parquet", "a.parquet: not a readable parquet file"),
        ("a.csv", "text\n", r"expected a \.txt, \.jsonl or \.parquet file"),
    ],
)
def test_faults_are_named_with_line_or_byte(tmp_path, monkeypatch, name, content, match):
    monkeypatch.setattr(documents, "_CHUNK", 3)
    refused(write(tmp_path / name, content), match)


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), "dictionary"])
def test_text_columns_of_other_tools(tmp_path, kind):
    """polars writes views, pandas categories."""
    column = pa.array([*TEXTS, None])
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert read(str(tmp_path / "a.parquet")) == [*TEXTS, ""]


def test_parquet_columns_that_hold_no_text(tmp_path):
    path_or_id = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1, 2]}), path_or_id)
    refused(path_or_id, "column 'text' is int64, expected text")
    refused(path_or_id, r"no column 'story' \(columns: text\)", field="story")
    whole = (tmp_path / "a.parquet").read_bytes()
    refused(write(tmp_path / "cut.parquet", whole[:-9]), "not a readable parquet file")


@pytest.mark.parametrize(
    "path_or_id", ["./x", "missing.txt", "a/b/c", "{tmp}/x", "~/no/such.jsonl"]
)
def test_paths_without_a_file_are_no_hub_ids(tmp_path, path_or_id):
    path_or_id = path_or_id.format(tmp=tmp_path)
    refused(path_or_id, "^valid: .*no such file or folder", key="valid")


def test_folders_without_text_and_hubs_out_of_reach(tmp_path):
    refused(str(tmp_path), "in this folder")
    refused("nobody/nothing", "corpus: nobody/nothing: .*cannot be read from the hub")


def test_hub_data_sets_are_streamed(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(path_or_id, **options):
        asked.append((path_or_id, options))
        return iter([{"story": "a"}, {"story": "b"}, {}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stream = read_documents("some/stories", "story", "validation")
    assert [next(stream), next(stream)] == ["a", "b"]
    assert asked == [("some/stories", {"split": "validation", "streaming": True})]
    with pytest.raises(UserError, match="some/stories: row 2: no column 'story'"):
        next(stream)


def test_a_name_that_is_not_utf_8(tmp_path):
    """Python opens such files; pyarrow itself takes only names in UTF-8."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.parquet"))
    with path.open("wb") as file:
        pq.write_table(pa.table({"text": TEXTS}), file)
    assert read(str(path)) == read(str(tmp_path)) == TEXTS
