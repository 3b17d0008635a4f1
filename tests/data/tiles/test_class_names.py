"""Class names: letters of every script are allowed; what text cannot express is named."""

import io
import json
import os
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import helpers
from gpt2v.config.grids import GridConfig
from gpt2v.config.models import TokenizerConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.grids.instructions import NAMES
from gpt2v.data.render.views import TextView
from gpt2v.data.text_pieces import PieceTable
from gpt2v.data.tiles.load import load_bank
from gpt2v.data.tiles.names import class_names
from gpt2v.data.tokenizer import build_tokenizer, grid_texts
from gpt2v.errors import UserError
from helpers import hashes_of, wrong_tiles

# Of many scripts; some end with a mark, and some have more than one word.
ALLOWED = (
    "café", "naïve", "Ångström", "猫", "犬小屋", "고양이", "кот", "γάτα", "قطة", "חתול", "बिल्ली",
    "मछली", "แมว", "กุ้ง", "பூனை", "polar bear", "T-shirt", "d’Artagnan", "room 101", "3d", "x²",
    "aquarium_fish", "St. Bernard", "C++ code", "R2:D2", "cat (tabby) 2", "نیم\u200cکت", "e\u0301x",
)  # fmt: skip


def config(root):
    return TilesConfig(source="folder", path=str(root), size=16)


def refused(*names):
    with pytest.raises(UserError) as caught:
        class_names(names, "f")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("tiles.path: f: class name")
    return message


@pytest.mark.parametrize("name", ALLOWED)
def test_names_of_every_script_are_allowed(name):
    assert class_names([name, "dog"], "f") == (unicodedata.normalize("NFC", name), "dog")


@pytest.fixture(scope="module")
def worldwide(tmp_path_factory):
    root = helpers.picture_folder(tmp_path_factory.mktemp("f"), names=ALLOWED, n=3)
    return load_bank(config(root))


@pytest.mark.parametrize(
    "form", ["markdown", "csv", "latex", "coordinates", "plain", "patch-tiled"]
)
def test_a_trained_tokenizer_expresses_them_in_every_form(worldwide, form):
    """The tokens of the pieces are those of the whole text, also of names that end with a mark."""
    tokenizer = build_tokenizer(TokenizerConfig(), grid_texts(worldwide))
    table = PieceTable(tokenizer)
    spec = GridConfig(rows=4, cols=4, palette=12, instructions=dict.fromkeys(NAMES, 1.0))
    for seed in range(3):
        helpers.check_tokens(
            table, worldwide, worldwide.class_names, spec, TextView(form, patches=2), seed
        )
    for name in worldwide.class_names:
        assert tokenizer.decode(tokenizer.encode(f"| {name} |").ids) == f"| {name} |"


# ---- one form ----------------------------------------------------------------------------------


def test_decomposed_names_of_folders_are_the_composed_ones(tmp_path):
    """As macOS writes them; also the order of the classes is that of the composed names."""
    plain = ("cab", "café", "cafz")
    decomposed = tuple(unicodedata.normalize("NFD", name) for name in plain)
    banks = []
    for i, names in enumerate((plain, decomposed)):
        root = helpers.picture_folder(tmp_path / str(i), names=names, n=8)
        for number, file in enumerate(("ez", "é", "f")):  # the order of files, too
            file = unicodedata.normalize("NFD" if i else "NFC", file)
            (root / names[0] / f"{number}.png").rename(root / names[0] / f"{file}.png")
        banks.append(load_bank(config(root)))
    assert banks[0].class_names == banks[1].class_names == ("cab", "cafz", "café")
    assert hashes_of(banks[0]) == hashes_of(banks[1])


def test_two_folders_that_become_one_name_are_refused(tmp_path):
    for number, name in enumerate(("caf\u00e9", "cafe\u0301", "dog")):
        for i in range(4):
            pixels = np.random.default_rng(10 * number + i).integers(0, 256, (9, 9, 3), np.uint8)
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    wrong_tiles(config(tmp_path), r"'cafe\u0301' and 'caf\xe9' are both 'café'")


@given(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1))
def test_letters_and_digits_alone_are_always_a_name(name):
    if name not in ("tie", "none", "yes", "no"):
        assert class_names([name], "f") == (unicodedata.normalize("NFC", name),)


@given(st.text(max_size=6))
def test_any_text_is_a_name_or_gives_one_line(name):
    try:
        (used,) = class_names([name], "f")
    except UserError:
        refused(name)
        return
    assert class_names([used], "f") == (used,)
    assert used.encode().decode() == used
    assert not set(used) & set("|,;/&\\'\n\r\t")


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a|b", "contains '|', which separates the cells of a table"),
        ("a&b", "contains '&', which separates the cells of a table"),
        ("a/b", "contains '/', which separates the cells of a table"),
        ("a,b", "contains ',', which separates names in a list"),
        ("a;b", "contains ';', which separates rows in an answer"),
        ("a\\b", "ends the rows of a LaTeX table"),
        ("bird's nest", 'contains "\'", which quotes the names of the palette'),
        ("a\nb", "contains a line break"),
        ("a\u2028b", "contains a line break"),
        ("a\tb", "contains U+0009"),
        ("a\u00a0b", "contains U+00A0 (NO-BREAK SPACE)"),
        ("a\u200bb", "contains U+200B (ZERO WIDTH SPACE)"),
        ("a\u202eb", "contains U+202E"),
        ("a<image>b", "contains <image>"),
        ("a<pad>b", "contains <pad>"),
        ("", "is empty"),
        ("yes", "is also an answer"),
        ("tie", "is also an answer"),
        ("-cat", "must begin and end with a letter or a digit, but it begins with '-'"),
        ("cat ", "but it ends with ' '"),
        ("\u0301cat", "but it begins with"),
        ("cat!", "but it ends with '!'"),
        ("🐱", "but it begins with '🐱'"),
    ],
)
def test_the_reason_names_the_character(name, says):
    assert says in refused("dog", name)


def test_a_folder_whose_name_is_not_in_utf8(tmp_path):
    root = helpers.picture_folder(tmp_path / "f", n=4)
    os.rename(root / "cow", os.path.join(os.fsencode(root), b"caf\xe9"))
    line = wrong_tiles(config(root), r"class name 'caf\udce9' is not in UTF-8")
    assert line.isprintable()


def test_names_that_differ_in_case_are_two_classes_which_is_said(tmp_path, capsys):
    assert class_names(["Cat", "cat", "Straße"], "f") == ("Cat", "cat", "Straße")
    assert capsys.readouterr().err == (
        "tiles.path: f: class names 'Cat' and 'cat' differ only in upper and lower case; they are "
        "two classes\n"
    )
    class_names(["cat", "catfish", "cat fish"], "f")
    assert capsys.readouterr().err == ""


def test_the_rule_is_that_of_every_source(tmp_path):
    """The names in parquet files and in the binary version of CIFAR, too."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file, "PNG")
    features = {"label": {"names": ["cat", "a|b"], "_type": "ClassLabel"}}
    info = {"huggingface": json.dumps({"info": {"features": features}})}
    for part in ("train", "test"):
        images = [{"bytes": file.getvalue(), "path": ""}] * 2
        table = pa.table({"img": images, "label": [0, 1]}).replace_schema_metadata(info)
        pq.write_table(table, tmp_path / f"{part}-0.parquet")
    wrong_tiles(TilesConfig(source="cifar10", path=str(tmp_path)), "'a|b' contains '|'")


# ---- forms without delimiters ------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "patch-tiled"])
def test_names_that_run_into_each_other_need_delimiters(tmp_path, form):
    names = ("bear", "polar", "polar bear")
    bank = load_bank(config(helpers.picture_folder(tmp_path / "f", names=names, n=3)))
    GridDataset(GridConfig(palette=2), bank)
    with pytest.raises(UserError, match=f"form: {form} has no delimiters, so that 'polar bear'"):
        GridDataset(GridConfig(palette=2, form=form), bank)
    names = ("bear", "polar bear")
    bank = load_bank(config(helpers.picture_folder(tmp_path / "g", names=names, n=3)))
    GridDataset(GridConfig(palette=2, form=form), bank)
