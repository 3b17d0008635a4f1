"""The files of CIFAR: classes are matched by name, sets are whole, the rest is said."""

import io
import itertools
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.cifar_classes import agreed_names, relabelled
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tiles.sprites import CLASS_NAMES
from gpt2v.errors import UserError
from helpers import hashes_of, wrong_tiles

TYPES = pa.binary(), pa.int64()
NAMES = ("ant", "bee", "cow")


def png(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = [png(seed) for seed in range(120)]
CLASS = {blob: NAMES[i % 3] for i, blob in enumerate(PICTURES)}  # the truth


def write(path, blobs, names=NAMES, types=TYPES, with_path=True, named=True):
    """A parquet file of these pictures, whose labels number `names`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    struct = [("bytes", types[0])] + ([("path", pa.string())] if with_path else [])
    rows = [{"bytes": blob, "path": "x.png"} for blob in blobs]
    labels = [names.index(CLASS[blob]) if blob in CLASS else 0 for blob in blobs]
    table = pa.table(
        {"img": pa.array(rows, pa.struct(struct)), "label": pa.array(labels, types[1])}
    )
    if named:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        info = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(info)
    pq.write_table(table, path)
    return path


def cifar(root):
    return TilesConfig(source="cifar10", path=str(root))


def classes_of(bank):
    """Each tile's bytes of pixels -> (name of its class, split)."""
    found = {}
    for split in SPLITS:
        own = bank.splits[split]
        for pixels, label in zip(own.pixels, own.labels, strict=True):
            found[pixels.tobytes()] = (bank.class_names[label], split)
    return found


def check_classes(bank):
    found = classes_of(bank)
    assert len(found) == len(PICTURES)
    for blob, name in CLASS.items():
        pixels = np.asarray(Image.open(io.BytesIO(blob)))
        assert found[pixels.tobytes()][0] == name


def said(capsys):
    return capsys.readouterr().err.splitlines()


# ---- class names -------------------------------------------------------------------------------


ORDERS = list(itertools.permutations(NAMES))


@pytest.mark.parametrize(
    "orders", list(zip(ORDERS, ORDERS[1:] + ORDERS[:1], ORDERS[::-1], strict=True))
)
def test_any_orders_of_the_classes(tmp_path, orders):
    names = ["train-0-of-2.parquet", "train-1-of-2.parquet", "test-0-of-1.parquet"]
    parts = PICTURES[:50], PICTURES[50:90], PICTURES[90:]
    for name, blobs, order in zip(names, parts, orders, strict=True):
        write(tmp_path / name, blobs, order)
    check_classes(load_bank(cifar(tmp_path)))


def test_another_order_in_the_test_file_is_matched_and_said(tmp_path, capsys):
    write(tmp_path / "train.parquet", PICTURES[:90])
    write(tmp_path / "test.parquet", PICTURES[90:])
    expected = load_bank(cifar(tmp_path))
    check_classes(expected)
    assert said(capsys) == []
    write(tmp_path / "test.parquet", PICTURES[90:], NAMES[::-1])
    bank = load_bank(cifar(tmp_path))
    check_classes(bank)
    assert bank.class_names == NAMES
    assert hashes_of(bank) == hashes_of(expected)
    (line,) = said(capsys)
    assert f"{tmp_path / 'test.parquet'}: numbers the classes in another order" in line


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("ant", "bee", "cow", "dog"), r"test\.parquet: has the class 'dog', which .*train"),
        (("ant", "bee", "Cow"), "has the class 'Cow', which"),
        (("ant", "bee", "cow", "ant"), r"test\.parquet: names the class 'ant' twice"),
    ],
)
def test_other_classes_are_refused(tmp_path, names, match):
    write(tmp_path / "train.parquet", PICTURES[:90])
    test = [blob for blob in PICTURES[90:] if CLASS[blob] in names]
    write(tmp_path / "test.parquet", test, names)
    with pytest.raises(UserError, match=match) as caught:
        load_bank(cifar(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "test.parquet").rename(tmp_path / "train-2.parquet")
    write(tmp_path / "test.parquet", PICTURES[90:])
    wrong_tiles(cifar(tmp_path), "train-2.parquet")


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_file_without_class_names(tmp_path, part):
    for name, blobs in (("train", PICTURES[:90]), ("test", PICTURES[90:])):
        write(tmp_path / f"{name}.parquet", blobs, named=name != part)
    wrong_tiles(cifar(tmp_path), f"{part}.parquet: its metadata name no classes, but those of")


def test_a_file_without_names_has_those_of_cifar10_if_the_others_do():
    """They are in the order of CIFAR-10 there, so no other order is taken for it."""
    for named in itertools.permutations([("train", CLASS_NAMES), ("test", ())]):
        assert agreed_names(named, CLASS_NAMES) == CLASS_NAMES
    for named in itertools.permutations([("train", CLASS_NAMES[::-1]), ("test", ())]):
        with pytest.raises(UserError, match="test: its metadata name no classes"):
            agreed_names(named, CLASS_NAMES)


def test_labels_out_of_range_are_refused_before_they_are_matched(tmp_path):
    write(tmp_path / "train.parquet", PICTURES[:90])
    write(tmp_path / "test.parquet", PICTURES[90:], NAMES[::-1])
    table = pq.read_table(tmp_path / "test.parquet")
    for wrong in (-1, 3):
        labels = pa.array([0] * 7 + [wrong] + [1] * 22)
        pq.write_table(table.set_column(1, "label", labels), tmp_path / "test.parquet")
        says = f"labels must lie in 0..2, but picture 7 of the test files has {wrong}"
        wrong_tiles(cifar(tmp_path), says)


def test_matching_leaves_labels_out_of_range():
    labels = np.array([2, 0, -1, 7, 1])
    assert relabelled(labels, ("a", "b", "c"), ("c", "a", "b")).tolist() == [0, 1, -1, 7, 2]
    assert agreed_names([("x", ()), ("y", ())]) == ()


# ---- shards ------------------------------------------------------------------------------------


def test_pictures_that_are_there_twice_are_said(tmp_path, capsys):
    """As by a shard that was copied over another: 30 copies, one of them of another class."""
    write(tmp_path / "test.parquet", PICTURES[90:])
    write(tmp_path / "train.parquet", PICTURES[:95])
    before = load_bank(cifar(tmp_path)).counts.sum()
    assert said(capsys) == [
        f"gpt2v: tiles.path: {tmp_path}: of 95 training pictures, 5 are left out, as they are in "
        "the test files"
    ]
    table = pq.read_table(tmp_path / "train.parquet").slice(0, 30)
    labels = table["label"].to_pylist()
    labels[0] = (labels[0] + 1) % 3
    table = table.set_column(1, "label", pa.array(labels, pa.int64()))
    pq.write_table(table, tmp_path / "train-2.parquet")
    assert load_bank(cifar(tmp_path)).counts.sum() == before + 30
    (line,) = said(capsys)
    assert line.endswith(
        "of 125 training pictures, 5 are left out, as they are in the test files, 30 are copies of "
        "others, 1 are in a second class"
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_name_that_is_not_utf_8(tmp_path, part):
    """Python opens such files; pyarrow itself takes only names in UTF-8."""
    write(tmp_path / "train-0.parquet", PICTURES[:90])
    write(tmp_path / "test-0.parquet", PICTURES[90:])
    other = os.fsdecode(os.fsencode(tmp_path / part) + b"-\xe9.parquet")
    (tmp_path / f"{part}-0.parquet").rename(other)
    check_classes(load_bank(cifar(tmp_path)))


def test_bytes_may_be_a_column_of_views(tmp_path):
    """As polars writes them."""
    write(tmp_path / "test.parquet", PICTURES[90:], types=(pa.binary_view(), pa.uint8()))
    write(tmp_path / "train.parquet", PICTURES[:90])
    check_classes(load_bank(cifar(tmp_path)))


def test_shards_whose_columns_have_other_types(tmp_path):
    types = itertools.product(
        (pa.binary(), pa.large_binary()), (pa.int64(), pa.uint8(), pa.int16())
    )
    for i, (blobs, own) in enumerate(zip(np.array_split(range(90), 6), types, strict=True)):
        some = [PICTURES[k] for k in blobs]
        write(tmp_path / f"train-{i}-of-6.parquet", some, types=own, with_path=bool(i % 2))
    write(tmp_path / "test-0-of-1.parquet", PICTURES[90:])
    bank = load_bank(cifar(tmp_path))
    check_classes(bank)
    sources = [source for own in bank.splits.values() for source in own.sources]
    assert {f"{tmp_path.name}/train/{i}" for i in range(90)} < set(sources)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: (d / "train-1-of-3.parquet").unlink(), "train-*: number 1 is missing: 2 of 3"),
        (lambda d: (d / "test-0-of-1.parquet").rename(d / "test-0-of-2.parquet"), "1 of 2 files"),
        (lambda d: write(d / "train-0-of-1.parquet", PICTURES[:9]), "train-0-of-1.parquet is one"),
        (lambda d: write(d / "old/train-0-of-1.parquet", PICTURES[:9]), "train files in 2 folders"),
        (lambda d: (d / "test-a.parquet").symlink_to("train-0-of-3.parquet"), "are the same file"),
        (lambda d: (d / "train-2-of-3.parquet").write_bytes(b""), "not a readable parquet file"),
        (lambda d: (d / "train-test.parquet").write_bytes(b""), "says both train and test"),
    ],
)
def test_sets_of_files_that_are_not_whole(tmp_path, change, says):
    for i in range(3):
        write(tmp_path / f"train-{i}-of-3.parquet", PICTURES[30 * i : 30 * i + 30])
    write(tmp_path / "test-0-of-1.parquet", PICTURES[90:])
    check_classes(load_bank(cifar(tmp_path)))
    change(tmp_path)
    wrong_tiles(cifar(tmp_path), says)


# ---- which files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("plain/train/0000.parquet", "plain/test/0000.parquet"),
        ("training.parquet", "eval.parquet"),
        ("my_train_1.parquet", "my_test_1.PARQUET"),
    ],
)
def test_splits_have_the_hub_s_names_and_other_files_are_said(tmp_path, capsys, train, test):
    write(tmp_path / train, PICTURES[:90])
    write(tmp_path / test, PICTURES[90:])
    check_classes(load_bank(cifar(tmp_path)))
    assert said(capsys) == []
    write(tmp_path / "validation.parquet", PICTURES[:9])
    write(tmp_path / ".old" / "train.parquet", PICTURES[:9])
    write(tmp_path / "more.parquet", PICTURES[:9])
    (tmp_path / "README.md").write_text("")
    (tmp_path / "test_batch.bin").write_bytes(b"")
    check_classes(load_bank(cifar(tmp_path)))
    (line,) = said(capsys)
    assert line == (
        f"gpt2v: tiles.path: {tmp_path}: reads {test}, {train}; left out: .old (hidden); README.md "
        "(about the data); more.parquet (no split in its name); validation.parquet (validation "
        "split); test_batch.bin (binary version)"
    )


def test_a_data_set_without_test_files(tmp_path):
    write(tmp_path / "train.parquet", PICTURES[:90])
    write(tmp_path / "validation.parquet", PICTURES[90:])
    says = "no test-*.parquet below this folder; not read: validation.parquet (validation split)"
    wrong_tiles(cifar(tmp_path), says)
    (tmp_path / "train.parquet").rename(tmp_path / "all.parquet")
    says = "all.parquet (no split in its name); validation.parquet (validation split)"
    wrong_tiles(cifar(tmp_path), "expected train-*.parquet", says)


# ---- the binary version ------------------------------------------------------------------------


def write_binary(root, names):
    root.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        pixels = np.random.default_rng(i).integers(0, 256, (200, 3072), np.uint8)
        labels = (np.arange(200, dtype=np.uint8) % 10)[:, None]
        (root / name).write_bytes(np.concatenate([labels, pixels], 1).tobytes())
    (root / "batches.meta.txt").write_text(names)


@pytest.mark.parametrize(
    "lines",
    [
        "\n".join(CLASS_NAMES),
        "\r\n".join([*CLASS_NAMES, "", ""]),
        "\ufeff" + "\n".join(CLASS_NAMES),
    ],
)
def test_names_of_the_binary_version(tmp_path, capsys, lines):
    write_binary(tmp_path / "b", lines)
    (tmp_path / "b" / "readme.html").write_text("")
    bank = load_bank(cifar(tmp_path / "b"))
    assert bank.class_names == CLASS_NAMES
    assert [line.partition("left out: ")[2] for line in said(capsys)] == [
        "readme.html (about the data)"
    ]


def test_names_of_the_binary_version_in_another_order_are_said(tmp_path, capsys):
    write_binary(tmp_path / "b", "\n".join(sorted(CLASS_NAMES, reverse=True)))
    assert load_bank(cifar(tmp_path / "b")).class_names == tuple(sorted(CLASS_NAMES, reverse=True))
    (line,) = said(capsys)
    assert "names the classes in another order than uoft-cs/cifar10; label 0 is 'truck'" in line


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["", *CLASS_NAMES], "batches.meta.txt: line 1 is empty"),
        ([*CLASS_NAMES[:4], " ", *CLASS_NAMES[4:]], "batches.meta.txt: line 5 is empty"),
        ([*CLASS_NAMES[:9], CLASS_NAMES[0]], f"names the class '{CLASS_NAMES[0]}' twice"),
        (CLASS_NAMES[:9], "labels must lie in 0..8, but picture 9 of the test files has 9"),
    ],
)
def test_names_of_the_binary_version_that_do_not_fit(tmp_path, lines, says):
    write_binary(tmp_path / "b", "\n".join(lines))
    wrong_tiles(cifar(tmp_path), says)
