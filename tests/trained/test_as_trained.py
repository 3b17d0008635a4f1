"""A measurement takes tiles and grids from the run of its model, and what is given wins."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import helpers
from gpt2v.cli.main import main
from gpt2v.config.data import DataConfig
from gpt2v.config.grids import HeldOutGridConfig, ProbeGridConfig
from gpt2v.config.load import load, validate
from gpt2v.config.measuring import EvalConfig, SuiteEvalConfig
from gpt2v.config.probing import ProbeConfig
from gpt2v.data.grids.baselines import tally
from gpt2v.data.tiles.load import load_bank
from gpt2v.errors import UserError
from gpt2v.eval.evaluate import evaluation_data
from gpt2v.model.files import save_pretrained
from gpt2v.trained.defaults import as_trained, grid_as_trained, grids_of, last_grids
from gpt2v.trained.record import FILE

OWN = {"rows": 1, "cols": 2, "palette": 2}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of pictures of ants, bees and cows, and runs that were trained on it."""
    root = tmp_path_factory.mktemp("own")
    pictures = helpers.picture_folder(root / "pictures", n=12)
    tiles = {"source": "folder", "path": str(pictures), "size": 16}
    lm = {**helpers.TINY_LM, "tiles": tiles}
    lm["data"] = {"batch_size": 4, "stages": [{"steps": 2, "mix": [OWN]}]}
    first = {**OWN, "rows": 2, "modality": "image"}
    stages = [
        {"steps": 1, "mix": [first]},
        {"steps": 1, "mix": [{**OWN, "modality": "image"}, OWN]},
    ]
    mm = {**helpers.TINY_MM, "tiles": tiles, "lm": str(root / "lm")}
    mm["data"] = {"batch_size": 4, "stages": stages}
    for name, values in (("lm", lm), ("mm", mm)):
        config = helpers.write_yaml(root / f"{name}.yaml", values)
        assert main([name, "train", str(config), "--out", str(root / name)]) == 0
    return root


def results(run):
    return json.loads((run / "results.json").read_text())


def run_ok(capsys, *argv):
    """Run a command that must succeed; returns its lines on stderr but those of progress."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 0
    return [line for line in capsys.readouterr().err.splitlines() if " s left" not in line]


def newest(run):
    return sorted((run / "checkpoints").iterdir())[-1]


@pytest.mark.parametrize("what", ["run", "checkpoint", "link"])
def test_an_evaluation_is_on_the_pictures_of_the_training(own, tmp_path, capsys, what):
    model = own / "mm" if what == "run" else newest(own / "mm")
    if what == "link":
        (tmp_path / "link").symlink_to(model)
        model = tmp_path / "link"
    out = tmp_path / "e"
    lines = run_ok(capsys, "eval", model, "--n_images", 6, "--out", out)
    assert len(lines) == 1
    for text in ("measured as trained", "tiles.source folder", "grid.rows 1", "grid.palette 2"):
        assert text in lines[0]
    records = pq.read_table(out / "records.parquet").to_pandas()
    assert set(records.truth) <= {"ant", "bee", "cow"}
    assert len(records) == 2 * 6 * 2
    assert results(out)["not_as_trained"] == []
    assert results(out)["class_names"] == ["ant", "bee", "cow"]
    config = load(EvalConfig, out / "config.yaml", {})
    data = evaluation_data(config, load_bank(config.tiles))
    assert results(out)["data_hash"] == data.hash
    _, baselines = tally(data.samples())["lookup"]
    row = results(out)["results"][0]
    assert (row["chance"], row["blind_accuracy"]) == (0.5, 0.5)
    assert (row["blind_accuracy"], row["bag_accuracy"]) == (baselines.blind, baselines.bag)


@pytest.mark.parametrize("command", ["eval", "probe"])
def test_the_defaults_are_not_measured_even_if_they_fit(own, tmp_path, capsys, command):
    """Sprites in grids of the training's size and cells."""
    fits = {"rows": 1, "cols": 2, "palette": 2}
    if command == "eval":
        file = helpers.write_yaml(tmp_path / "e.yaml", {"grid": fits, "tiles": {"size": 16}})
        argv = ["eval", own / "mm", "--suite", file, "--n_images", 6]
    else:
        values = {"model": str(own / "mm"), **helpers.QUICK_PROBE, "grid": fits}
        argv = ["probe", helpers.write_yaml(tmp_path / "p.yaml", {**values, "tiles": {"size": 16}})]
    run_ok(capsys, *argv, "--out", tmp_path / "out")
    records = pq.read_table(tmp_path / "out" / "records.parquet").to_pandas()
    assert set(records.truth) <= {"ant", "bee", "cow"}


def test_other_objects_are_refused_even_if_their_grids_fit(own, tmp_path, capsys):
    sprites = {"source": "sprites", "per_class": 20, "size": 16}
    content = {"grid": {"rows": 1, "cols": 2, "palette": 2}, "tiles": sprites, "n_images": 6}
    file = helpers.write_yaml(tmp_path / "e.yaml", content)
    argv = ["eval", own / "mm", "--suite", file, "--out", tmp_path / "out"]
    assert "not trained on the class 'airplane'" in helpers.refusal(capsys, *argv)
    assert not (tmp_path / "out").exists()
    run_ok(capsys, *argv, "--allow", "[other-classes]")
    assert results(tmp_path / "out")["class_names"][0] == "airplane"


def test_its_configuration_is_complete_and_gives_the_same(own, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    run_ok(capsys, "eval", own / "mm", "--n_images", 6, "--out", one)
    assert not run_ok(capsys, "eval", own / "mm", "--suite", one / "config.yaml", "--out", two)
    assert (one / "config.yaml").read_text() == (two / "config.yaml").read_text()
    assert results(one)["results"] == results(two)["results"]
    assert yaml.safe_load((one / "config.yaml").read_text())["tiles"]["source"] == "folder"


def test_a_probe_and_a_ladder_take_it_too(own, tmp_path, capsys):
    probe = {"model": str(own / "mm"), **helpers.QUICK_PROBE}
    ladder = {"model": str(own / "mm"), "n_images": 5}
    for command, values in ((["probe"], probe), (["ablate", "tokens"], ladder)):
        file = helpers.write_yaml(tmp_path / "c.yaml", values)
        out = tmp_path / command[0]
        lines = run_ok(capsys, *command, file, "--out", out)
        assert len(lines) == 1
        assert "tiles.source folder" in lines[0]
        written = yaml.safe_load((out / "config.yaml").read_text())
        assert written["tiles"]["path"] == str(own / "pictures")
        grid = written["grid"]
        assert (grid["rows"], grid["cols"], grid["palette"]) == (1, 2, 2)
    truths = pq.read_table(tmp_path / "probe" / "records.parquet").column("truth").to_pylist()
    assert set(truths) <= {"ant", "bee", "cow"}


def test_a_gpt2_takes_it_too(own, tmp_path, capsys):
    argv = ("eval", own / "lm", "--modalities", "[text]", "--n_images", 6, "--out", tmp_path / "e")
    assert "tiles.source folder" in run_ok(capsys, *argv)[0]
    assert results(tmp_path / "e")["class_names"] == ["ant", "bee", "cow"]


def test_what_is_given_wins_key_by_key(own, tmp_path, capsys):
    argv = ("eval", own / "mm", "--n_images", 6, "--grid.rows", 2, "--tiles.size", 8)
    run_ok(capsys, *argv, "--out", tmp_path / "e")
    config = load(EvalConfig, tmp_path / "e" / "config.yaml", {})
    assert (config.grid.rows, config.grid.cols, config.grid.palette) == (2, 2, 2)
    assert (config.tiles.source, config.tiles.size) == ("folder", 8)
    unlike = results(tmp_path / "e")["not_as_trained"]
    assert any("tiles of 8 pixels (training: 16)" in line for line in unlike)
    assert "text: size 2x2" in unlike
    assert not any("image: size" in line for line in unlike)  # the first stage had 2x2 pictures


def test_a_checkpoint_elsewhere_has_the_defaults_and_knows_its_classes(own, tmp_path, capsys):
    alone = shutil.copytree(newest(own / "mm"), tmp_path / "alone")
    line = helpers.refusal(capsys, "eval", alone, "--out", tmp_path / "e")
    assert "was not trained on the class 'airplane' of the sprites tiles, but on 'ant'" in line
    assert not (tmp_path / "e").exists()


def test_a_copy_of_the_folder_has_the_same_test(own, tmp_path, capsys):
    """What decides the splits are the bytes of the files, not where they are."""
    copy = shutil.copytree(own / "pictures", tmp_path / "copy")
    for name, path in (("one", own / "pictures"), ("two", copy)):
        run_ok(
            capsys, "eval", own / "mm", "--n_images", 6, "--tiles.path", path,
            "--out", tmp_path / name,
        )  # fmt: skip
    assert results(tmp_path / "one")["data_hash"] == results(tmp_path / "two")["data_hash"]


def test_options_belong_to_what_the_run_has(own, lm, tokenizer, tmp_path, capsys):
    """Whether an option has an effect is known when the run of the model has told the rest."""
    words = ["--tiles.decode", "on-the-fly", "--n_images", 6]
    run_ok(capsys, "eval", own / "mm", *words, "--out", tmp_path / "one")
    line = helpers.refusal(
        capsys, "eval", own / "mm", "--tiles.per_class", 20, "--out", tmp_path / "two"
    )
    assert "per_class: 20 has no effect: source: folder has its own pictures" in line
    save_pretrained(tmp_path / "gpt2", lm, tokenizer)  # no run
    for option, says in (
        ("--tiles.path=x", "--tiles.path: x has no effect: sprites are drawn"),
        ("--grid.patches=4", "--grid.patches: 4 has no effect: form: markdown has no patches"),
    ):
        line = helpers.refusal(
            capsys, "eval", tmp_path / "gpt2", option, "--out", tmp_path / "three"
        )
        assert says in line
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "three").exists()


def test_offsets_of_a_training_are_not_taken(own, tmp_path, capsys):
    run = shutil.copytree(own / "lm", tmp_path / "lm")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("position_offset: 0", "position_offset: 5"))
    run_ok(capsys, "eval", run, "--modalities=[text]", "--n_images=6", "--out", tmp_path / "e")
    written = yaml.safe_load((tmp_path / "e" / "config.yaml").read_text())
    assert written["grid"]["augment"]["position_offset"] == 0


FLIP = {"augment": {"flip": True}}


@pytest.mark.parametrize("split", ["test", "train"])
def test_augmentation_of_a_training_is_taken_for_training_tiles_only(split, trained_on):
    filled = as_trained(load(EvalConfig, None, {"split": split}), trained_on({}, FLIP))
    assert filled.config.tiles.augment.flip == (split == "train")
    assert ("flip" in filled.said) == (split == "train")
    assert validate(EvalConfig, filled.config.model_dump(), "") == filled.config


def test_a_text_form_is_not_taken_for_pictures_alone(trained_on):
    run = trained_on({"augment": {"delimiters": [";"]}})
    for modalities in (["image"], ["text", "image"], ["text+image"]):
        filled = as_trained(load(EvalConfig, None, {"modalities": modalities}), run)
        delimiters = ["|"] if modalities == ["image"] else [";"]
        assert filled.config.grid.augment.delimiters == delimiters
        assert validate(EvalConfig, filled.config.model_dump(), "") == filled.config
    run = trained_on({"form": "csv"})
    assert as_trained(load(EvalConfig, None, {}), run).config.grid.form == "csv"
    filled = as_trained(load(EvalConfig, None, {"modalities": ["image"]}), run)
    assert filled.config.grid.form == "markdown"
    assert filled.said == ""


def test_a_folder_that_is_gone_is_one_line_with_the_run(own, tmp_path, capsys):
    run = shutil.copytree(own / "mm", tmp_path / "mm")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(str(own / "pictures"), str(tmp_path / "gone")))
    line = helpers.refusal(capsys, "eval", run, "--out", tmp_path / "e")
    assert f"{run}/config.yaml: tiles.path: {tmp_path}/gone: no such folder" in line


def test_a_damaged_configuration_of_the_run_is_one_line(own, tmp_path, capsys):
    run = shutil.copytree(own / "mm", tmp_path / "mm")
    (run / "config.yaml").write_text("tiles: {shape: 3}\n")
    line = helpers.refusal(capsys, "eval", run, "--out", tmp_path / "e")
    assert f"{run}/config.yaml: tiles: shape: " in line
    assert "set all of tiles and grid" in line


def test_a_run_without_the_record_is_known_by_its_configuration(own, tmp_path, capsys):
    """A run of an older version."""
    run = shutil.copytree(own / "mm", tmp_path / "mm")
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / FILE).unlink()
        (checkpoint / "MANIFEST.json").unlink()
    line = helpers.refusal(
        capsys, "eval", run, "--tiles.source", "sprites", "--out", tmp_path / "e"
    )
    assert "was not trained on the class 'airplane'" in line


def test_a_model_of_another_tool_is_measured_and_it_is_said(own, tmp_path, capsys):
    alone = shutil.copytree(newest(own / "mm"), tmp_path / "alone")
    (alone / FILE).unlink()
    (alone / "MANIFEST.json").unlink()
    size = {"--tiles.per_class": 20, "--tiles.size": 16, "--grid.rows": 1, "--grid.cols": 2}
    options = [str(word) for pair in size.items() for word in pair]
    lines = run_ok(capsys, "eval", alone, *options, "--n_images", 4, "--out", tmp_path / "e")
    assert len(lines) == 1
    assert "nothing says which objects it was trained on" in lines[0]
    assert results(tmp_path / "e")["class_names"][0] == "airplane"


def specs_of(*stages):
    values = {"stages": [{"steps": 1, "mix": mix} for mix in stages]}
    return last_grids(grids_of(DataConfig.model_validate(values)))


def test_the_grids_are_those_of_the_last_stage_that_has_some():
    small, large = {"rows": 2, "cols": 2}, {"rows": 5, "cols": 4, "palette": 6}
    grid = grid_as_trained(specs_of([small], [large], [{"corpus": "x.txt"}]), HeldOutGridConfig())
    assert (grid.rows, grid.cols, grid.palette) == (5, 4, 6)
    assert specs_of([{"corpus": "x.txt"}]) == []


def test_form_and_picture_are_those_that_were_shown():
    drawn = {"modality": "image", "picture": {"layout": "multi"}, "instructions": {"count": 1.0}}
    said = {"form": "csv", "rows": 2}
    grid = grid_as_trained(specs_of([drawn, said]), HeldOutGridConfig())
    assert (grid.rows, str(grid.form), grid.picture.layout) == (3, "csv", "multi")
    assert list(grid.instructions) == ["count"]
    noisy = {"form": "patch-tiled", "noise": 0.4, "patches": 3}
    grid = grid_as_trained(specs_of([noisy]), HeldOutGridConfig(form="csv"))
    assert (grid.noise, grid.patches) == (0.0, 2)


def test_a_probe_gets_the_largest_of_random_sizes():
    ranges = {"rows": [1, 4], "cols": [2, 3], "palette": [2, 5], "modality": "image"}
    grid = grid_as_trained(specs_of([ranges]), ProbeGridConfig())
    assert (grid.rows, grid.cols, grid.palette) == (4, 3, 5)
    grid = grid_as_trained(specs_of([ranges]), HeldOutGridConfig())
    assert (grid.rows, grid.cols, grid.palette) == ([1, 4], [2, 3], [2, 5])


def test_a_suite_takes_the_tiles(own):
    config = SuiteEvalConfig.model_validate({"suite": "grid-3x3-v1"})
    taken = as_trained(config, str(own / "mm"))
    assert taken.config.tiles.path == str(own / "pictures")
    assert "tiles.path" in taken.said
    assert "grid" not in taken.said


def test_other_tiles_keep_only_how_they_are_shown(own):
    config = ProbeConfig.model_validate({"model": "x", "tiles": {"source": "sprites"}})
    tiles = as_trained(config, str(own / "mm")).config.tiles
    assert (tiles.source, tiles.path, tiles.size) == ("sprites", None, 16)


def test_a_model_without_a_run_changes_nothing(tmp_path):
    config = EvalConfig.model_validate({})
    for model in ("gpt2", str(tmp_path)):
        assert as_trained(config, model).config is config
        assert as_trained(config, model).said == ""


def test_every_checkpoint_has_the_record_and_the_results_the_names(own):
    for run in (own / "lm", own / "mm"):
        assert results(run)["class_names"] == ["ant", "bee", "cow"]
        for checkpoint in (run / "checkpoints").iterdir():
            record = json.loads((checkpoint / FILE).read_text())
            assert record["class_names"] == ["ant", "bee", "cow"]
            assert f'"{FILE}"' in (checkpoint / "MANIFEST.json").read_text()
            assert str(own) not in (checkpoint / FILE).read_text()
    assert np.isin(["text", "image"], [grid["modality"] for grid in record["grids"]]).all()


def test_offsets_of_a_training_are_left_out(own, tmp_path, capsys):
    """They are for training samples only, and the user has not given them to the measurement."""
    values = yaml.safe_load((own / "lm.yaml").read_text())
    values["data"]["stages"][0]["mix"][0] = {**OWN, "augment": {"position_offset": 9}}
    config = helpers.write_yaml(tmp_path / "lm.yaml", values)
    run_ok(capsys, "lm", "train", config, "--out", tmp_path / "lm")
    words = ["--n_images", 4, "--modalities", "[text]"]
    run_ok(capsys, "eval", tmp_path / "lm", *words, "--out", tmp_path / "a")
    assert results(tmp_path / "a")["not_as_trained"] == []
    back = ["--suite", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b"]
    run_ok(capsys, "eval", tmp_path / "lm", *back)
    assert results(tmp_path / "a")["data_hash"] == results(tmp_path / "b")["data_hash"]
    run_ok(capsys, "eval", tmp_path / "lm", *words, "--split", "train", "--out", tmp_path / "c",
           "--allow", "[trained-pictures]")  # fmt: skip
    kept = load(EvalConfig, tmp_path / "c" / "config.yaml", {})
    assert kept.grid.augment.position_offset == 9


@pytest.fixture
def trained_on(tmp_path):
    """Writes the configuration of a run with one grid; returns the run."""

    def write(grid, tiles=None):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
        data = {"stages": [{"steps": 1, "mix": [grid]}]}
        helpers.write_yaml(tmp_path / "run" / "config.yaml", {"tiles": tiles or {}, "data": data})
        return str(tmp_path / "run")

    return write


FOLDER = {"source": "folder", "path": "x"}
TILED = {"form": "patch-tiled", "patches": 3}
MOVED = {"modality": "image", "picture": {"scale": [0.5, 0.9], "jitter": 2}}
GAP = {"modality": "image", "picture": {"gap": 2}}


@pytest.mark.parametrize(
    ("grid", "tiles", "given"),
    [
        ({}, FOLDER, {"tiles.path": "y"}),
        ({}, FOLDER, {"tiles.corrupt": "skip"}),
        ({}, FOLDER, {"tiles.decode": "on-the-fly"}),
        (TILED, None, {"grid.noise": 0.25}),
        (TILED, None, {"grid.patches": 4}),
        (MOVED, None, {"grid.picture.jitter": 3}),
        ({"augment": {"paraphrase": True}}, None, {"grid.augment.held_out": True}),
    ],
)
def test_an_option_is_judged_with_what_the_training_says(grid, tiles, given, trained_on):
    run = trained_on(grid, tiles)
    config = load(EvalConfig, None, given)
    config = as_trained(config, run).config
    (key,) = given
    value = config
    for name in key.split("."):
        value = getattr(value, name)
    assert value == given[key]
    # A training on other data, and a model without a run: it has no effect there.
    for model in (trained_on({}), "none"):
        with pytest.raises(UserError, match=key.rpartition(".")[2]) as caught:
            as_trained(load(EvalConfig, None, given), model)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("grid", "given"),
    [(GAP, {"layout": "multi"}), (MOVED, {"scale": [1.0, 1.0]}), (MOVED, {"layout": "multi"})],
)
def test_another_picture_leaves_out_what_belongs_to_that_of_the_training(grid, given, trained_on):
    (name,) = given
    config = load(EvalConfig, None, {f"grid.picture.{name}": given[name]})
    assert getattr(as_trained(config, trained_on(grid)).config.grid.picture, name) == given[name]


def test_grids_that_no_training_had_fit_together(trained_on):
    run = trained_on({"corpus": "x.txt"})
    with pytest.raises(UserError, match="patches: 4 has no effect: form: markdown"):
        as_trained(load(EvalConfig, None, {"grid.patches": 4}), run)


def test_a_complete_configuration_fits_together(trained_on):
    whole = EvalConfig().model_dump()
    whole["grid"]["patches"] = 4
    with pytest.raises(UserError, match="patches: 4 has no effect: form: markdown"):
        as_trained(load(EvalConfig, None, whole), trained_on(TILED))
