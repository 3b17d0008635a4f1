"""Everything that a user may add works from a file outside the package, through `--import`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from gpt2v import extensions, registry
from gpt2v.cli.main import main
from gpt2v.config.choice import OneOf
from gpt2v.config.load import merge
from gpt2v.registry import PROJECTORS, REGISTRIES
from helpers import (
    REPO,
    TINY_LM,
    TINY_MM,
    TINY_TILES,
    forget_imports,
    refusal,
    write_yaml,
)

EXAMPLE = REPO / "examples" / "own_parts.py"
IMPORT = ("--import", str(EXAMPLE))


@pytest.fixture(autouse=True)
def fresh():
    """Nothing that a test imports is left to the others."""
    with forget_imports():
        extensions._imported = {}
        yield


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*argv):
    assert main([*map(str, argv)]) == 0


def help_of(capsys, *argv):
    with pytest.raises(SystemExit):
        main([*argv, *IMPORT, "--help"])
    return capsys.readouterr().out


def gated(place, lm_run, out="gated"):
    """A GPT-2v with the example's projector."""
    config = write_yaml(
        place / "mm.yaml",
        {**TINY_MM, "lm": str(lm_run), "projector": {"name": "gated", "bias": 1.0}},
    )
    run("mm", "train", config, "--out", out, *IMPORT)
    return place / out


def test_a_projector_trains_and_opens_again(place, lm_run, capsys):
    model = gated(place, lm_run)
    written = yaml.safe_load((model / "config.yaml").read_text())
    assert written["projector"] == {"name": "gated", "bias": 1.0}
    run("eval", model, *IMPORT, "--tiles", json.dumps(TINY_TILES), "--n_images", "5",
        "--grid", "{rows: 1, cols: 2}", "--out", "e")  # fmt: skip
    again = ("mm", "train", model / "config.yaml", "--out", "again", *IMPORT)
    run(*again)
    weights = [p / "checkpoints/step-000003/model.safetensors" for p in (model, place / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    shown = help_of(capsys, "mm", "train")
    assert "pixel-shuffle, convex, gated" in shown
    assert (
        "--projector.bias  option of gated: bias of the gates before training (default 0.0)"
        in shown
    )
    wrong = ("mm", "train", place / "mm.yaml", "--out", "w", *IMPORT)
    said = refusal(capsys, *wrong, "--projector.slope", "1")
    assert "mm.yaml: projector: slope: unknown key; the keys here are bias" in said
    assert "projector: bias: Input should be a valid number" in refusal(
        capsys, *wrong, "--projector.bias", "high"
    )
    assert "projector: hidden: the projector 'linear' has no options" in refusal(
        capsys, *wrong, "--projector", "{name: linear, hidden: 3}"
    )


def test_an_instruction_is_learnt_exported_and_measured(place, capsys):
    mix = [{"rows": 1, "cols": 2, "instructions": {"corner": 1, "lookup": {"weight": 2}}}]
    content = merge(TINY_LM, {"data.stages.0.mix": mix, "data.stages.0.steps": 3}, "x")
    config = write_yaml(place / "lm.yaml", content)
    run("lm", "train", config, "--out", "lm", *IMPORT)
    suite = {"tiles": TINY_TILES, "n_images": 6,
             "grid": {"rows": 1, "cols": 2, "instructions": {"corner": 1.0}}}  # fmt: skip
    suite = write_yaml(place / "suite.yaml", suite)
    run("eval", "lm", "--suite", suite, "--modalities", "[text]", "--out", "e", *IMPORT)
    (row,) = json.loads(Path("e/results.json").read_text())["results"]
    assert (row["instruction"], row["n_questions"]) == ("corner", 12)
    truth = pq.read_table("e/records.parquet").to_pandas()
    assert set(truth[truth.col == 0].truth) == {"yes"}  # the corner itself
    run("data", "preview", suite, "--n", "1", "--png", "p.png", *IMPORT)
    assert "hold what the top left corner holds? A: yes" in capsys.readouterr().out
    assert "corner" in help_of(capsys, "lm", "train")
    assert "suite.yaml: grid.instructions.corner: no such instruction: 'corner'" in run_without(
        "eval", "lm", "--suite", suite
    )


def test_a_token_source_trains_and_its_rung_is_climbed(place, lm_run, mm_run, capsys):
    mm = write_yaml(place / "mm.yaml", {**TINY_MM, "lm": str(lm_run), "vision_tokens": "one-word"})
    run("mm", "train", mm, "--out", "blind", *IMPORT)
    measured = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 8}
    suite = write_yaml(place / "suite.yaml", {**measured, "modalities": ["image"]})
    run("eval", "blind", "--suite", suite, "--out", "e", *IMPORT)
    records = pq.read_table("e/records.parquet").to_pandas()
    both = (place / "suite.yaml", "--modalities", "[text+image]")
    assert "text+image: this model was not trained on pictures" in refusal(
        capsys, "eval", "blind", "--out", "f", *IMPORT, "--suite", *both
    )
    for _, same in records.groupby(["row", "col", records.palette.map(tuple)]):
        assert same.prediction.nunique() == 1  # nothing is seen
    ladder = write_yaml(
        place / "ladder.yaml",
        {**measured, "model": str(mm_run), "rungs": ["R0", "R3", "blank", "R4"]},
    )
    run("ablate", "tokens", ladder, "--out", "l", *IMPORT)
    rows = json.loads(Path("l/results.json").read_text())["results"]
    assert [(row["rung"], row["parent"]) for row in rows] == [
        ("R0", None), ("R3", None), ("blank", "R3"), ("R4", "R3"),
    ]  # fmt: skip
    run("report", "l", *IMPORT)
    page = Path("l/report/index.html").read_text()
    assert "blank · one word everywhere" in page
    assert "R0, R1, R2, R3, R4, blank" in help_of(capsys, "ablate", "tokens")
    assert "cell-embeddings, one-word" in help_of(capsys, "mm", "train")


def test_a_metric_and_its_section_are_in_the_report(place, mm_run, capsys):
    suite = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 8}
    suite = write_yaml(place / "suite.yaml", {**suite, "metrics": ["accuracy", "confidence"]})
    run("eval", mm_run, "--suite", suite, "--out", "e", *IMPORT)
    rows = json.loads(Path("e/results.json").read_text())["results"]
    assert all(0 < row["confidence"] <= 1 for row in rows)
    run("report", "e", *IMPORT)
    page = Path("e/report/index.html").read_text()
    assert '<section id="confidence">' in page
    assert '<a href="#confidence">Confidence</a>' in page
    assert f"confident {rows[0]['confidence']:.1%}" in page
    assert "confidence" in help_of(capsys, "eval")


def test_an_executor_writes_what_the_serial_one_writes(place, capsys):
    data = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 6, "shard_size": 2}
    config = write_yaml(place / "c.yaml", data)
    export = ("data", "export", config, "--format", "folder")
    run(*export, "--to", "one")
    capsys.readouterr()
    run(*export, "--to", "two", "--executor", "{name: backwards, loud: true}", *IMPORT)
    assert capsys.readouterr().out.split("export")[0].split() == [
        "shard",
        "2",
        "shard",
        "1",
        "shard",
        "0",
    ]
    files = {p.relative_to("one") for p in Path("one").rglob("*") if p.is_file()}
    for file in files - {Path("manifest.json")}:
        assert (Path("one") / file).read_bytes() == (Path("two") / file).read_bytes()
    assert "backwards" in help_of(capsys, "data", "export")
    assert "--executor: lout: unknown key" in refusal(
        capsys, *export, "--to", "x", "--executor", "{name: backwards, lout: true}", *IMPORT
    )


OWN_DATA = '''
import numpy as np
from gpt2v.config.base import Config
from gpt2v.data.tiles.bank import SPLITS, SplitTiles, TileBank
from gpt2v.probe.controls import CONTROLS
from gpt2v.registry import TEXT_FORMS, TILE_SOURCES
from gpt2v.data.text_pieces import EMPTY


class GreyOptions(Config):
    step: int = 20


@TILE_SOURCES.register("greys", options=GreyOptions)
def greys(config, options):
    """Plain grey tiles, darker for every class."""
    names = ("ash", "coal", "dove", "iron", "lead")
    def split(number):
        counts = np.full(len(names), 20)
        labels = np.repeat(np.arange(len(names)), 20)
        level = options.step * labels + np.tile(np.arange(20), len(names)) // 7
        pixels = np.broadcast_to(
            level[:, None, None, None], (100, config.size, config.size, 3)
        ).astype(np.uint8)
        return SplitTiles(counts, [f"grey/{number}/{i}" for i in range(100)], lambda: pixels)
    splits = {name: split(number) for number, name in enumerate(SPLITS)}
    return TileBank("greys", names, config.size, splits)


@TEXT_FORMS.register("dots")
def dots(samples, names, table, view):
    """`. ash. coal`, in one line."""
    words = np.append(table.ids([f" {name}" for name in names]), EMPTY)[samples.classes]
    marks = np.where(words == EMPTY, EMPTY, table.id("."))
    lines = np.stack([marks, words], -1).reshape(len(words), -1)
    return np.concatenate([lines, np.full((len(lines), 1), table.id("\\n"))], 1)


@CONTROLS.register("first-class")
def first_class(labels, generator):
    """Every label is the first class."""
    return np.zeros_like(labels)
'''


def test_tiles_a_text_form_and_a_control(place, mm_run, capsys):
    own = place / "own.py"
    own.write_text(OWN_DATA)
    data = {"tiles": {"source": {"name": "greys", "step": 30}, "size": 16}, "n_images": 4,
            "grid": {"rows": 1, "cols": 2, "form": "dots"}, "shard_size": 2}  # fmt: skip
    config = write_yaml(place / "c.yaml", data)
    run("data", "preview", config, "--n", "1", "--png", "p.png", "--import", own)
    assert ". ash. " in (text := capsys.readouterr().out) or ". " in text.splitlines()[1]
    for executor in ("serial", "processes"):
        export = ("data", "export", config, "--format", "parquet", "--import", own)
        run(*export, "--to", executor, "--executor", executor)
    files = [p.relative_to("serial") for p in Path("serial").rglob("*") if p.is_file()]
    assert [f for f in files if f.parts[0] == "imports"]
    for file in files:
        assert (Path("serial") / file).read_bytes() == (Path("processes") / file).read_bytes()
    probe = {"tiles": TINY_TILES, "model": str(mm_run), "grid": {"rows": 1, "cols": 2}}
    probe |= {"n_train": 30, "n_test": 20, "controls": ["shuffled-labels", "first-class"]}
    run("probe", write_yaml(place / "probe.yaml", probe), "--out", "p", "--import", own)
    rows = json.loads(Path("p/results.json").read_text())["results"]
    assert [row["control"] for row in rows[:3]] == ["none", "shuffled-labels", "first-class"]
    records = pq.read_table("p/records.parquet").to_pandas()
    assert rows[2]["accuracy"] == pytest.approx((records.truth == "airplane").mean())


# ---- the record, and runs that need a file -----------------------------------------------------


def run_without(*argv):
    """What the command says on one line in a process that has imported nothing, and its status."""
    done = subprocess.run(
        [sys.executable, "-m", "gpt2v", *map(str, argv)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_run_keeps_a_copy_and_needs_the_same_file(place, lm_run, capsys, monkeypatch):
    own = shutil.copy(EXAMPLE, place / "own.py")
    config = {**TINY_MM, "lm": str(lm_run), "projector": "gated"}
    train = ("mm", "train", write_yaml(place / "mm.yaml", config), "--out", "m")
    run(*train, "--import", own)
    (record,) = json.loads(Path("m/imports/imports.json").read_text())
    copy = Path("m/imports") / record["copy"]
    assert copy.read_bytes() == Path(own).read_bytes()
    monkeypatch.setattr(extensions, "_imported", {})
    needs = f"was made with --import own.py (sha256 {record['sha256'][:12]})"
    for argv in (
        ("eval", "m", "--out", "x"),
        ("eval", "m/checkpoints/step-000003", "--out", "x"),
        ("report", "m"),
        ("mm", "export", "m", "--to", "x"),
        ("mm", "train", "m/config.yaml", "--out", "x"),
        (*train, "--resume"),
    ):
        said = refusal(capsys, *argv)
        assert f": m: {needs}" in said
        assert str(copy) in said
    assert not Path("x").exists()

    Path(own).write_text(Path(own).read_text() + "# changed\n")
    for one in REGISTRIES:
        for name in [n for n, entry in one.items() if entry.sha256]:
            del one._entries[name]
    said = refusal(capsys, "eval", "m", "--out", "x", "--import", own)
    assert "has changed since" in said
    assert needs in said


def test_the_copy_opens_the_run(place, lm_run, capsys):
    gated(place, lm_run, "m")
    (copy,) = Path("m/imports").glob("*.py")
    done = subprocess.run(
        [sys.executable, "-m", "gpt2v", "report", "m", "--import", str(copy)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_workers_refuse_a_file_that_has_changed(place, capsys):
    own = place / "own.py"
    own.write_text(OWN_DATA)
    extensions.import_file(own)
    (sent,) = extensions.imported()
    own.write_text(OWN_DATA + "# changed\n")
    code = f"from gpt2v import extensions; extensions.import_all([{sent!r}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "own.py: has changed (sha256" in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "own.py: cannot be read: No such file or directory"),
        ("def broken(:\n", "own.py: line 1: SyntaxError: "),
        ("\n\nimport not_there\n", "own.py: line 3: ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", "own.py: line 1: SystemExit: 3"),
        (
            "from gpt2v.registry import PROJECTORS\n@PROJECTORS.register('mlp')\ndef mlp(): ...\n",
            "own.py: the projector 'mlp' exists already; choose another name",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(place, capsys, content, says):
    if content is not None:
        (place / "own.py").write_text(content)
    said = refusal(capsys, "data", "suites", "--import", "own.py")
    assert said.startswith("gpt2v: --import: own.py: ")
    assert says in said
    assert "--import: needs a file" in refusal(capsys, "data", "suites", "--import")


def test_choices_are_equal_where_name_and_options_are():
    of = OneOf(PROJECTORS, "mlp").validate
    plain, wide = of("mlp"), of({"name": "mlp", "hidden_size": 7})
    assert plain == "mlp" == of({"name": "mlp"})
    assert plain == of({"hidden_size": None})
    assert plain != wide
    assert wide == of({"hidden_size": 7}) == wide.plain()["name"]
    assert wide.plain() == {"name": "mlp", "hidden_size": 7}
    assert plain.hashed() == "mlp"
    assert wide.hashed() == wide.plain()
    assert registry.choose(PROJECTORS, wide) is wide


def test_what_a_user_s_file_registers_is_hashed_with_the_file(place):
    own = place / "own.py"
    text = "from gpt2v.registry import TEXT_FORMS\n@TEXT_FORMS.register('mine')\ndef mine(): ..."
    hashes = set()
    for content in (text, text + "\n# other"):
        own.write_text(content)
        extensions.import_file(own)
        hashes.add(str(registry.choose(registry.TEXT_FORMS, "mine").hashed()))
        del registry.TEXT_FORMS._entries["mine"]
    assert len(hashes) == 2
    assert os.path.basename(own) not in str(hashes)
