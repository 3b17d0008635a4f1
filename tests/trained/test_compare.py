"""What is measured, compared with what the model was trained on."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import helpers
from gpt2v.cli.main import main
from gpt2v.config.grids import GridConfig, HeldOutGridConfig, LadderGridConfig, ProbeGridConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.dataset import GridDataset
from gpt2v.data.tiles.bank import SPLITS
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.trained.compare import Measured, compare, overlap
from gpt2v.trained.parts import say_differences
from gpt2v.trained.record import FILE, TrainedOn, read_record, record_of

GRIDS = [
    GridConfig(rows=[1, 3], cols=3, modality="image"),
    GridConfig(rows=3, cols=3, palette=[2, 4]),
]


def folder(root, **changes):
    values = {"source": "folder", "path": str(root), "size": 16, **changes}
    return load_bank(TilesConfig.model_validate(values))


def differences(record, bank, spec, modalities=("text", "image"), allow=()):
    data = GridDataset(spec, bank, 1, "test", 5)
    return compare("m", record, Measured(bank, [(data, modalities)]), allow)


@pytest.fixture
def record(bank):
    return record_of(bank, GRIDS, shows_pictures=True)


def test_what_was_trained_is_no_difference(bank, record):
    found = differences(record, bank, HeldOutGridConfig())
    assert found.results["not_as_trained"] == []
    assert found.lines == ()


@pytest.mark.parametrize(
    ("grid", "modalities", "said"),
    [
        ({"rows": 4}, ["text"], ["text: size 4x3"]),
        ({"rows": 2}, ["text", "image"], ["text: size 2x3"]),
        ({"palette": 5}, ["text"], ["text: palette 5"]),
        ({"palette": 3}, ["image"], ["image: palette 3"]),
        ({"form": "csv"}, ["text", "image"], ["text: form csv"]),
        ({"picture": {"layout": "multi"}}, ["text", "image"], ["image: picture layout multi"]),
        ({"picture": {"gap": 3}}, ["image"], ["image: picture gap 3"]),
        ({"instructions": {"count": 1.0}}, ["text"], ["text: question count"]),
        (
            {"instructions": {"count": 1.0, "row": 1.0, "lookup": 1.0}},
            ["text"],
            ["text: question count, row"],
        ),
        ({"rows": [2, 5], "cols": 3}, ["text"], ["text: size 2x3, 4x3, 5x3"]),
        ({"rows": [4, 5], "cols": [2, 3]}, ["text"], ["text: size 4x2, 4x3, 5x2 and 1 more"]),
        ({}, ["text+image"], ["text+image: no grid was shown so"]),
        ({"augment": {"index_bases": [1]}}, ["text"], ["text: wording index base 1"]),
        ({"augment": {"delimiters": [";"]}}, ["text", "image"], ["text: delimiter ;"]),
        ({"augment": {"paraphrase": True}}, ["text"], ["text: wording paraphrase True"]),
    ],
)
def test_what_was_never_trained_is_named(bank, record, grid, modalities, said):
    found = differences(record, bank, HeldOutGridConfig.model_validate(grid), modalities)
    assert found.results["not_as_trained"] == said
    assert found.lines == (f"m: not as in training: {'; '.join(said)}",)


def test_questions_that_were_only_chained_are_named(bank):
    chained = record_of(bank, [GridConfig(mode="chained")], shows_pictures=False)
    found = differences(chained, bank, HeldOutGridConfig(), ["text"])
    assert found.results["not_as_trained"] == ["text: questions independent"]


def test_probes_and_ladders_are_compared_by_what_they_show(bank, record):
    assert not differences(record, bank, ProbeGridConfig(), ["image"]).lines
    assert not differences(record, bank, LadderGridConfig()).lines
    found = differences(record, bank, ProbeGridConfig(cols=2), ["image"])
    assert found.results["not_as_trained"] == ["image: size 3x2"]


def test_other_tiles_are_named_only_with_pictures(bank, record):
    other = load_bank(TilesConfig(per_class=20, size=8))
    found = differences(record, other, HeldOutGridConfig(), ["image"])
    assert found.results["not_as_trained"] == ["tiles of 8 pixels (training: 16)"]
    assert not differences(record, other, HeldOutGridConfig(), ["text"]).lines
    photographs = replace(bank, name="cifar10")  # the same ten names
    found = differences(record, photographs, HeldOutGridConfig(), ["image"])
    assert found.results["not_as_trained"] == ["cifar10 tiles (training: sprites)"]


def test_the_first_class_that_was_not_trained_is_named_and_order_is_none(bank, record):
    names = bank.class_names
    turned = replace(bank, class_names=names[::-1])
    assert not differences(record, turned, HeldOutGridConfig()).lines
    other = replace(bank, class_names=(*names[:3], "wolf", "bear", *names[5:]))
    with pytest.raises(UserError, match="not trained on the class 'wolf' of the sprites tiles"):
        differences(record, other, HeldOutGridConfig())
    found = differences(record, other, HeldOutGridConfig(), allow=["other-classes"])
    assert found.results["not_as_trained"] == ["2 other classes, e.g. 'wolf'"]
    with pytest.raises(UserError, match="not trained on"):
        differences(record, other, HeldOutGridConfig(), ["text"], ["trained-pictures"])


def test_fewer_classes_are_said(bank, record):
    whole = replace(record, class_names=(*bank.class_names, "wolf"))
    found = differences(whole, bank, HeldOutGridConfig())
    assert found.results["not_as_trained"] == ["10 of its 11 classes"]


def test_a_model_that_saw_no_grids_has_no_classes_to_compare(bank):
    found = differences(TrainedOn(), bank, HeldOutGridConfig())
    assert found.results["not_as_trained"] == ["it was trained on no grids or scenes"]


# ---- held-out pictures -----------------------------------------------------------------------


def add_pictures(root, name, n):
    rng = np.random.default_rng(9)
    for i in range(n):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(root / name / f"new{i}.png")


def test_pictures_of_the_training_are_no_test(tmp_path):
    """More pictures of a class hold out more of it, and so some that were trained on."""
    root = helpers.picture_folder(tmp_path / "p", n=12)
    before = folder(root)
    record = record_of(before, GRIDS, shows_pictures=True)
    assert [overlap(before, split, record.pictures)[0] for split in SPLITS] == [30, 0, 0]
    add_pictures(root, "ant", 200)
    after = folder(root)
    spec = HeldOutGridConfig(palette=2)
    trained = set(before.splits["train"].digests.tolist())
    again = [digest for digest in after.splits["test"].digests.tolist() if digest in trained]
    assert again
    with pytest.raises(UserError) as caught:
        differences(record, after, spec)
    n = len(after.splits["test"].digests)
    assert f"m: {len(again)} of the {n} test pictures were trained on (the first: " in str(
        caught.value
    )
    assert str(root / "ant") in str(caught.value)
    found = differences(record, after, spec, allow=["trained-pictures"])
    assert f"{len(again)} of the {n} test pictures were trained on" in found.lines[0]
    assert found.results["tiles_files"] == after.files_hash != before.files_hash
    assert found.results["trained_tiles_files"] == before.files_hash
    assert not any(
        "trained on (" in line for line in differences(record, after, spec, ["text"]).lines
    )


def test_new_pictures_only_are_said_with_both_hashes(tmp_path):
    root = helpers.picture_folder(tmp_path / "p", n=12)
    bank = folder(root)
    record = replace(record_of(bank, GRIDS, shows_pictures=True), files="other")
    found = differences(record, bank, HeldOutGridConfig(palette=2), ["image"])
    assert f"other pictures (files {bank.files_hash}; training: other)" in found.lines[0]


def test_size_and_decoding_move_no_picture_to_another_split(tmp_path):
    root = helpers.picture_folder(tmp_path / "p", n=30)
    record = record_of(folder(root), GRIDS, shows_pictures=True)
    for changes in ({"size": 8}, {"decode": "on-the-fly"}, {"corrupt": "skip"}):
        assert overlap(folder(root, **changes), "test", record.pictures)[0] == 0


def test_no_sprite_of_one_bank_is_trained_on_in_another():
    for changes in ({"seed": 1}, {"per_class": 40}, {}):
        other = load_bank(TilesConfig.model_validate({"per_class": 20, "size": 16, **changes}))
        train = set(load_bank(TilesConfig(per_class=20, size=16)).splits["train"].sources)
        assert not train & set(other.splits["test"].sources)


# ---- the record ------------------------------------------------------------------------------


def test_a_record_comes_back(tmp_path, bank):
    root = helpers.picture_folder(tmp_path / "p")
    record = record_of(folder(root), GRIDS, shows_pictures=True)
    record.write(tmp_path)
    back = read_record(str(tmp_path))
    assert back.pictures.tolist() == record.pictures.tolist()
    assert replace(back, pictures=None) == replace(record, pictures=None)
    assert read_record(str(tmp_path / "p")) is None
    (tmp_path / FILE).write_text("{")
    with pytest.raises(UserError, match=f"{FILE}: cannot be read"):
        read_record(str(tmp_path))


def test_a_model_was_trained_on_what_its_parts_were(tmp_path):
    bank = folder(helpers.picture_folder(tmp_path / "p"))
    encoder = record_of(bank, [], shows_pictures=True)
    lm = record_of(bank, [GridConfig(form="csv")], shows_pictures=False)
    whole = record_of(bank, [GridConfig(modality="image")], shows_pictures=False)
    both = whole.after(encoder, lm, None)
    assert both.pictures.tolist() == encoder.pictures.tolist()
    assert [grid["form"] for grid in both.grids] == ["markdown", "csv"]


# ---- parts of a training ---------------------------------------------------------------------


def test_parts_of_other_objects_are_said_in_one_line(bank, record, capsys):
    say_differences("lm", "runs/lm", record, bank)
    say_differences("lm", "gpt2", None, bank)
    say_differences("lm", "runs/text", TrainedOn(), bank)
    assert capsys.readouterr().err == ""
    other = replace(bank, class_names=("wolf", *bank.class_names[1:]))
    say_differences("lm", "runs/lm", record, other)
    line = "gpt2v: lm: runs/lm was not trained on 1 of these 10 classes, the first of them 'wolf'\n"
    assert capsys.readouterr().err == line.replace("runs/lm was", "runs/lm: was")


def test_an_encoder_that_saw_the_test_is_said(tmp_path, capsys):
    root = helpers.picture_folder(tmp_path / "p", n=12)
    encoder = record_of(folder(root), [], shows_pictures=True)
    add_pictures(root, "ant", 200)
    say_differences("encoder", "runs/e", encoder, folder(root, size=8))
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "encoder: runs/e: was not trained on tiles of 8 pixels, but of 16" in err
    assert "test pictures, so these are not new" in err


def test_a_training_says_it(lm_run, tmp_path, capsys):
    pictures = helpers.picture_folder(tmp_path / "p")
    tiles = {"source": "folder", "path": str(pictures), "size": 16}
    values = {**helpers.TINY_MM, "tiles": tiles, "lm": str(lm_run)}
    grid = {"rows": 1, "cols": 2, "palette": 2, "modality": "image"}
    values["data"] = {"batch_size": 2, "stages": [{"steps": 1, "mix": [grid]}]}
    file = helpers.write_yaml(tmp_path / "mm.yaml", values)
    assert main(["mm", "train", str(file), "--out", str(tmp_path / "mm")]) == 0
    err = capsys.readouterr().err
    assert "lm: " in err
    assert "was not trained on 3 of these 3 classes, the first of them 'ant'" in err
    assert (
        main(["eval", str(tmp_path / "mm"), "--n_images", "2", "--out", str(tmp_path / "e")]) == 0
    )
