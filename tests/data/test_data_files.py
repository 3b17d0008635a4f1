"""Splits are those of the hub's library; sets of files are whole or refused."""

import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2v.data import data_files
from gpt2v.data.data_files import (
    by_split,
    check_different,
    check_shards,
    described,
    list_files,
    split_of,
)
from gpt2v.errors import UserError


def refused(match, check, *args):
    with pytest.raises(UserError, match=match) as caught:
        check(*args)
    assert "\n" not in str(caught.value)


def everything(root, deep=True):
    return list_files(root, lambda path: "", deep)


# ---- splits ------------------------------------------------------------------------------------


def test_the_words_are_those_of_the_library():
    library = pytest.importorskip("datasets.data_files")
    words = {str(split): tuple(words) for split, words in library.SPLIT_KEYWORDS.items()}
    assert words == data_files.SPLIT_WORDS
    assert library.NON_WORDS_CHARS == data_files.BESIDE_WORDS


AROUND = [
    ("", ".txt"),
    ("my-", ".txt"),
    ("a_", "_b.txt"),
    ("1", "2.txt"),
    ("x", ".txt"),
    ("", "s.txt"),
    ("", "/a.txt"),
    ("a.", "-00000-of-00001.txt"),
    ("", "-1/sub/a.txt"),
    ("data/", "-00000-of-00001.txt"),
]
NAMES = [
    before + word + after
    for (before, after), word in itertools.product(AROUND, data_files._SPLIT_OF)
    if before != "data/" or word in data_files.SPLIT_WORDS  # there it is the split's own name
]


@pytest.mark.parametrize("start", range(0, len(NAMES), 30))
def test_the_split_of_a_name_is_the_library_s(tmp_path, start):
    library = pytest.importorskip("datasets.data_files")
    splits = set()
    for number, name in enumerate(NAMES[start : start + 30]):
        root = tmp_path / str(number)
        file = root / name
        file.parent.mkdir(parents=True)
        file.write_text("x")
        expected = library.get_data_patterns(str(root))
        own = split_of(root, file)
        splits.add(own)
        assert list(expected) == [own or "train"], name
        assert (expected == {"train": ["**"]}) == (own is None), name
    assert len(splits) > 2


def test_capital_letters_are_no_way_into_the_training(tmp_path):
    assert split_of(tmp_path, tmp_path / "TEST.txt") == "test"
    assert split_of(tmp_path, tmp_path / "Val" / "a.txt") == "validation"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test(1).txt", "test"),
        ("[valid] a.txt", "validation"),
        ("a+train.txt", "train"),
        ("split=test/a.parquet", "test"),
        ("TestData.txt", "test"),
        ("MyTest.txt", "test"),
        ("HeldOutTestSet.jsonl", "test"),
        ("testset.txt", "test"),
        ("devset.txt", "validation"),
        ("valdata_2.txt", "validation"),
        *(
            (f"{name}.txt", None)
            for name in ("latest", "contest", "Testament", "DevOps", "invalid")
        ),
    ],
)
def test_other_ways_to_write_a_split(tmp_path, name, split):
    """They are no splits on the hub, but a file with such a name must not be trained on."""
    assert split_of(tmp_path, tmp_path / name) == split


@pytest.mark.parametrize("name", ["train-test.txt", "test/train.txt", "dev/eval-1.txt"])
def test_names_that_say_two_splits_are_refused(tmp_path, name):
    refused("its name says both .*; rename it", split_of, tmp_path, tmp_path / name)


def test_the_folder_itself_says_nothing(tmp_path):
    root = tmp_path / "test" / "data"
    assert by_split(root, [root / "a.txt"]) == {None: [root / "a.txt"]}


# ---- sets of shards ----------------------------------------------------------------------------


def paths(tmp_path, *names):
    return [tmp_path / name for name in names]


@given(
    total=st.integers(1, 12),
    first=st.sampled_from([0, 1]),
    width=st.integers(1, 5),
    tail=st.sampled_from([".txt", "-0a1b2c3d4e5f.parquet", ".jsonl.gz"]),
    data=st.data(),
)
def test_a_set_is_whole_or_refused(tmp_path_factory, total, first, width, tail, data):
    root = tmp_path_factory.getbasetemp()
    names = [f"train-{i:0{width}d}-of-{total:0{width}d}{tail}" for i in range(first, first + total)]
    files = paths(root, *names, "other.txt", "part-7.txt")
    check_shards(data.draw(st.permutations(files)))
    lost = data.draw(st.sampled_from(names))
    rest = [file for file in files if file.name != lost]
    if total > 1:
        refused(f"train-.*missing: {total - 1} of {total} files", check_shards, rest)
    else:
        check_shards(rest)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a-0-of-2.txt", "a-1-of-2.txt", "a-0-of-3.txt"], "a-0-of-3.txt is one of 3"),
        (["a-0-of-2.txt", "a-1-of-2.txt", "a-1-of-2-hash.txt"], "have the same number"),
        (["a-0-of-2.txt", "a-1-of-2.jsonl"], "different formats"),
        (["a-0-of-2.txt", "a-1-of-2.txt.gz"], "different formats"),
        (["a-0-of-2.txt", "a-1-of-2.txt", "a-2-of-2.txt"], "3 files are here, .* names say 2"),
        (["a_1_of_3.txt", "a_3_of_3.txt"], "number 2 is missing: 2 of 3"),
        (["a_1of3.txt", "a_3of3.txt"], "number 2 is missing: 2 of 3"),
        (["a (1 of 3).txt", "a (3 of 3).txt"], "number 2 is missing: 2 of 3"),
        (["b/a-0-of-1.txt", "a-1-of-2.txt"], "a-.: number 0 is missing: 1 of 2"),
        (["a-0-of-99999999999999.txt"], "number 00000|number 1 is missing: 1 of 99999999999999"),
    ],
)
def test_sets_that_do_not_fit_together(tmp_path, names, match):
    refused(match, check_shards, paths(tmp_path, *names))


def test_years_are_no_sizes_of_sets(tmp_path):
    check_shards(paths(tmp_path, "top 10 of 2023.txt", "best5of2020.txt", "proof 1 often 2.txt"))


def test_a_missing_shard_that_cannot_be_read_is_named(tmp_path):
    files = paths(tmp_path, "a-0-of-2.txt")
    others = paths(tmp_path, "a-1-of-2.txt.zst", "b-1-of-2.txt.zst")
    refused(r"number 1 is missing: .*; not read: a-1-of-2\.txt\.zst$", check_shards, files, others)


# ---- what is in a folder -----------------------------------------------------------------------


def test_everything_in_a_folder_is_data_or_left_out_with_a_reason(tmp_path):
    names = ["b.txt", "a/c.txt", "a/d/e.txt", ".hidden", ".git/x.txt", "README.md", "LICENSE"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a" / "d" / "up").symlink_to(tmp_path)
    found, left_out = everything(tmp_path)
    assert found == sorted(tmp_path.rglob("[bce].txt"))
    assert described(tmp_path, left_out) == (
        ".git, .hidden (hidden); LICENSE, README.md (about the data); "
        "a/d/up (link to a folder above)"
    )
    found, left_out = everything(tmp_path, deep=False)
    assert found == [tmp_path / "b.txt"]
    assert "a (sub-folder)" in described(tmp_path, left_out)


def test_many_names_are_counted(tmp_path):
    files = [tmp_path / f"{i}.csv" for i in range(9)]
    assert described(tmp_path, {"other format": files}) == (
        "0.csv, 1.csv, 2.csv and 6 more (other format)"
    )


def test_a_file_that_is_there_twice_or_is_elsewhere(tmp_path):
    one, two, three = paths(tmp_path, "a.txt", "b.txt", "c.txt")
    one.write_text("text")
    three.write_text("text")
    check_different([one, three])
    two.symlink_to("a.txt")
    refused(r"a\.txt and .*b\.txt are the same file", check_different, [one, two])
    two.unlink()
    os.link(one, two)
    refused(r"a\.txt and .*b\.txt are the same file", check_different, [one, two])
    two.unlink()
    two.symlink_to("nowhere")
    refused("a link that leads to none", everything, tmp_path)
    two.unlink()
    two.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused("b.txt: is a pointer of Git LFS", check_different, [one, two])


def test_files_without_numbers_are_different(tmp_path, monkeypatch):
    """As on some file systems of Windows."""
    files = paths(tmp_path, "a.txt", "b.txt")
    for file in files:
        file.write_text("text")
    monkeypatch.setattr(Path, "stat", lambda path: SimpleNamespace(st_dev=7, st_ino=0))
    check_different(files)
