"""A compressed file gives the bytes of the plain one, or one line if any of it is damaged."""

import bz2
import gzip
import io
import json
import lzma
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2v.data.corpus import compressed
from gpt2v.data.corpus.compressed import open_bytes
from gpt2v.data.corpus.documents import read_documents
from gpt2v.errors import UserError

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TEXTS = ["Tom sat.\nTom slept.", "Ñandú “ran” 東京 🦜", "x" * 50_000, "the end"]
CONTENT = {
    ".txt": "\n<|endoftext|>\n".join(TEXTS).encode(),
    ".jsonl": "\n".join(json.dumps({"text": text}) for text in TEXTS).encode(),
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("form", CONTENT)
def test_the_documents_are_those_of_the_plain_file(tmp_path, form, suffix):
    plain, packed = tmp_path / f"a{form}", tmp_path / f"b{form}{suffix.upper()}"
    plain.write_bytes(CONTENT[form])
    packed.write_bytes(PACK[suffix](CONTENT[form]))
    assert list(read_documents(str(packed))) == list(read_documents(str(plain))) == TEXTS


@settings(max_examples=40)
@given(
    suffix=st.sampled_from(list(PACK)),
    parts=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    padding=st.sampled_from([0, 4, 8192]),
    chunk=st.integers(1, 50),
    sizes=st.lists(st.integers(1, 100), min_size=1),
)
def test_parts_chunks_and_padding(tmp_path_factory, suffix, parts, padding, chunk, sizes):
    """Several compressed parts one after another, as parallel compressors write them."""
    file = tmp_path_factory.getbasetemp() / f"parts{suffix}"
    file.write_bytes(b"".join(map(PACK[suffix], parts)) + bytes(padding))
    read = []
    with pytest.MonkeyPatch.context() as patch, open_bytes(file) as stream:
        patch.setattr(compressed, "_CHUNK", chunk)
        for size in sizes:
            read.append(stream.read(size))
        read.append(stream.read())
    assert b"".join(read) == b"".join(parts)


@pytest.mark.parametrize("suffix", PACK)
def test_any_byte_that_is_missing_or_changed_is_noticed(tmp_path, suffix):
    file = tmp_path / f"a.txt{suffix}"
    whole = PACK[suffix](b"one text ") + PACK[suffix](b"and another " * 40)

    def read(content):
        file.write_bytes(content)
        with open_bytes(file) as stream:
            return stream.read()

    expected = read(whole)
    first = len(PACK[suffix](b"one text "))
    for end in range(len(whole)):
        if end != first:  # there a whole part ends, so it is a whole file
            with pytest.raises(OSError, match=r"ends too early|damaged"):
                read(whole[:end])
    for i in range(len(whole)):
        changed = whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :]
        with suppress(OSError):
            assert read(changed) == expected  # e.g. the time in gzip's header


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content[:-6], "it ends too early; it is not whole"),
        (lambda content: b"", "it ends too early; it is not whole"),
        (lambda content: content + b"junk" * 9, "it is damaged"),
        (lambda content: b"plain text" * 9, "it is damaged"),
        (lambda content: content[:40] + b"\xff\0\xff" + content[43:], "it is damaged"),
    ],
)
def test_damage_is_one_line_with_the_file(tmp_path, suffix, damage, says):
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(damage(PACK[suffix](CONTENT[".jsonl"])))
    with pytest.raises(UserError) as caught:
        list(read_documents(str(file)))
    assert str(caught.value).startswith(f"corpus: {file}: cannot be read: {says}")
    assert "\n" not in str(caught.value)


def test_only_what_is_asked_for_is_decompressed(tmp_path):
    """100 MB of text in a small file, of which the first lines are read."""
    file = tmp_path / "a.jsonl.gz"
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        for _ in range(100):
            stream.write(b'{"text": "good"}\n' * 60_000)
    file.write_bytes(packed.getvalue()[:-20])  # the damage at the end is not reached
    documents = read_documents(str(file))
    assert [next(documents) for _ in range(3)] == ["good"] * 3
