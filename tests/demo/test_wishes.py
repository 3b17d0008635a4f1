"""One option for one wish reaches every part of a demo, and fields of single parts still win."""

import itertools
from pathlib import Path

import pytest
import yaml

import gpt2v
import helpers
from gpt2v.config.grids import bounds
from gpt2v.config.load import dump
from gpt2v.data.tiles.load import load_bank
from gpt2v.demo.check import check_demo
from gpt2v.demo.config import demo_config, presets
from gpt2v.demo.run import ladder_config
from gpt2v.demo.tiles import suited_preset
from gpt2v.demo.wishes import Wishes
from gpt2v.errors import UserError

OUT = Path("out")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder with three classes of own pictures, six of each."""
    return helpers.picture_folder(tmp_path_factory.mktemp("three") / "pictures")


def own(folder):
    return {"tiles.source": "folder", "tiles.path": str(folder)}


def grids_of(config):
    """All grids of a demo's trainings, then of its measurements."""
    trained = [*config.lm.data.grids, *config.mm.data.grids]
    return [*trained, config.eval.grid, config.probe.grid, ladder_config(config).grid]


def seeds_of(config):
    return {
        *(config.encoder.data_seed, config.encoder.train.seed),
        *(config.lm.data.seed, config.lm.train.seed),
        *(config.mm.data.seed, config.mm.train.seed),
        *(config.eval.seed, config.probe.seed, ladder_config(config).seed),
    }


@pytest.mark.parametrize("preset", presets())
def test_without_wishes_a_preset_is_what_its_file_says(preset):
    path = Path(helpers.REPO / f"src/gpt2v/demo/presets/{preset}.yaml")
    content = yaml.safe_load(path.read_text())
    config = demo_config(preset, {"tiles.source": "sprites"}, OUT)
    assert config.encoder.vision.options.image_size == content["encoder"]["vision"]["image_size"]
    assert config.lm.model.n_positions == content["lm"]["model"]["n_positions"]
    lattices = [layout.lattice for layout in config.encoder.scenes.layouts]
    assert lattices == [one["lattice"] for one in content["encoder"]["scenes"]["layouts"]]
    sizes = [(grid.rows, grid.cols) for grid in config.lm.data.grids]
    written = [spec for stage in content["lm"]["data"]["stages"] for spec in stage["mix"]]
    assert sizes == [(spec.get("rows", 3), spec.get("cols", 3)) for spec in written]
    assert {grid.palette for grid in grids_of(config)} == {4}


@pytest.mark.parametrize("preset", presets())
def test_each_wish_reaches_every_part(preset):
    config = demo_config(preset, {"tiles.source": "sprites"}, OUT, Wishes(5, 4, 7, 11))
    assert seeds_of(config) == {11}
    assert {grid.palette for grid in grids_of(config)} == {7}
    last = [config.lm.data.stages[-1].mix, config.mm.data.stages[-1].mix]
    for grid in (*itertools.chain(*last), *grids_of(config)[-3:]):
        assert (grid.rows, grid.cols) == (5, 4)
    assert max(layout.lattice for layout in config.encoder.scenes.layouts) == 5
    assert config.encoder.vision.options.image_size == 5 * 32
    assert config.lm.model.n_positions >= 256 * 20 / 9


def test_a_curriculum_keeps_its_small_grids():
    sizes = [(g.rows, g.cols) for g in demo_config("default", {}, OUT, Wishes(4, 5)).lm.data.grids]
    assert sizes == [(2, 2), (4, 5), (4, 5), (4, 5)]
    sizes = [(g.rows, g.cols) for g in demo_config("default", {}, OUT, Wishes(1, 3)).lm.data.grids]
    assert sizes == [(1, 2), (1, 3), (1, 3), (1, 3)]


@pytest.mark.parametrize("wishes", [Wishes(1, 1, 2), Wishes(8, 8, 10)])
def test_every_part_can_be_trained_and_measured_with_them(wishes, tmp_path):
    few = {"probe.n_train": 10, "probe.n_test": 10, "eval.n_images": 2}
    config = demo_config("smoke", few, tmp_path, wishes)
    check_demo(config, ladder_config(config), load_bank(config.tiles), tmp_path)


def test_larger_tiles_make_larger_pictures():
    assert demo_config("default", {"tiles.size": 40}, OUT).encoder.vision.options.image_size == 128
    config = demo_config("default", {"tiles.size": 16}, OUT, Wishes(rows=8))
    assert config.encoder.vision.options.image_size == 128


def test_fields_of_single_parts_win():
    single = {
        "lm.data.stages.1.mix.0.palette": 3,
        "mm.data.stages": [{"steps": 5, "mix": [{"rows": 2, "cols": 2, "modality": "image"}]}],
        "eval.seed": 1,
        "encoder.vision.image_size": 192,
    }
    config = demo_config("smoke", single, OUT, Wishes(rows=4, palette=5, seed=9))
    assert [grid.palette for grid in config.lm.data.grids] == [5, 5, 3, 5]
    assert [(grid.rows, grid.palette) for grid in config.mm.data.grids] == [(2, 4)]
    assert (config.eval.seed, config.probe.seed, config.mm.train.seed) == (1, 9, 9)
    assert config.encoder.vision.options.image_size == 192


@pytest.mark.parametrize(
    ("overrides", "wishes", "size", "window"),
    [
        ({}, {}, 96, 32),
        ({}, {"rows": 4}, 128, 32),
        ({"tiles.size": 64}, {}, 192, 64),
        ({"tiles.size": 20}, {}, 64, None),  # cells are no whole patches
        ({"encoder.vision.window": None}, {}, 96, None),
    ],
)
def test_windows_are_the_cells(overrides, wishes, size, window):
    overrides = {"tiles.source": "sprites", **overrides}
    config = demo_config("photographs", overrides, OUT, Wishes(**wishes))
    shape = config.encoder.vision.options
    assert (shape.image_size, shape.window) == (size, window)


def test_the_palette_follows_the_classes_of_the_tiles(three):
    config = demo_config("smoke", own(three), OUT)
    assert {bounds(grid.palette)[1] for grid in grids_of(config)} == {3}
    config = demo_config("smoke", own(three), OUT, Wishes(palette=2))
    assert {grid.palette for grid in grids_of(config)} == {2}


def test_own_pictures_are_varied(three):
    config = demo_config("default", own(three), OUT)
    varied = config.mm.tiles.augment
    assert varied.flip
    assert varied != demo_config("default", {}, OUT).tiles.augment
    assert config.eval.tiles.augment == demo_config("default", {}, OUT).tiles.augment
    config = demo_config("default", {**own(three), "tiles.augment.flip": False}, OUT)
    assert config.tiles.augment == varied.model_copy(update={"flip": False})


def test_the_preset_suits_the_tiles(three, monkeypatch):
    assert suited_preset({})[0] == "default"
    assert suited_preset({"tiles.source": "cifar10", "tiles.path": "x"})[0] == "photographs"
    preset, why = suited_preset(own(three))
    assert preset == "default"
    assert why.startswith("3 classes with 18 pictures")
    monkeypatch.setattr("gpt2v.demo.tiles.MANY", 18)
    assert suited_preset(own(three))[0] == "photographs"


def test_a_demo_that_was_written_takes_wishes_too(tmp_path):
    whole = demo_config("smoke", {}, tmp_path)
    (tmp_path / "config.yaml").write_text(dump(whole))
    again = demo_config(str(tmp_path / "config.yaml"), {}, tmp_path, Wishes(2, 4, 3, 8))
    assert again == demo_config("smoke", {}, tmp_path, Wishes(2, 4, 3, 8))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--palette", 4), "--palette: 4 objects, but the tiles have 3 classes"),
        (("--palette", 1), "--palette: must be 2 objects or more, not 1"),
        (("--rows", 9), "--rows: must be a number from 1 to 8, not 9"),
        (("--cols", 0), "--cols: must be a number from 1 to 8, not 0"),
        (("--cols", "x"), "--cols: must be a whole number, not 'x'"),
        (("--seed", -1), "--seed: must be 0 or more, not -1"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled(three, capsys, tmp_path, options, says):
    out = tmp_path / "demo"
    line = helpers.refusal(
        capsys, "demo", "--tiles", "folder", "--tiles-path", three, "--out", out, *options
    )
    assert line.startswith(f"gpt2v: {says}")
    assert not out.exists()


def test_the_function_refuses_the_same(three, tmp_path):
    with pytest.raises(UserError, match=r"^palette: 4 objects, but the tiles have 3 classes"):
        gpt2v.run_demo("folder", three, palette=4, out=tmp_path / "d")
    with pytest.raises(UserError, match=r"^preset smoke: eval\.n_images: "):
        gpt2v.run_demo(preset="smoke", eval={"n_images": 0}, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("preset", [(), ("--preset", "smoke")])
def test_a_class_with_too_few_pictures(tmp_path, capsys, preset):
    folder = helpers.picture_folder(tmp_path / "f", n=4)
    for name in ("0.png", "1.png"):
        (folder / "bee" / name).unlink()
    out = tmp_path / "demo"
    argv = ("demo", "--tiles", "folder", "--tiles-path", folder, "--out", out, *preset)
    line = helpers.refusal(capsys, *argv)
    assert line == (
        f"gpt2v: --tiles-path: {folder}: class 'bee' has 2 pictures, but 3 splits (train, val, "
        "test) need at least 3"
    )
    assert not out.exists()


def test_the_same_picture_twice_is_one(tmp_path):
    folder = helpers.picture_folder(tmp_path / "f", n=3)
    (folder / "bee" / "1.png").write_bytes((folder / "bee" / "0.png").read_bytes())
    config = demo_config("smoke", own(folder), OUT)
    with pytest.raises(UserError, match="class 'bee' has 2 different pictures that can be read"):
        load_bank(config.tiles)
