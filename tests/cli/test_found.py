"""What a command has found is printed at its end, before the path of the run."""

import json
import shutil
from hashlib import sha256

import pytest

from gpt2v.cli.found import found
from gpt2v.cli.main import main
from gpt2v.config.load import merge
from helpers import TINY_ENCODER, TINY_LM, TINY_TILES, write_yaml

RATES = {"accuracy": 0.5, "ci95": [0.25, 0.756]}
ROW = {**RATES, "chance": 0.25, "blind_accuracy": 0.3, "bag_accuracy": 0.4, "n_questions": 9000}
SMALL = ["--n-images", "4", "--examples", "0"]


def run_and_read(capsys, *argv):
    """The lines on standard output."""
    assert main([str(word) for word in argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


def test_rates_are_in_percent_with_the_baselines_and_the_gap():
    rows = [
        {**ROW, "part": "p", "instruction": "count", "modality": "text"},
        {**ROW, "part": "p", "instruction": "count", "modality": "image", "accuracy": 0.125},
    ]
    lines = found({"kind": "eval", "results": rows, "gap": 0.375, "gap_ci95": [0.3, 0.451]})
    table = [line.split() for line in lines]
    assert table[1] == [
        "p",
        "count",
        "text",
        "50.0%",
        "[25.0,",
        "75.6]",
        "25.0%",
        "30.0%",
        "40.0%",
        "9,000",
    ]
    assert table[2][:4] == ["p", "count", "image", "12.5%"]
    assert lines[3] == "gap, text minus image: +37.5 points [+30.0, +45.1]"
    assert len({len(line) for line in lines[:3]}) == 1  # aligned


def test_text_alone_has_no_gap():
    row = {**ROW, "instruction": "lookup", "modality": "text"}
    assert "gap" not in " ".join(found({"kind": "eval", "results": [row]}))


def test_what_is_said_of_grids_with_few_contents():
    many = {"n_images": 1000, "n_contents": 998, "held_out_contents": True, "modality": "text"}
    few, small = {**many, "n_contents": 52}, {**many, "n_contents": 840, "held_out_contents": False}

    def said(**parts):
        rows = [
            {**ROW, "instruction": "lookup", **row, "part": part} for part, row in parts.items()
        ]
        return [line for line in found({"kind": "eval", "results": rows}) if "text: " in line]

    assert said(a=many) == []
    assert said(a={**small, "modality": "image"}) == []  # its tiles are new
    assert said(a=few) == ["text: 1,000 grids of a have 52 contents"]
    assert said(a=small, b=many, c=few, d=small) == [
        "text: training may have shown the same tables: a, d",
        "text: 1,000 grids of c have 52 contents",
    ]
    alone = {**ROW, "instruction": "lookup", **small, "n_contents": 52}
    assert found({"kind": "eval", "results": [alone]})[2:] == [
        "text: training may have shown the same tables: grids",
        "text: 1,000 grids have 52 contents",
    ]


def test_baselines_that_are_not_known_are_empty():
    row = {**ROW, "instruction": "count", "modality": "text", "questions": "chained"}
    row |= {"blind_accuracy": None, "bag_accuracy": None}
    head, line, *rest = found({"kind": "eval", "results": [row]})
    assert line.rstrip().split()[-3:] == [*line.split()[-3:-2], "25.0%", "9,000"]
    assert len(head) == len(line)
    assert rest == ["each question is read after the earlier ones and their answers"]


def test_a_probe_shows_all_cells_together_and_its_controls():
    row = {**RATES, "palette_accuracy": 0.75, "palette_ci95": [0.7, 0.8]}
    row |= {"site": "vision", "layer": 2, "decoder": "ridge"}
    rows = [
        {**row, "cell": "all", "control": "none"},
        {**row, "cell": "all", "control": "shuffled-labels"},
        {**row, "cell": [0, 0], "control": "none", "accuracy": 0.9},
    ]
    lines = found({"kind": "probe", "results": rows})
    names = [" ".join(line.split("  ")[1:2]) for line in lines[1:]]
    assert names == ["vision.2: ridge", "vision.2: ridge, control shuffled-labels"]
    assert "75.0%  [70.0, 80.0]" in lines[1].replace("   ", "  ")


@pytest.mark.parametrize(
    ("kind", "row", "says"),
    [
        ("lm", {"split": "val", "n_images": 200, "text 3x3_accuracy": 0.995}, "val (200 grids):"),
        ("lm", {"split": "val", "n_images": 200, "s 16_loss": 2.5}, "val:"),  # it has no grids
        ("encoder", {"split": "test", "n_images": 300, "a_accuracy": 0.1}, "test (300 tiles):"),
    ],
)
def test_a_training_shows_its_last_validation(kind, row, says):
    done = {"kind": kind, "seconds": 12.3, "steps": 1500, "best_step": 1500, "results": [row]}
    lines = found(done)
    assert lines[0] == f"after 1,500 steps, 12 s, {says}"
    name = list(row)[-1].replace("_", " ")
    value = list(row.values())[-1]
    shown = f"{100 * value:.1f}%" if name.endswith("accuracy") else f"{value:.4f}"
    assert lines[1:] == [f"  {name}  {shown}"]


def test_a_training_whose_end_is_not_its_best_says_so():
    row = {"split": "val", "n_images": 9, "x_accuracy": 0.5}
    done = {"kind": "mm", "seconds": 1, "steps": 20, "best_step": 8, "results": [row]}
    assert found(done)[0].endswith("val (9 grids); the best was that after step 8:")


def test_a_demo_shows_its_rates_and_the_gap():
    def row(model, modality, accuracy):
        return {"model": model, "modality": modality, "accuracy": accuracy, "ci95": [0, 1]}

    rows = [row("gpt2v", "text", 1.0), row("gpt2v", "image", 0.75), row("lm", "text", 0.5)]
    rates = {"probe_palette_accuracy": 0.9, "blind_accuracy": 0.25, "bag_accuracy": 0.4}
    gap = {"gap": 0.25, "gap_ci95": [0.2, 0.3]}
    done = {"kind": "demo", "results": rows, "n_questions": 9000, "n_images": 1000, **rates, **gap}
    lines = found(done)
    assert "9,000 questions about 1,000 new grids" in lines[0]
    assert [line.split()[-3] for line in lines[1:4]] == ["100.0%", "75.0%", "50.0%"]
    assert [line.split()[-1] for line in lines[4:7]] == ["90.0%", "25.0%", "40.0%"]
    assert lines[7] == "gap, text minus image: +25.0 points [+20.0, +30.0]"


@pytest.mark.parametrize(("command", "content"), [("lm", TINY_LM), ("encoder", TINY_ENCODER)])
def test_a_training_prints_it_before_its_path(command, content, tmp_path, capsys):
    short = {"lm": {"data.stages.0.steps": 1, "train.eval_grids": 2}, "encoder": {"steps": 1}}
    config = write_yaml(tmp_path / "c.yaml", merge(content, short[command], "c"))
    argv = (command, "train", config, "--overwrite", "--out", tmp_path / "r")
    run_and_read(capsys, *argv)
    assert main([str(word) for word in argv]) == 0  # it reads what itself has just replaced
    said = capsys.readouterr()
    assert "in use" not in said.err
    lines = said.out.splitlines()
    assert lines[-1] == f"run: {tmp_path / 'r'}"
    assert any(line.startswith("after ") for line in lines)
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert lines[-1 - len(found(results)) : -1] == found(results)


def test_results_name_the_weights(mm_run, tmp_path, capsys):
    lines = run_and_read(capsys, "eval", mm_run, *SMALL, "--out", tmp_path / "e")
    told = json.loads((tmp_path / "e" / "results.json").read_text())["checkpoint"]
    newest = max((mm_run / "checkpoints").iterdir(), key=lambda path: path.name)
    assert (told["model"], told["checkpoint"]) == (str(mm_run), newest.name)
    assert (told["chosen"], told["step"]) == ("newest", int(newest.name[5:]))
    content = sha256((newest / "model.safetensors").read_bytes()).hexdigest()
    assert told["weights"] == sha256(content.encode()).hexdigest()[:16]
    assert lines[0] == (f"model: {mm_run}: {newest.name} (the newest), weights {told['weights']}")


def test_a_checkpoint_elsewhere_is_named_and_has_the_same_hash(mm_run, tmp_path, capsys):
    """Also without a manifest, as checkpoints of other tools are."""
    newest = max((mm_run / "checkpoints").iterdir(), key=lambda path: path.name)
    copy = shutil.copytree(newest, tmp_path / "copy")
    (copy / "MANIFEST.json").unlink()
    told = []
    for model in (newest, copy):
        options = ["--tiles.per_class", TINY_TILES["per_class"], "--tiles.size", TINY_TILES["size"]]
        options += ["--grid.rows", 1, "--grid.cols", 2, "--overwrite", "--out", tmp_path / "e"]
        run_and_read(capsys, "eval", model, *SMALL, *options)
        told.append(json.loads((tmp_path / "e" / "results.json").read_text())["checkpoint"])
    assert [one["chosen"] for one in told] == ["named", "named"]
    assert told[0]["weights"] == told[1]["weights"]
    assert (told[0]["step"], told[1]["step"]) == (int(newest.name[5:]), None)
