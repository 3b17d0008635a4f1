"""CIFAR-10 and CIFAR-100: every format gives the same tiles, and each fault gives one line."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import helpers
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tiles.sprites import CLASS_NAMES
from gpt2v.errors import UserError
from helpers import check_disjoint, hashes_of, wrong_tiles

NAMES = ("ant", "bee")
COLUMN = {"cifar10": "label", "cifar100": "fine_label"}
SOURCES = list(COLUMN)
TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
REAL = helpers.SHARED / "cifar10"


def png(pixels, mode="RGB"):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG" if mode != "CMYK" else "JPEG")
    return file.getvalue()


def pictures(n=200, n_test=10, seed=0, shared=0):
    """Pixels and labels of each part; the first `shared` pictures of the two are the same."""
    rng = np.random.default_rng(seed)
    parts = {}
    for part, count in (("train", n), ("test", n_test)):
        parts[part] = (
            rng.integers(0, 256, (count, 32, 32, 3), np.uint8),
            np.arange(count) % len(NAMES),
        )
    parts["test"][0][:shared] = parts["train"][0][:shared]
    return parts


def write_parquet(root, source="cifar10", names=NAMES, **options):
    """Parquet files in the schema of `uoft-cs/cifar10` or `uoft-cs/cifar100`."""
    root.mkdir(parents=True, exist_ok=True)
    written = pictures(**options)
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"img": {"_type": "Image"}, COLUMN[source]: label}
    if source == "cifar100":
        features["coarse_label"] = {"names": ["animal"], "_type": "ClassLabel"}
    for part, (pixels, labels) in written.items():
        images = [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
        columns = {"img": images, COLUMN[source]: labels}
        if source == "cifar100":
            columns["coarse_label"] = np.zeros_like(labels)
        table = pa.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        pq.write_table(table, root / f"{part}-00000-of-00001.parquet")
    return written


def write_binary(root, source="cifar10", **options):
    """The binary version."""
    root.mkdir(parents=True)
    written = pictures(**options)
    for part, (pixels, labels) in written.items():
        before = [labels] if source == "cifar10" else [np.full_like(labels, 19), labels]
        planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        records = np.concatenate([np.stack(before, 1).astype(np.uint8), planes], axis=1)
        if source == "cifar100":
            (root / f"{part}.bin").write_bytes(records.tobytes())
        elif part == "test":
            (root / "test_batch.bin").write_bytes(records.tobytes())
        else:
            for i, batch in enumerate(np.array_split(records, 5), 1):
                (root / f"data_batch_{i}.bin").write_bytes(batch.tobytes())
    meta = "batches.meta.txt" if source == "cifar10" else "fine_label_names.txt"
    (root / meta).write_text("\n".join([*NAMES, "", ""]))
    return written


def tiles_of(bank):
    """Pixels, class and split of every tile, by part and number, e.g. `train/7`."""
    tiles = {}
    for split in SPLITS:
        own = bank.splits[split]
        assert (np.diff(own.labels) >= 0).all()  # sorted by class
        for source, pixels, label in zip(own.sources, own.pixels, own.labels, strict=True):
            name = "/".join(source.split("/")[-2:])
            assert name not in tiles
            tiles[name] = (pixels, int(label), split)
    return tiles


def cifar(path, source="cifar10", **changes):
    return TilesConfig(source=source, path=None if path is None else str(path), **changes)


@pytest.mark.parametrize("write", [write_parquet, write_binary])
@pytest.mark.parametrize("source", SOURCES)
def test_pictures_labels_names_and_splits(tmp_path, source, write):
    written = write(tmp_path / "data" / "c", source)
    bank = load_bank(cifar(tmp_path, source))
    assert (bank.name, bank.class_names) == (source, NAMES)
    check_disjoint(bank)
    tiles = tiles_of(bank)
    assert len(tiles) == 210
    for part, (pixels, labels) in written.items():
        for i, (tile, label) in enumerate(zip(pixels, labels, strict=True)):
            own, own_label, split = tiles[f"{part}/{i}"]
            np.testing.assert_array_equal(own, tile)
            assert own_label == label
            assert (split == "test") == (part == "test")
    assert 5 < bank.counts[SPLITS.index("val")].sum() < 40  # about a tenth of 200


@pytest.mark.parametrize("write", [write_parquet, write_binary])
def test_the_split_of_a_training_tile_depends_on_its_content_only(tmp_path, write):
    """Its number in the files and the other tiles do not matter."""
    write(tmp_path / "a")
    write(tmp_path / "b", n=150)  # the same pictures, but fewer
    one, two = (load_bank(cifar(tmp_path / name)) for name in "ab")
    split_of_tile = {tile.tobytes(): split for tile, _, split in tiles_of(one).values()}
    trained = [(tile, split) for tile, _, split in tiles_of(two).values() if split != "test"]
    assert len(trained) == 150
    assert {split for _, split in trained} == {"train", "val"}
    assert all(split_of_tile[tile.tobytes()] == split for tile, split in trained)


@pytest.mark.parametrize("write", [write_parquet, write_binary])
@pytest.mark.parametrize("source", SOURCES)
def test_training_pictures_that_are_in_the_test_files_are_left_out(tmp_path, source, write):
    write(tmp_path / "c", source, shared=4)
    bank = load_bank(cifar(tmp_path / "c", source))
    check_disjoint(bank)
    assert len(tiles_of(bank)) == bank.counts.sum() == 210 - 4
    assert not set(tiles_of(bank)) & {f"train/{i}" for i in range(4)}


def test_both_formats_are_resized_alike(tmp_path):
    write_parquet(tmp_path / "p")
    write_binary(tmp_path / "b")
    one, two = (load_bank(cifar(tmp_path / name, size=12)) for name in "pb")
    assert one.size == 12
    one, two = tiles_of(one), tiles_of(two)
    assert one.keys() == two.keys()
    for name, (pixels, label, _) in one.items():  # splits differ: they depend on the files' bytes
        assert pixels.shape == (12, 12, 3)
        np.testing.assert_array_equal(pixels, two[name][0])
        assert label == two[name][1]


def test_parquet_without_names_has_cifar10_s_own(tmp_path):
    write_parquet(tmp_path, names=CLASS_NAMES, n=800)
    for part in (TRAIN, TEST):
        table = pq.read_table(tmp_path / part).replace_schema_metadata(None)
        labels = pa.array(np.arange(len(table)) % 10)
        pq.write_table(table.set_column(1, "label", labels), tmp_path / part)
    assert load_bank(cifar(tmp_path)).class_names == CLASS_NAMES
    write_parquet(tmp_path / "100", "cifar100")
    for part in (TRAIN, TEST):
        table = pq.read_table(tmp_path / "100" / part).replace_schema_metadata(None)
        pq.write_table(table, tmp_path / "100" / part)
    wrong_tiles(cifar(tmp_path / "100", "cifar100"), TRAIN, "name the classes of 'fine_label'")


def test_the_hash_of_the_real_cifar10_has_not_changed():
    if not REAL.is_dir():
        pytest.skip("the parquet of uoft-cs/cifar10 is not beside the repository")
    bank = load_bank(cifar(REAL))
    assert bank.class_names == CLASS_NAMES
    if bank.counts.sum() != 55_000:
        pytest.skip("the hash is of 50,000 training and 5,000 test pictures")
    assert hashes_of(bank) == {
        "train": "c803bf523291da54f374ad5c9287ac3b059d0ab1076d31ddca50b0073d3c025e",
        "val": "8ed2d3d4278618128ad308c33f1731f54aadbd4d3d41ee4611e527af861472fb",
        "test": "fc33b6b36f932f0340c81889ce73aeeca162aa53653a33b3eedbdce8cc60b765",
    }


# ---- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with data sets in tmp_path, read by the real library; returns the list of requests."""
    datasets = pytest.importorskip("datasets")
    load_dataset = datasets.load_dataset
    asked = []

    def from_folder(name, split):
        asked.append((name, split))
        files = {part: str(tmp_path / name / f"{part}-*.parquet") for part in ("train", "test")}
        cache = str(tmp_path / "cache")
        return load_dataset("parquet", data_files=files, split=split, cache_dir=cache)

    monkeypatch.setattr(datasets, "load_dataset", from_folder)
    return asked


@pytest.mark.parametrize("source", SOURCES)
def test_the_hub_is_read_as_a_folder_is(tmp_path, monkeypatch, hub, source):
    names = (f"uoft-cs/{source}", "some/pictures")
    for i, name in enumerate(names):
        write_parquet(tmp_path / name, source, seed=i)
    monkeypatch.chdir("/")  # none of them is a folder there
    for path, name in ((None, names[0]), (names[1], names[1])):
        bank = load_bank(cifar(path, source))
        expected = load_bank(cifar(tmp_path / name, source))
        assert hashes_of(bank) == hashes_of(expected)
        assert bank.class_names == NAMES
        assert bank.splits["test"].sources[0] == f"{name}/test/0"
    assert set(hub) == {(name, part) for name in names for part in ("train", "test")}


def test_data_sets_of_the_hub_with_other_columns_are_refused(tmp_path, hub):
    write_parquet(tmp_path / "some" / "pictures", "cifar100")
    wrong_tiles(cifar("some/pictures"), "some/pictures (test)", "expected 'img' and 'label'")


def test_hubs_out_of_reach_and_mistyped_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_text("")
    line = wrong_tiles(cifar(None), "tiles.path: uoft-cs/cifar10: cannot be read from the hub")
    assert "a folder needs train-*.parquet" in line
    line = wrong_tiles(cifar("nobody/nothing", "cifar100"), "nobody/nothing: no such folder here")
    assert "cannot be read from the hub" in line
    for path in ("none", "data/none", "./none", "a/b/c", str(tmp_path / "none"), "file"):
        line = wrong_tiles(cifar(path), "no such folder; expected one with train-*.parquet")
        assert "the hub:" not in line
        assert "hub id such as uoft-cs/cifar10" in line


# ---- faults ------------------------------------------------------------------------------------


def test_a_folder_with_neither_format_or_half_of_one(tmp_path):
    wrong_tiles(cifar(tmp_path), f"{tmp_path}: expected train-*.parquet and", "data_batch_1.bin")
    write_parquet(tmp_path)
    (tmp_path / TEST).unlink()
    wrong_tiles(cifar(tmp_path), f"{tmp_path}: no test-*.parquet below")


def test_pickles_are_ignored(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    wrong_tiles(cifar(tmp_path), "the Python version is not supported")


def test_corrupt_parquet_and_parquet_of_another_schema(tmp_path):
    write_parquet(tmp_path)
    file = tmp_path / TRAIN
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    wrong_tiles(cifar(tmp_path), file, "not a readable parquet file")
    pq.write_table(pa.table({"image": [1], "y": [2]}), file)
    wrong_tiles(cifar(tmp_path), file, "['image', 'y'], expected 'img' and 'label'")
    picture = png(np.zeros((32, 32, 3), np.uint8))
    for label in (-1, 10, 2**40):
        pq.write_table(pa.table({"img": [{"bytes": picture, "path": ""}], "label": [label]}), file)
        wrong_tiles(
            cifar(tmp_path), f"must lie in 0..9, but picture 0 of the train files has {label}"
        )
    pq.write_table(pq.read_table(file).slice(0, 0), file)
    wrong_tiles(cifar(tmp_path), "the train files hold no pictures")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"img": [b"raw bytes"], "label": [0]}, "expected a struct with bytes"),
        ({"img": [{"data": b"x"}], "label": [0]}, "expected a struct with bytes"),
        ({"img": [None], "label": [0]}, "expected a struct with bytes"),
        ({"img": [None, {"bytes": b"x"}], "label": [0, 0]}, "column 'img' has rows without"),
        ({"img": [{"bytes": b"x"}, {"bytes": None}], "label": [0, 0]}, "'img' has rows without"),
        ({"img": [{"bytes": b"x"}], "label": ["cat"]}, "'label' is string, expected integers"),
        ({"img": [{"bytes": b"x"}] * 2, "label": [None, 1]}, "'label' has rows without a value"),
    ],
)
def test_parquet_columns_of_another_type_are_refused(tmp_path, columns, says):
    write_parquet(tmp_path)
    pq.write_table(pa.table(columns), tmp_path / TRAIN)
    wrong_tiles(cifar(tmp_path), tmp_path / TRAIN, says)


def test_pictures_that_cannot_be_read_are_counted_over_a_split_or_left_out(tmp_path, capsys):
    """They are found when the pixels of their split are first needed; with `skip`, at load."""
    write_parquet(tmp_path)
    for part, bad in ((TEST, {4: b"x"}), (TRAIN, {0: b"", 7: "RGBA", 8: "CMYK"})):
        table = pq.read_table(tmp_path / part)
        images = table["img"].to_pylist()
        for i, blob in bad.items():
            pixels = np.asarray(Image.open(io.BytesIO(images[i]["bytes"])))
            images[i]["bytes"] = blob if isinstance(blob, bytes) else png(pixels, blob)
        pq.write_table(table.set_column(0, "img", pa.array(images)), tmp_path / part)
    names = [f"{tmp_path.name}/{name}" for name in ("test/4", "train/0", "train/7", "train/8")]
    whole = load_bank(cifar(tmp_path))
    assert whole.counts.sum() == 210
    counted = []
    for split in SPLITS:
        bad = [name for name in names if name in whole.splits[split].sources]
        if not bad:
            assert len(whole.splits[split].pixels) == whole.counts[SPLITS.index(split)].sum()
            continue
        for _ in range(2):  # it is refused every time
            with pytest.raises(UserError) as caught:
                _ = whole.splits[split].pixels
        message = str(caught.value)
        assert "\n" not in message
        several = "s" if bad[1:] else ""
        assert f"tiles.path: {tmp_path}: {len(bad)} picture{several} cannot be read" in message
        assert all(name in message for name in bad)
        if f"{tmp_path.name}/train/7" in bad:
            assert "mode RGBA; convert it to RGB" in message
        counted += bad
    assert len(counted) == 4
    bank = load_bank(cifar(tmp_path, corrupt="skip"))
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"tiles.path: {tmp_path}: left out 4 pictures of 210 that cannot be read"
    ]
    assert said.out == ""
    assert len(tiles_of(bank)) == bank.counts.sum() == 206
    assert not set(names) & {source for own in bank.splits.values() for source in own.sources}


@pytest.mark.parametrize("source", SOURCES)
def test_binary_files_that_are_not_whole(tmp_path, source):
    write_binary(tmp_path / "c", source)
    config = cifar(tmp_path, source)
    record = 3073 if source == "cifar10" else 3074
    for file in sorted((tmp_path / "c").iterdir()):
        content = file.read_bytes()
        file.unlink()
        if source == "cifar100" and file.suffix == ".bin":
            wrong_tiles(config, f"{tmp_path / 'c'}: {file.name} is missing")
        file.write_bytes(content[:-1])
        if file.suffix == ".bin":
            wrong_tiles(config, f"{file}: {len(content) - 1} bytes is not a multiple of {record}")
        file.write_bytes(content)
    assert load_bank(config).counts.sum() == 210


def test_binary_files_that_are_missing_twice_there_or_wrong(tmp_path):
    write_binary(tmp_path / "c")
    (tmp_path / "c" / "data_batch_3.bin").rename(tmp_path / "3")
    wrong_tiles(cifar(tmp_path), f"{tmp_path / 'c'}: data_batch_3.bin is missing")
    (tmp_path / "3").rename(tmp_path / "c" / "data_batch_3.bin")
    names = tmp_path / "c" / "batches.meta.txt"
    names.write_text("ant\n")
    wrong_tiles(cifar(tmp_path), "must lie in 0..0, but picture 1 of the test files has 1")
    names.write_text("ant\nbee\ncow\n")
    wrong_tiles(cifar(tmp_path), "class 'cow' has no picture left for the train split")
    names.write_bytes(b"\xff\xfe")
    wrong_tiles(cifar(tmp_path), f"{names}: not a text file")
    names.unlink()
    wrong_tiles(cifar(tmp_path), "batches.meta.txt is missing")
    write_binary(tmp_path / "d")
    wrong_tiles(cifar(tmp_path), "in 2 folders; name one", tmp_path / "c")
    assert load_bank(cifar(tmp_path / "d")).counts.sum() == 210
