"""Tile banks: disjoint splits, pictures as they are on disk, and one clear line for what is not."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import helpers
from gpt2v.config import TilesConfig
from gpt2v.data.tiles import SPLITS, load_bank
from gpt2v.errors import UserError


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_cifar10(root, n=100, n_test=5, names=("ant", "bee"), seed=0, shared=0):
    """Parquet files in the `uoft-cs/cifar10` schema; the first `shared` pictures are in both."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    features = {"img": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    pictures = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(len(names) * n)]
    written = {}
    for part, count in (("train", n), ("test", n_test)):
        chosen = list(pictures[: len(names) * count])
        if part == "test":
            fresh = [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in chosen]
            chosen = chosen[:shared] + fresh[shared:]
        images = [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(chosen)]
        labels = [i % len(names) for i in range(len(chosen))]
        table = pa.table({"img": images, "label": labels}).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        pq.write_table(table, root / f"{part}-00000-of-00001.parquet")
        written[part] = (chosen, labels)
    return written


def check_disjoint(bank):
    """No source and no pixels of one split occur in another."""
    for kind in (np.array(bank.source), np.array([p.tobytes() for p in bank.pixels])):
        sets = [set(kind[bank.split == s].tolist()) for s in range(len(SPLITS))]
        assert all(sets)
        assert sum(map(len, sets)) == len(set.union(*sets))


def test_sprite_splits_are_disjoint_and_of_the_asked_size(bank):
    check_disjoint(bank)
    counts = [len(bank.members(split, label)) for split in SPLITS for label in range(10)]
    assert counts == [20] * 10 + [2] * 20


def test_what_one_bank_holds_out_no_other_bank_trains_on(bank):
    """Whatever the number of sprites: a model of one bank may be measured on another's."""
    more = load_bank(TilesConfig(per_class=40, size=16))
    for one, other in ((bank, more), (more, bank)):
        trained = {p.tobytes() for p in one.pixels[one.split == 0]}
        held_out = [p.tobytes() for p in other.pixels[other.split > 0]]
        assert not trained.intersection(held_out)


def test_members_have_the_split_and_the_label(bank):
    for split in SPLITS:
        members = bank.members(split, 3)
        assert set(bank.labels[members]) == {3}
        assert set(bank.split[members]) == {SPLITS.index(split)}


def test_pick_reaches_every_member_and_no_other(bank):
    words = np.arange(400, dtype=np.uint64) * np.uint64(2**64 // 400)
    picked = bank.pick("val", np.full(400, 6), words)
    assert sorted(set(picked.tolist())) == sorted(bank.members("val", 6).tolist())


def test_the_seed_of_the_tiles_draws_other_sprites_and_the_hash_says_so(bank):
    other = load_bank(TilesConfig(per_class=20, size=16, seed=1))
    assert not {p.tobytes() for p in bank.pixels} & {p.tobytes() for p in other.pixels}
    assert other.content_hash != bank.content_hash
    again = load_bank(TilesConfig(per_class=20, size=16))
    assert again.content_hash == bank.content_hash


def test_cifar10_reads_pictures_labels_and_names(tmp_path):
    written = write_cifar10(tmp_path / "c")
    bank = load_bank(TilesConfig(source="cifar10", path=str(tmp_path / "c")))
    assert bank.class_names == ("ant", "bee")
    check_disjoint(bank)
    pictures, labels = written["test"]
    test = bank.split == SPLITS.index("test")
    np.testing.assert_array_equal(bank.pixels[test], pictures)
    assert bank.labels[test].tolist() == labels
    assert test.sum() == 10
    assert len(bank.labels) == 210


def test_cifar10_leaves_out_training_pictures_that_are_in_the_test_file(tmp_path):
    write_cifar10(tmp_path / "c", shared=4)
    bank = load_bank(TilesConfig(source="cifar10", path=str(tmp_path / "c")))
    check_disjoint(bank)
    assert len(bank.labels) == 210 - 4


def test_folder_classes_splits_and_pixels(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=12)
    bank = load_bank(TilesConfig(source="folder", path=str(root), size=24))
    assert bank.class_names == ("ant", "bee", "cow")
    check_disjoint(bank)
    assert bank.pixels.shape == (36, 24, 24, 3)
    for i in (0, 20):
        with Image.open(bank.source[i]) as picture:
            expected = picture.resize((24, 24), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(bank.pixels[i], np.asarray(expected))
        assert bank.class_names[bank.labels[i]] in bank.source[i]


def test_copies_of_a_picture_stay_in_one_split(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=12)
    for file in sorted((root / "bee").glob("*.png")):
        (root / "bee" / f"copy-{file.name}").write_bytes(file.read_bytes())
    check_disjoint(load_bank(TilesConfig(source="folder", path=str(root))))


def complaint(config, name):
    """Whether the bank is read, or refused with a line that has this name in it."""
    try:
        return len(load_bank(config).labels) > 0
    except UserError as error:
        return name in str(error)


def wrong(config, *says):
    with pytest.raises(UserError) as caught:
        load_bank(config)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for text in ("tiles.path", *map(str, says)):
        assert text in message


@pytest.mark.parametrize("source", ["folder", "cifar10"])
def test_missing_paths(tmp_path, source):
    wrong(TilesConfig(source=source), "missing")
    wrong(TilesConfig(source=source, path=str(tmp_path / "none")), tmp_path / "none")
    wrong(TilesConfig(source=source, path=str(tmp_path)), tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_a_picture_that_cannot_be_read_is_named(tmp_path, damage):
    root = helpers.picture_folder(tmp_path / "f")
    bad = root / "bee" / "3.png"
    content = bad.read_bytes()
    bad.write_bytes({"empty": b"", "text": b"no picture", "cut": content[:200]}[damage])
    wrong(TilesConfig(source="folder", path=str(root)), bad)


def test_a_damaged_picture_is_read_or_named(tmp_path):
    """Any byte may be wrong: no other exception than the user's one line."""
    root = helpers.picture_folder(tmp_path / "f", n=3)
    Image.new("RGB", (20, 20), "red").save(root / "ant" / "4.jpg")
    rng = np.random.default_rng(0)
    for file in (root / "bee" / "1.png", root / "ant" / "4.jpg"):
        content = file.read_bytes()
        for at in rng.integers(0, min(300, len(content)), 60):
            damaged = bytearray(content)
            damaged[at] ^= int(rng.integers(1, 256))
            file.write_bytes(bytes(damaged))
            assert complaint(TilesConfig(source="folder", path=str(root), size=16), str(file))
        file.write_bytes(content)


def test_a_broken_chunk_is_named(tmp_path):
    root = helpers.picture_folder(tmp_path / "f")
    bad = root / "bee" / "3.png"
    content = bytearray(bad.read_bytes())
    at = content.index(b"IDAT")
    bad.write_bytes(bytes(content[: at + 4] + b"xx" + content[at + 4 :]))
    wrong(TilesConfig(source="folder", path=str(root)), bad)


def test_a_folder_named_like_a_picture_is_passed_over_or_named(tmp_path):
    root = helpers.picture_folder(tmp_path / "f")
    (root / "ant" / "old.png").mkdir()
    assert complaint(TilesConfig(source="folder", path=str(root), size=16), "old.png")


def test_too_few_class_folders_or_pictures(tmp_path):
    one = helpers.picture_folder(tmp_path / "one", names=("ant",))
    wrong(TilesConfig(source="folder", path=str(one)), one, "2 or more")
    few = helpers.picture_folder(tmp_path / "few", n=2)
    wrong(TilesConfig(source="folder", path=str(few)), "ant", "more pictures")


def test_one_picture_in_two_classes_is_refused(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=4)
    for name in ("ant", "bee"):
        for i in range(4):
            (root / name / f"{i}.png").write_bytes((root / "cow" / f"{i}.png").read_bytes())
    wrong(TilesConfig(source="folder", path=str(root)), "two classes")


def test_corrupt_parquet_and_parquet_of_another_schema(tmp_path):
    root = tmp_path / "c"
    config = TilesConfig(source="cifar10", path=str(root))
    write_cifar10(root)
    file = root / "train-00000-of-00001.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    wrong(config, file)
    pq.write_table(pa.table({"image": [1], "y": [2]}), file)
    wrong(config, file, "image", "img")
    pq.write_table(pa.table({"img": [{"bytes": b"x", "path": ""}], "label": [0]}), file)
    wrong(config, "train/0")
    picture = png(np.zeros((32, 32, 3), np.uint8))
    pq.write_table(pa.table({"img": [{"bytes": picture, "path": ""}], "label": [12]}), file)
    wrong(config, "labels", "0..9")


@pytest.mark.parametrize(
    "columns",
    [
        {"img": [b"raw bytes"], "label": [0]},
        {"img": [{"data": b"x"}], "label": [0]},
        {"img": [None], "label": [0]},
        {"img": [{"bytes": png(np.zeros((32, 32, 3), np.uint8))}], "label": ["cat"]},
        {"img": [{"bytes": png(np.zeros((32, 32, 3), np.uint8))}], "label": [None]},
    ],
    ids=["bytes", "other-field", "null-picture", "text-label", "null-label"],
)
def test_parquet_columns_of_another_type_are_refused(tmp_path, columns):
    root = tmp_path / "c"
    write_cifar10(root)
    pq.write_table(pa.table(columns), root / "train-00000-of-00001.parquet")
    wrong(TilesConfig(source="cifar10", path=str(root)))
