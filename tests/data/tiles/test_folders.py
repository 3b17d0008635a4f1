"""Folders of image files: what is accepted, both ways of decoding, and all faults."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import helpers
from gpt2v.config.pictures import TileAugmentConfig, TilesConfig
from gpt2v.data.tiles import image_files
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from helpers import check_disjoint, hashes_of, refusal, wrong_tiles


def config(root, **changes):
    return TilesConfig(source="folder", path=str(root), **{"size": 16, **changes})


def noise(mode, seed=0, size=(20, 24)):
    """A random image in any of Pillow's modes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_classes_splits_and_pixels(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=12)
    bank = load_bank(config(root, size=24))
    assert bank.class_names == ("ant", "bee", "cow")
    check_disjoint(bank)
    assert bank.counts.sum() == 36
    for own in bank.splits.values():
        assert own.pixels.shape == (len(own.sources), 24, 24, 3)
        for source, pixels, label in zip(own.sources, own.pixels, own.labels, strict=True):
            with Image.open(source) as picture:
                expected = picture.resize((24, 24), Image.Resampling.BICUBIC)
                np.testing.assert_array_equal(pixels, np.asarray(expected))
            assert bank.class_names[label] == Path(source).parent.name


@pytest.mark.parametrize("decode", ["once", "on-the-fly"])
def test_copies_of_a_picture_stay_in_one_split(tmp_path, decode):
    root = helpers.picture_folder(tmp_path / "f", n=12)
    for file in sorted((root / "bee").glob("*.png")):
        (root / "bee" / f"copy-{file.name}").write_bytes(file.read_bytes())
    check_disjoint(load_bank(config(root, decode=decode)))


# ---- decoding on the fly -----------------------------------------------------------------------


def test_on_the_fly_is_the_same_bank(tmp_path, monkeypatch):
    root = helpers.picture_folder(tmp_path / "f", n=5)
    once, lazy = (load_bank(config(root, decode=d)) for d in ("once", "on-the-fly"))
    for split in SPLITS:
        assert isinstance(once.splits[split].pixels, np.ndarray)
        assert isinstance(lazy.splits[split].pixels, image_files.PictureFiles)
        assert lazy.splits[split].sources == once.splits[split].sources
        np.testing.assert_array_equal(lazy.splits[split].labels, once.splits[split].labels)
    monkeypatch.setattr("gpt2v.data.tiles.bank._CHUNK", 4)
    assert hashes_of(lazy) == hashes_of(once)
    assert (lazy.size, lazy.class_names) == (16, once.class_names)
    np.testing.assert_array_equal(lazy.counts, once.counts)
    tiles = helpers.all_tiles(once)
    assert len(tiles) == 15
    pixels = np.concatenate([once.splits[split].pixels for split in SPLITS])
    for index in (np.array(3), np.array([], np.int64), np.array([[[4, 0]], [[4, -1]]])):
        np.testing.assert_array_equal(lazy.take(tiles[index]), pixels[index])
    augment = TileAugmentConfig(blur=1.0, noise=9.0)
    varied = [load_bank(config(root, decode=d, augment=augment)) for d in ("once", "on-the-fly")]
    assert hashes_of(varied[0]) == hashes_of(varied[1])
    assert varied[0].content_hash("train") != once.content_hash("train")
    keys = np.arange(15, dtype=np.uint64)
    one, two = (bank.take(tiles, keys) for bank in varied)
    np.testing.assert_array_equal(one, two)


def test_on_the_fly_decodes_only_the_requested_tiles_at_each_request(tmp_path, monkeypatch):
    root = helpers.picture_folder(tmp_path / "f")
    bank = load_bank(config(root, decode="on-the-fly"))
    decoded = []
    decode = image_files.decode
    monkeypatch.setattr(
        image_files, "decode", lambda blob, size: decoded.append(blob) or decode(blob, size)
    )
    tiles, sources = bank.tiles("train"), bank.splits["train"].sources
    for _ in range(2):  # nothing is cached
        bank.take(tiles[[5, 2, 5]])
    files = [Path(sources[i]).read_bytes() for i in (2, 5)]
    assert decoded == files * 2


def test_on_the_fly_notices_files_that_change(tmp_path):
    root = helpers.picture_folder(tmp_path / "f")
    bank = load_bank(config(root, decode="on-the-fly"))
    tiles, file = bank.tiles("train"), bank.splits["train"].sources[2]
    noise("RGB").save(file)
    with pytest.raises(UserError, match=f"tiles.path: {file}: was changed"):
        bank.take(tiles[:4])
    Path(file).unlink()
    with pytest.raises(UserError, match=f"tiles.path: {file}: cannot be read any more"):
        bank.take(tiles[:4])
    assert bank.take(tiles[:2]).shape == (2, 16, 16, 3)


# ---- pictures that are no tiles ----------------------------------------------------------------


@pytest.mark.parametrize("decode", ["once", "on-the-fly"])
def test_all_pictures_that_cannot_be_read_are_counted(tmp_path, decode):
    root = helpers.picture_folder(tmp_path / "f", n=8)
    bad = [root / "ant" / "0.png", *(root / "cow" / f"{i}.png" for i in (2, 3, 7))]
    for file in bad:
        file.write_bytes(file.read_bytes()[:200])
    line = wrong_tiles(config(root, decode=decode), f"{root}: 4 pictures cannot be read", bad[0])
    assert "tiles.corrupt: skip" in line
    assert str(bad[2]) in line
    assert str(bad[3]) not in line  # the first three are named


@pytest.mark.parametrize("decode", ["once", "on-the-fly"])
def test_skipping_leaves_out_exactly_them(tmp_path, capsys, decode):
    """The bank equals that of a folder without these files; one line on stderr says how many."""
    root, clean = (helpers.picture_folder(tmp_path / name, n=8) for name in ("f", "clean"))
    (root / "ant" / "0a.png").write_bytes(b"no picture")
    noise("CMYK").save(root / "bee" / "zz.jpg")
    bank = load_bank(config(root, decode=decode, corrupt="skip"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"tiles.path: {root}: left out 2 pictures of 26 that cannot be read"
    ]
    expected = load_bank(config(clean))
    assert hashes_of(bank) == hashes_of(expected)
    assert sum(len(own.sources) for own in bank.splits.values()) == bank.counts.sum() == 24
    load_bank(config(clean, corrupt="skip"))
    assert capsys.readouterr().err == ""


def test_a_class_without_readable_pictures_is_named(tmp_path, capsys):
    root = helpers.picture_folder(tmp_path / "f", n=4)
    for file in (root / "bee").iterdir():
        file.write_bytes(b"")
    wrong_tiles(config(root, corrupt="skip"), "class 'bee' has 0 different pictures that can")
    assert "left out 4 pictures of 12" in capsys.readouterr().err


def test_the_command_ends_with_status_2_and_one_line(tmp_path, capsys):
    root = helpers.picture_folder(tmp_path / "f")
    (root / "cow" / "1.png").write_bytes(b"")
    suite = helpers.write_yaml(
        tmp_path / "s.yaml", {"grid": {}, "tiles": config(root).model_dump()}
    )
    line = refusal(capsys, "data", "preview", suite, "--png", tmp_path / "p.png")
    assert f"{root}: 1 picture cannot be read" in line


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "chunk"])
def test_a_damaged_picture_is_named(tmp_path, damage):
    root = helpers.picture_folder(tmp_path / "f")
    bad = root / "bee" / "3.png"
    content = bad.read_bytes()
    at = content.index(b"IDAT") + 4
    broken = {"empty": b"", "text": b"no picture", "cut": content[:200]}
    bad.write_bytes(broken.get(damage, content[:at] + b"xx" + content[at:]))
    wrong_tiles(config(root), bad, "1 picture cannot be read")


def test_any_byte_may_be_wrong(tmp_path):
    """A wrong byte in any image format raises no exception except Unreadable."""
    rng = np.random.default_rng(0)
    for file_type in ("PNG", "JPEG", "BMP", "WEBP"):
        file = io.BytesIO()
        noise("RGB").save(file, file_type)
        for at in rng.integers(0, min(300, len(file.getvalue())), 60):
            damaged = bytearray(file.getvalue())
            damaged[at] ^= int(rng.integers(1, 256))
            try:
                tile = image_files.decode(bytes(damaged), 16)
            except image_files.Unreadable:
                continue
            assert tile.shape == (16, 16, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_modes_that_convert_exactly_are_accepted(tmp_path, mode):
    root = helpers.picture_folder(tmp_path / "f")
    picture = noise(mode, size=(16, 16))
    picture.save(root / "ant" / "a.png")
    bank = load_bank(config(root))
    (tile,) = [
        pixels
        for own in bank.splits.values()
        for source, pixels in zip(own.sources, own.pixels, strict=True)
        if source.endswith("a.png")
    ]
    np.testing.assert_array_equal(tile, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "name", "options"),
    [
        ("RGBA", "a.png", {}),
        ("LA", "a.png", {}),
        ("CMYK", "a.jpg", {}),
        ("I;16", "a.png", {}),
        ("P", "a.png", {"transparency": 3}),
        ("RGB", "a.png", {"transparency": (1, 2, 3)}),
    ],
)
def test_other_modes_are_refused_with_advice(tmp_path, mode, name, options):
    root = helpers.picture_folder(tmp_path / "f")
    picture = noise("I").convert("I;16") if mode == "I;16" else noise(mode)
    picture.save(root / "ant" / name, **options)
    seen = f"mode {mode}{' with transparency' if options else ''}; convert it to RGB"
    wrong_tiles(config(root), root / "ant" / name, seen)
    assert load_bank(config(root, corrupt="skip")).counts.sum() == 18


# ---- the folder itself -------------------------------------------------------------------------


def test_missing_paths(tmp_path):
    wrong_tiles(TilesConfig(source="folder"), "tiles.path: missing")
    wrong_tiles(config(tmp_path / "none"), f"tiles.path: {tmp_path / 'none'}: no such folder")
    wrong_tiles(config(tmp_path), tmp_path, "found 0 class folders")


def test_a_folder_named_like_an_image_file_is_ignored(tmp_path):
    root = helpers.picture_folder(tmp_path / "f")
    (root / "ant" / "old.png").mkdir()
    assert load_bank(config(root)).counts.sum() == 18


def test_too_few_class_folders_or_pictures(tmp_path):
    one = helpers.picture_folder(tmp_path / "one", names=("ant",))
    wrong_tiles(config(one), one, "2 or more")
    few = helpers.picture_folder(tmp_path / "few", n=2)
    wrong_tiles(config(few), few, "'ant' has 2 pictures, but 3 splits (train, val, test) need")


def test_a_class_name_that_tokenizers_would_join_is_refused(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", names=("ant", "bee."))
    wrong_tiles(config(root), "'bee.' must begin and end with a letter or a digit")


def test_one_picture_in_two_classes_is_refused(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=4)
    for name in ("ant", "bee"):
        for i in range(4):
            (root / name / f"{i}.png").write_bytes((root / "cow" / f"{i}.png").read_bytes())
    wrong_tiles(config(root), "two classes")
