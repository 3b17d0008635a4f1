"""Commands work on small inputs, and a user's mistake is one line and status 2."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import helpers
from gpt2v.cli.main import main
from gpt2v.errors import Stopped
from gpt2v.stopping import TORCHRUN
from helpers import QUICK_PROBE, TINY_ENCODER, TINY_LM, TINY_MM, TINY_TILES, refusal, write_yaml

EVAL = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 10, "examples": 2}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lm_yaml(folder):
    return write_yaml(folder / "lm.yaml", TINY_LM)


def changed(base, path, value):
    """A copy of nested mappings with one dotted key set."""
    result = node = copy.deepcopy(base)
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    return result


# ---- what works ------------------------------------------------------------------------------


def test_training_and_measuring_with_overrides(folder, lm_yaml, capsys):
    argv = ["lm", "train", lm_yaml, "--out", "runs/lm", "--train.groups.0.lr", "3e-4"]
    argv += ["--data.stages.0.steps", "2", "--train.eval_grids", "5", "--train.schedule=linear"]
    assert main([str(a) for a in argv]) == 0
    resolved = (folder / "runs/lm/config.yaml").read_text()
    assert "lr: 0.0003" in resolved
    assert "schedule: linear" in resolved
    suite = write_yaml(folder / "suite.yaml", EVAL)
    argv = ["eval", "runs/lm", "--suite", suite, "--modalities", "[text]", "--n_images", "7"]
    assert main([*map(str, argv), "--out", "runs/e"]) == 0
    results = json.loads((folder / "runs/e/results.json").read_text())
    assert [row["n_images"] for row in results["results"]] == [7]
    assert "text" in capsys.readouterr().out


def test_the_default_directory_is_named_after_the_configuration(folder, lm_yaml):
    argv = ["lm", "train", str(lm_yaml), "--data.stages.0.steps", "1", "--train.eval_grids", "2"]
    assert main(argv) == 0
    assert (folder / "runs/lm/results.json").is_file()


def test_options_may_come_before_the_configuration(folder, lm_yaml):
    options = ["--data.stages.0.steps", "1", "--train.eval_grids=2", "--out", "run"]
    assert main(["lm", "train", *options, str(lm_yaml)]) == 0
    assert "eval_grids: 2" in (folder / "run/config.yaml").read_text()


def test_a_field_without_a_dot_may_come_before_the_configuration(folder, lm_yaml):
    config = write_yaml(folder / "encoder.yaml", TINY_ENCODER)
    assert main(["encoder", "train", "--steps", "1", str(config), "--batch_size=3"]) == 0
    written = (folder / "runs/encoder/config.yaml").read_text()
    assert "\nsteps: 1\n" in written
    assert "\nbatch_size: 3\n" in written


def test_the_configuration_in_a_run_can_be_run_again(folder, mm_run, lm_run, capsys):
    """For every command: a run of its config.yaml has the same config.yaml."""
    measured = {"tiles": TINY_TILES, "model": str(mm_run), "grid": {"rows": 1, "cols": 2}}
    short = changed(TINY_LM, "data.stages.0.steps", 1)
    commands = {
        "lm train": changed(short, "train.eval_grids", 2),
        "encoder train": TINY_ENCODER,
        "mm train": {**TINY_MM, "lm": str(lm_run)},
        "probe": {**measured, **QUICK_PROBE},
        "ablate tokens": {**measured, "n_images": 4},
        f"eval {mm_run} --suite": EVAL,
    }
    for number, (command, content) in enumerate(commands.items()):
        config = write_yaml(folder / "c.yaml", content)
        for run in (f"{number}", f"{number}-again"):
            assert main([*command.split(), str(config), "--out", run]) == 0
            config = folder / run / "config.yaml"
        assert config.read_text() == (folder / f"{number}" / "config.yaml").read_text()
    capsys.readouterr()


def test_an_empty_value_is_allowed(folder, lm_yaml):
    options = ["--train.groups.0.pattern", "", "--data.stages.0.steps", "1"]
    assert main(["lm", "train", str(lm_yaml), *options]) == 0
    assert "pattern: ''" in (folder / "runs/lm/config.yaml").read_text()


def test_an_encoder_is_trained(folder):
    config = write_yaml(folder / "encoder.yaml", TINY_ENCODER)
    assert main(["encoder", "train", str(config), "--out", "e"]) == 0
    assert "zero_shot_accuracy" in json.loads((folder / "e/results.json").read_text())["results"][0]


def test_preview_prints_samples_and_draws_a_sheet(folder, capsys):
    config = write_yaml(folder / "suite.yaml", EVAL)
    assert main(["data", "preview", str(config), "--n", "3", "--png", "sheet.png"]) == 0
    text = capsys.readouterr().out
    assert text.count("The grid above is size 1 by 2.") == 3
    with Image.open("sheet.png") as sheet:
        assert sheet.height > 3 * 96
    assert main(["data", "preview", str(config), "--n", "1", "--png", "sheet.png"]) == 0


@pytest.mark.parametrize("content", [b"a thesis", None])
def test_a_preview_replaces_only_a_preview(folder, capsys, content):
    config = write_yaml(folder / "suite.yaml", EVAL)
    Image.new("RGB", (8, 8)).save("sheet.png")
    if content is not None:
        Path("sheet.png").write_bytes(content)
    before = Path("sheet.png").read_bytes()
    said = refusal(capsys, "data", "preview", config, "--n", 1, "--png", "sheet.png")
    assert said.endswith("--png: sheet.png: was not written by gpt2v; choose another name")
    assert Path("sheet.png").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("demo", ["--preset", "--mm.train.groups.0.lr", "--tiles.per_class"]),
        ("data preview", ["--png", "--grid.rows"]),
        ("lm train", ["--overwrite", "--train.groups.0.lr", "--data.stages.0.mix.0.form"]),
        ("eval", ["--suite", "--n_images", "--modalities"]),
        ("ablate tokens", ["--out", "--model", "--n_images"]),
    ],
)
def test_help_names_every_option(command, fields, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for field in fields:
        assert field in text
    assert "--lm.tiles." not in text  # the demo would refuse it


# ---- the user's mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.sed", 1, "train.sed: unknown key"),
        ("model.n_layers", 1, "model.n_layers: unknown key"),
        ("data.batch_size", "many", "data.batch_size"),
        ("train.groups.0.lr", "3e-4x", "train.groups.0.lr"),
        ("data.stages.0.mix.0.palette", 11, "data.stages.0.mix.0.palette: 11"),
        ("model.n_positions", 40, "n_positions: 40"),
        ("tiles.source", "mnist", "tiles.source"),
        ("train.groups.0.pattern", "^nothing", "train.groups"),
        ("train.groups.0.lr", 0.0, "every group is frozen"),
        ("tokenizer", {"source": "./nowhere/at/all"}, "tokenizer.source: ./nowhere/at/all"),
        ("data.stages.0.mix.0.modality", "image", "modality must be text"),
    ],
)
def test_mistakes_in_a_configuration(folder, capsys, key, value, says):
    config = write_yaml(folder / "bad.yaml", changed(TINY_LM, key, value))
    line = refusal(capsys, "lm", "train", config, "--out", "run")
    assert "bad.yaml" in line
    assert says in line
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("data: [1, 2\ntrain: {", "line 2"),
        ("a: b: c", "line 1: not valid YAML"),
        ("- 1\n- 2", "mapping"),
        ("", "mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("a: &x [*x]", "bad.yaml"),
        ("1: 2", "bad.yaml"),
        ("{}", "data: "),
        ("train: {groups: 3}", "bad.yaml"),
    ],
)
def test_files_that_are_not_a_configuration(folder, capsys, content, says):
    config = write_yaml(folder / "bad.yaml", content)
    line = refusal(capsys, "lm", "train", config, "--out", "run")
    assert "bad.yaml" in line
    assert says in line
    assert not (folder / "run").exists()


def test_a_configuration_that_cannot_be_read(folder, capsys):
    assert "none.yaml: cannot read" in refusal(capsys, "lm", "train", "none.yaml")
    assert "cannot read" in refusal(capsys, "lm", "train", folder)
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    assert "binary.yaml" in refusal(capsys, "lm", "train", "binary.yaml")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--train.sed", "1"], "train.sed: unknown key"),
        (["--data.stages.3.steps", "1"], "data.stages.3.steps: '3' must be a number under 1"),
        (["--data.stages.0.steps"], "--data.stages.0.steps: needs a value"),
        (["--data.stages.0.steps", "x"], "data.stages.0.steps"),
        (["--train.groups.0.lr", "[1"], "not valid YAML"),
        (["extra"], "unexpected argument: extra"),
    ],
)
def test_mistakes_on_the_command_line(folder, lm_yaml, capsys, options, says):
    assert says in refusal(capsys, "lm", "train", lm_yaml, "--out", "run", *options)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "argv",
    [[], ["trian"], ["lm"], ["lm", "trian", "x"], ["lm", "train"]],
)
def test_commands_that_do_not_exist(capsys, argv):
    assert "--help" in refusal(capsys, *argv)


def test_unknown_preset_and_missing_tiles_of_the_demo(folder, capsys):
    assert "no such preset" in refusal(capsys, "demo", "--preset", "tiny", "--out", "d")
    line = refusal(capsys, "demo", "--tiles", "mnist", "--out", "d")
    assert "--tiles: no such tile source: 'mnist'; choose from" in line
    line = refusal(capsys, "demo", "--tiles", "cifar10", "--tiles-path", "none", "--out", "d")
    assert "--tiles-path: none: no such folder" in line
    assert "tiles.path: missing" in refusal(capsys, "demo", "--tiles", "folder", "--out", "d")
    line = refusal(capsys, "demo", "--preset", "smoke", "--lm.data.sed", "1", "--out", "d")
    assert "lm.data.sed: unknown key" in line
    assert not (folder / "d").exists()


def test_the_demo_resumes_only_a_demo(folder, lm_yaml, capsys):
    assert main(["lm", "train", str(lm_yaml), "--data.stages.0.steps", "1", "--out", "r"]) == 0
    before = (folder / "r/config.yaml").read_text()
    capsys.readouterr()
    line = refusal(capsys, "demo", "--preset", "smoke", "--resume", "--out", "r")
    assert "r/config.yaml: " in line
    assert (folder / "r/config.yaml").read_text() == before
    assert (folder / "r/results.json").is_file()


def test_grids_that_cannot_be_measured_are_refused_before_any_training(folder, capsys):
    line = refusal(capsys, "demo", "--preset", "smoke", "--eval.grid.rows", 5, "--out", "d")
    assert "eval.grid." in line
    assert not (folder / "d").exists()


@pytest.mark.parametrize("command", ["encoder", "mm"])
def test_a_picture_that_patches_do_not_divide(folder, capsys, command):
    base = {"encoder": TINY_ENCODER, "mm": {**TINY_MM, "lm": "x"}}[command]
    config = write_yaml(folder / "bad.yaml", changed(base, "vision.patch_size", 9))
    line = refusal(capsys, command, "train", config, "--out", "run")
    assert "bad.yaml: vision: image_size 32 must be a multiple of patch_size 9" in line
    assert not (folder / "run").exists()


def test_towers_whose_heads_do_not_divide_their_width(folder, capsys):
    for key in ("text.hidden_size", "vision.hidden_size"):
        config = write_yaml(folder / "bad.yaml", changed(TINY_ENCODER, key, 17))
        line = refusal(capsys, "encoder", "train", config, "--out", "run")
        assert key.split(".")[0] in line
        assert "hidden_size" in line
    assert not (folder / "run").exists()


@pytest.mark.parametrize("size", [4, 48])
def test_tiles_that_do_not_fit_the_encoders_pictures_are_refused_before_training(
    folder, capsys, size, monkeypatch
):
    def fit(*_):
        pytest.fail("trained with pictures that cannot be scored")

    monkeypatch.setattr("gpt2v.encoder_train.train.fit", fit)
    config = write_yaml(folder / "bad.yaml", changed(TINY_ENCODER, "tiles.size", size))
    line = refusal(capsys, "encoder", "train", config, "--out", "run")
    assert "bad.yaml" in line
    assert "tiles.size" in line
    assert not (folder / "run").exists()


def test_many_small_tiles_in_the_encoders_pictures(folder):
    """If more than 16 tiles fit along a side of the picture, it is scored on a smaller grid."""
    config = changed(TINY_ENCODER, "tiles.size", 4)
    config["vision"] = {**config["vision"], "image_size": 72, "patch_size": 4}
    config["steps"] = 1
    write_yaml(folder / "c.yaml", config)
    assert main(["encoder", "train", "c.yaml", "--out", "e"]) == 0


def test_pooling_that_does_not_divide_the_patches(folder, lm_run, capsys):
    config = write_yaml(folder / "bad.yaml", {**TINY_MM, "lm": str(lm_run), "pool": 7})
    line = refusal(capsys, "mm", "train", config, "--out", "run")
    assert "bad.yaml: pool: 7 must divide" in line
    assert not (folder / "run").exists()


def test_a_grid_that_does_not_fit_the_picture(folder, lm_run, capsys):
    wide = changed(TINY_MM, "data.stages.0.mix.0.cols", 3)
    config = write_yaml(folder / "bad.yaml", {**wide, "lm": str(lm_run)})
    line = refusal(capsys, "mm", "train", config, "--out", "run")
    assert "bad.yaml: data.stages.0.mix.0." in line
    assert "1x3 grid" in line
    assert "mix.0.tiles" not in line  # this key does not exist
    assert not (folder / "run").exists()


def test_missing_models(folder, capsys):
    config = write_yaml(folder / "mm.yaml", {**TINY_MM, "lm": "./none"})
    line = refusal(capsys, "mm", "train", config, "--out", "run")
    assert "mm.yaml: lm: ./none: no such run" in line
    suite = write_yaml(folder / "suite.yaml", EVAL)
    assert "./none: no such" in refusal(capsys, "eval", "./none", "--suite", suite, "--out", "run")
    probe = write_yaml(folder / "probe.yaml", {"model": "./none", "tiles": TINY_TILES})
    assert "model: ./none" in refusal(capsys, "probe", probe, "--out", "run")
    assert "model: ./none" in refusal(
        capsys,
        "ablate",
        "tokens",
        write_yaml(folder / "l.yaml", {"tiles": TINY_TILES, "model": "./none"}),
    )
    assert "none" in refusal(capsys, "report", "none")
    assert not (folder / "run").exists()


def test_pictures_for_a_gpt2_without_a_vision_tower(folder, lm_run, capsys):
    suite = write_yaml(folder / "suite.yaml", EVAL)
    argv = ("eval", lm_run, "--suite", suite, "--out", "run", "--modalities", "[image]")
    assert "modalities" in refusal(capsys, *argv)
    assert not (folder / "run").exists()
    config = write_yaml(folder / "probe.yaml", {"model": str(lm_run), "tiles": TINY_TILES})
    for command in (("probe",), ("ablate", "tokens")):
        line = refusal(capsys, *command, config, "--out", "run")
        assert "a GPT-2 has no vision tower; a GPT-2v is needed: a run of `mm train`" in line
        assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("grid.palette", 11), ("grid.rows", 3), ("tiles.source", "folder")]
)
def test_an_evaluations_mistake_names_its_file_and_key(folder, mm_run, capsys, key, value):
    suite = write_yaml(folder / "suite.yaml", changed(EVAL, key, value))
    line = refusal(capsys, "eval", mm_run, "--suite", suite, "--out", "run")
    assert "suite.yaml" in line
    assert key.split(".")[-1] in line or "tiles.path" in line
    assert not (folder / "run").exists()


@pytest.fixture
def folder_yaml(folder):
    """LM-Train on a folder of pictures."""
    root = helpers.picture_folder(folder / "pictures", names=("ant", "bee", "cow", "elk"))
    tiles = {"source": "folder", "path": str(root), "size": 16}
    return write_yaml(folder / "folder.yaml", {**TINY_LM, "tiles": tiles})


def test_pictures_of_ones_own_train(folder, folder_yaml):
    options = ["--data.stages.0.steps", "1", "--train.eval_grids", "2", "--out", "run"]
    assert main(["lm", "train", str(folder_yaml), *options]) == 0


def test_broken_tiles(folder, folder_yaml, capsys):
    def line(*options):
        refused = refusal(capsys, "lm", "train", folder_yaml, "--out", "run", *options)
        assert any(name in refused for name in options or ["folder.yaml"])
        assert not (folder / "run").exists()
        return refused

    root = folder / "pictures"
    assert "tiles.path: none: no such folder" in line("--tiles.path", "none")
    (root / "cow" / "2.png").write_bytes((root / "cow" / "2.png").read_bytes()[:90])
    assert str(root / "cow" / "2.png") in line()
    (root / "cow" / "2.png").unlink()
    palette = line("--data.stages.0.mix.0.palette", "5")
    assert "palette: 5 objects, but the folder tiles have 4 classes" in palette
    (folder / "c").mkdir()
    for part in ("train", "test"):
        (folder / "c" / f"{part}-0.parquet").write_bytes(b"PAR1 no parquet")
    damaged = line("--tiles.source", "cifar10", "--tiles.path", "c")
    assert "test-0.parquet: not a readable parquet" in damaged


def test_an_existing_run_is_not_replaced(folder, lm_yaml, capsys):
    options = ["--data.stages.0.steps", "1", "--train.eval_grids", "2", "--out", "run"]
    assert main(["lm", "train", str(lm_yaml), *options]) == 0
    capsys.readouterr()
    results = folder / "run/results.json"
    results.write_text(
        before := results.read_text() + "\n"
    )  # so that it differs from that of any other run
    argv = ("lm", "train", lm_yaml, *options)
    assert "run: already holds a run" in refusal(capsys, *argv)
    line = refusal(capsys, *argv, "--overwrite", "--model.n_positions", "40")
    assert "n_positions" in line
    assert results.read_text() == before
    assert sorted(p.name for p in folder.iterdir()) == ["lm.yaml", "run"]
    assert main([*map(str, argv), "--overwrite"]) == 0
    assert not results.read_text().endswith("\n\n")


def test_a_loss_that_is_not_finite_is_one_line_in_a_process_of_its_own(folder, lm_yaml):
    """No background work may complain that the directory is gone."""
    command = [sys.executable, "-m", "gpt2v", "lm", "train", str(lm_yaml), "--out", "run"]
    command += ["--train.groups.0.lr", "1e38", "--train.clip", "null", "--train.warmup", "0"]
    command += ["--train.log_every", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if " left" not in line]
    assert len(lines) == 1, done.stderr
    assert "the loss is nan" in lines[0]
    assert not Path("run").exists()


def test_an_unwritable_sheet_and_a_wrong_number(folder, capsys):
    config = write_yaml(folder / "suite.yaml", EVAL)
    argv = ("data", "preview", config)
    png = "suite.yaml/sheet.png"  # below a file
    assert f"--png: {png}" in refusal(capsys, *argv, "--png", png)
    assert "--n" in refusal(capsys, *argv, "--n", "0")
    assert "--n" in refusal(capsys, *argv, "--n", "many")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", TORCHRUN: "1"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "1", TORCHRUN: "1"}, True),  # it was not ended: only it has the mistake
    ],
)
def test_one_of_several_processes_tells_a_mistake(folder, capsys, monkeypatch, variables, says):
    waits = []
    monkeypatch.setattr("gpt2v.cli.main.time.sleep", waits.append)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["lm", "train", "none.yaml"]) == 2
    assert ("none.yaml" in capsys.readouterr().err) == says
    assert len(waits) == (variables == {"LOCAL_RANK": "1", TORCHRUN: "1"})


def test_a_process_that_torchrun_ends_leaves_a_mistake_to_the_first(folder, capsys, monkeypatch):
    def ended(seconds):
        raise Stopped("stopped by SIGTERM", 15)

    monkeypatch.setattr("gpt2v.cli.main.time.sleep", ended)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(TORCHRUN, "1")
    assert main(["lm", "train", "none.yaml"]) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [Stopped("stopped by SIGTERM", 15), KeyboardInterrupt()])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_stop_of_several_processes_is_said_by_the_first_at_once(capsys, monkeypatch, error, rank):
    def stopped(argv):
        raise error

    monkeypatch.setattr("gpt2v.cli.main._command", stopped)
    monkeypatch.setattr("gpt2v.cli.main.time.sleep", None)  # nothing waits
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv(TORCHRUN, "1")
    assert main([]) > 128
    assert ("stopped" in capsys.readouterr().err) == (rank == "0")
