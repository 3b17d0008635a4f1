"""Folders of class folders: what is a class, what is a picture, and what is said about the rest."""

import io
import os

import numpy as np
import pytest
from PIL import Image

import helpers
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.tiles.class_folders import _PICTURES
from gpt2v.data.tiles.decoding import _FORMATS
from gpt2v.data.tiles.load import load_bank
from helpers import check_disjoint, hashes_of, wrong_tiles

# The first digits of the hashes of `helpers.picture_folder(root, n=6)`.
HASHES = {"train": "e45f7effbbc97ed6", "val": "f120cddde8def421", "test": "d7b5ab2c5aef34ab"}


def config(root, **changes):
    return TilesConfig(source="folder", path=str(root), **{"size": 16, **changes})


@pytest.fixture
def root(tmp_path):
    return helpers.picture_folder(tmp_path / "f", n=4)


def n_tiles(root):
    return int(load_bank(config(root)).counts.sum())


def said(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def picture(seed=99, kind="PNG", **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


# ---- suffixes ----------------------------------------------------------------------------------


def test_every_suffix_of_a_format_that_is_read_is_that_of_a_picture():
    Image.init()
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in _FORMATS}
    assert known <= _PICTURES
    assert {".heic", ".avif", ".ico", ".svg", ".jp2"} <= _PICTURES


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".gif", "GIF"), (".tiff", "TIFF"), (".TIF", "TIFF"), (".jfif", "JPEG"), (".jpe", "JPEG"),
        (".JPG", "JPEG"), (".PNG", "PNG"), (".Webp", "WEBP"), (".bmp", "BMP"), (".ppm", "PPM"),
    ],
)  # fmt: skip
def test_pictures_of_every_suffix_are_read(root, capsys, suffix, kind):
    (root / "ant" / f"a{suffix}").write_bytes(picture(kind=kind))
    assert n_tiles(root) == 13
    assert said(capsys) == []


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".ico", ".SVG", ".psd"])
def test_pictures_in_other_formats_are_refused_or_skipped_aloud(root, capsys, suffix):
    (root / "ant" / f"a{suffix}").write_bytes(b"not read")
    wrong_tiles(config(root), f"a{suffix}", "no picture in a format that is read")
    assert load_bank(config(root, corrupt="skip")).counts.sum() == 12
    assert said(capsys) == [f"tiles.path: {root}: left out 1 picture of 13 that cannot be read"]


def test_other_files_are_counted_in_one_line(root, capsys):
    before = hashes_of(load_bank(config(root)))
    for name in ("ant/a.txt", "ant/b.TXT", "bee/c.json", "cow/d", "cow/.e.png", "f.csv", "g.png"):
        (root / name).write_bytes(picture())
    for name in (".DS_Store", "ant/Thumbs.db", "ant/._0.png", "bee/desktop.ini"):
        (root / name).write_bytes(b"system")
    assert hashes_of(load_bank(config(root))) == before
    assert said(capsys) == [
        f"tiles.path: {root}: left out, as no pictures of a class: .csv files (1), "
        ".json files (1), .txt files (2), files without a suffix (1), hidden files (1), "
        "pictures beside the class folders (1)"
    ]


# ---- folders -----------------------------------------------------------------------------------


def test_hidden_folders_and_those_of_systems_are_no_classes(root, capsys):
    before = hashes_of(load_bank(config(root)))
    for name in (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", "ant/.ipynb_checkpoints"):
        (root / name).mkdir()
        (root / name / "0.png").write_bytes(picture())
    assert hashes_of(load_bank(config(root))) == before
    assert said(capsys) == []
    (root / ".backup").mkdir()
    bank = load_bank(config(root))
    assert bank.class_names == ("ant", "bee", "cow")
    assert said(capsys)[0].endswith("hidden folders (1)")


def test_what_is_left_out_is_one_line_whatever_its_names(root, capsys):
    (root / "ant" / "a.x\ny").write_text("")
    for number in range(500):
        (root / "ant" / f"a.{number}").write_text("")
    assert n_tiles(root) == 12
    (line,) = said(capsys)
    assert len(line) <= 600


def test_pictures_deeper_in_a_class_are_refused_and_other_folders_are_counted(root, capsys):
    (root / "ant" / "notes" / "more").mkdir(parents=True)
    (root / "ant" / "notes" / "more" / "a.txt").write_text("")
    assert n_tiles(root) == 12
    assert said(capsys)[0].endswith(": folders (1)")
    deep = root / "ant" / "notes" / "more" / "a.JPG"
    deep.write_bytes(picture())
    wrong_tiles(config(root), f"{deep}: too deep; expected {root / 'ant' / 'picture.png'}")


def test_a_class_folder_without_pictures_is_named(root):
    (root / "dog").mkdir()
    wrong_tiles(config(root), f"{root / 'dog'}: this class folder has no picture")
    (root / "dog" / "a.txt").write_text("")
    wrong_tiles(config(root), f"{root / 'dog'}: this class folder has no picture")


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "TEST"), ("valid", "train")])
def test_folders_for_splits_are_refused(tmp_path, names):
    for name in names:
        helpers.picture_folder(tmp_path / "f" / name)
    line = wrong_tiles(config(tmp_path / "f"), "is named like a split, not like a class")
    assert "CLASS/picture.png" in line


@pytest.mark.parametrize(
    "names", [("train_images", "test_images"), ("seg-TRAIN", "seg-test"), ("trainset", "valset")]
)
def test_folders_that_differ_only_in_words_for_splits_are_refused(root, tmp_path, names):
    (tmp_path / "g").mkdir()
    for name, old in zip(names, ("ant", "bee"), strict=True):
        (root / old).rename(tmp_path / "g" / name)
    line = wrong_tiles(config(tmp_path / "g"), "are named like splits, not like classes")
    assert all(name in line for name in names)


def test_classes_may_have_words_for_splits_in_their_names(root, capsys):
    for old, name in {"ant": "test tube", "bee": "train station", "cow": "dev board"}.items():
        (root / old).rename(root / name)
    assert load_bank(config(root)).class_names == ("dev board", "test tube", "train station")
    assert said(capsys) == []


@pytest.mark.parametrize(
    "name", ["System Volume Information", "#recycle", "@Recycle", "__pycache__", "FOUND.000"]
)
def test_folders_of_other_systems_are_no_classes(root, name, capsys):
    (root / name).mkdir()
    (root / name / "0.png").write_bytes(picture())
    (root / "ant" / "Icon\r").write_bytes(b"")
    assert load_bank(config(root)).class_names == ("ant", "bee", "cow")
    assert said(capsys) == []


@pytest.mark.parametrize("name", ["test", "val", "validation", "valid", "dev", "Evaluation"])
def test_a_folder_for_a_split_beside_class_folders_is_refused(root, name):
    (root / name).mkdir()
    (root / name / "0.png").write_bytes(picture())
    wrong_tiles(config(root), f"{root / name}: is named like a split")


def test_a_class_named_train_is_a_class_which_is_said(root, capsys):
    (root / "cow").rename(root / "train")
    assert load_bank(config(root)).class_names == ("ant", "bee", "train")
    assert said(capsys) == [
        f"tiles.path: {root / 'train'}: is read as a class named 'train', not as a split"
    ]


def test_links_are_followed_and_broken_ones_are_refused(root, tmp_path, capsys):
    (root / "cow").rename(tmp_path / "elsewhere")
    (root / "cow").symlink_to(tmp_path / "elsewhere")
    (root / "ant" / "again.png").symlink_to(root / "ant" / "0.png")
    assert n_tiles(root) == 13
    assert said(capsys) == []
    (root / "ant" / "broken.png").symlink_to(root / "none.png")
    wrong_tiles(config(root), root / "ant" / "broken.png", "No such file")
    (root / "ant" / "broken.png").unlink()
    (root / "dog").symlink_to(root / "cow")
    wrong_tiles(config(root), "are the same picture in two classes")


def test_a_pipe_is_not_waited_for(root):
    os.mkfifo(root / "ant" / "a.png")
    wrong_tiles(config(root), root / "ant" / "a.png", "no regular file")


# ---- the same picture twice --------------------------------------------------------------------


@pytest.mark.parametrize("decode", ["once", "on-the-fly"])
def test_the_same_picture_in_other_files_stays_in_one_split(root, decode):
    """Stored upright and lying, and in another format: other bytes, but the same picture."""
    exif = Image.Exif()
    exif[0x112] = 6
    for file in sorted((root / "bee").glob("*.png")):
        upright = Image.open(file)
        lying = upright.transpose(Image.Transpose.ROTATE_90)
        lying.save(root / "bee" / f"lying-{file.name}", exif=exif)
        upright.save(root / "bee" / f"{file.stem}.bmp")
    bank = load_bank(config(root, decode=decode))
    assert bank.counts.sum() == 12 + 8
    check_disjoint(bank)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_the_same_picture_in_two_classes_is_refused_in_any_split(root, suffix):
    """For each picture of a class: whatever split it is in, and whatever its file's bytes."""
    for file in sorted((root / "ant").glob("*.png")):
        copy = root / "bee" / f"copy{suffix}"
        if suffix == ".png":
            copy.write_bytes(file.read_bytes())
        else:
            Image.open(file).save(copy)
        line = wrong_tiles(config(root), "are the same picture in two classes; keep one")
        assert str(file) in line
        assert str(copy) in line
        copy.unlink()


def test_folders_of_pictures_have_the_hashes_they_had(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=6)
    pixels = helpers.by_pixels(load_bank(config(root)))  # other versions of zlib: other files
    assert {split: h[:16] for split, h in hashes_of(pixels).items()} == HASHES
