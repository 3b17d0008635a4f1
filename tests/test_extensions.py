"""Everything that a user may add works from a file outside the package, through `--import`."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from gpt2v import extensions, registry
from gpt2v.cli.main import main
from gpt2v.config.choice import OneOf, choose
from gpt2v.config.load import merge
from gpt2v.errors import UserError
from gpt2v.packaged import EXAMPLES
from gpt2v.registry import PROJECTORS, REGISTRIES
from helpers import (
    QUICK_PROBE,
    TINY_LM,
    TINY_MM,
    TINY_TILES,
    forget_imports,
    refusal,
    tower_checkpoint,
    write_yaml,
)

EXAMPLE = EXAMPLES.path("gpt2v:own_parts")
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
    return " ".join(capsys.readouterr().out.split())  # without its line breaks


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
    assert "mlp, pixel-shuffle, gated" in shown
    assert "--projector.bias gated: bias of the gates before training (number; default: 0)" in shown
    wrong = ("mm", "train", place / "mm.yaml", "--out", "w", *IMPORT)
    said = refusal(capsys, *wrong, "--projector.slope", "1")
    assert "--projector.slope: unknown key; the keys here are bias" in said
    assert "--projector.bias: Input should be a valid number" in refusal(
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
    assert "spliced-text, one-word" in help_of(capsys, "mm", "train")


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
        "piece",
        "2",
        "piece",
        "1",
        "piece",
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
from gpt2v.probing.controls import CONTROLS
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
    executors = ["processes"] + ["ray"] * (importlib.util.find_spec("ray") is not None)
    for executor in ("serial", *executors):
        export = ("data", "export", config, "--format", "parquet", "--import", own)
        run(*export, "--to", executor, "--executor", executor)
    files = [p.relative_to("serial") for p in Path("serial").rglob("*") if p.is_file()]
    assert [f for f in files if f.parts[0] == "imports"]
    for executor in executors:
        for file in files:
            assert (Path("serial") / file).read_bytes() == (Path(executor) / file).read_bytes()
    probe = {"tiles": TINY_TILES, "model": str(mm_run), "grid": {"rows": 1, "cols": 2}}
    probe |= {**QUICK_PROBE, "controls": ["shuffled-labels", "first-class"]}
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
    assert wide.plain() == {"name": "mlp", "hidden_size": 7, "dropout": 0.0}
    assert plain.hashed() == "mlp"
    assert wide.hashed() == {"name": "mlp", "hidden_size": 7}
    assert choose(PROJECTORS, wide) is wide


def test_what_a_user_s_file_registers_is_hashed_with_the_file(place):
    own = place / "own.py"
    text = "from gpt2v.registry import TEXT_FORMS\n@TEXT_FORMS.register('mine')\ndef mine(): ..."
    hashes = set()
    for content in (text, text + "\n# other"):
        own.write_text(content)
        extensions.import_file(own)
        hashes.add(str(choose(registry.TEXT_FORMS, "mine").hashed()))
        del registry.TEXT_FORMS._entries["mine"]
    assert len(hashes) == 2
    assert os.path.basename(own) not in str(hashes)


# ---- what a part of one's own may get wrong ----------------------------------------------------


def import_text(place, text, name="own.py"):
    (place / name).write_text(text)
    extensions.import_file(place / name)


def test_an_import_changes_no_hash_of_what_is_built_in(place):
    """Also where the file is the first to import a built-in part's module."""
    code = """
import sys
from gpt2v import extensions, registry
from gpt2v.config.choice import Choice
if len(sys.argv) > 1:
    extensions.import_file(sys.argv[1])
print(*(f"{one.title}/{name}: {Choice(name, one).hashed()}" for one in registry.REGISTRIES
        for name in sorted(one) if isinstance(one[name].at, str)
        or one[name].at.__module__.startswith("gpt2v.")), sep="\\n")
"""
    hashes = [
        subprocess.run(
            [sys.executable, "-c", code, *more], capture_output=True, text=True, check=True
        ).stdout
        for more in ([], [str(EXAMPLE)])
    ]
    assert hashes[0] == hashes[1] != ""


def test_an_option_on_the_command_line_wins_over_a_name_there(place, lm_run):
    config = write_yaml(place / "mm.yaml", {**TINY_MM, "lm": str(lm_run), "projector": "gated"})
    for number, more in enumerate((["--projector", "gated"], [])):
        run("mm", "train", config, "--out", number, "--projector.bias", "3", *more, *IMPORT)
        written = yaml.safe_load(Path(f"{number}/config.yaml").read_text())
        assert written["projector"] == {"name": "gated", "bias": 3.0}


OWN_SOURCE = '''
import torch
from pydantic import Field
from gpt2v.ablate.rungs import Rung
from gpt2v.config.base import Config
from gpt2v.model.vision_tokens import ProjectedPatches
from gpt2v.registry import CONTROLS, METRICS, RUNGS, TOKEN_SOURCES

class Options(Config):
    k: float = 1.0

@TOKEN_SOURCES.register("scaled", options=Options)
class Scaled(ProjectedPatches):
    """The projected patches, times k."""
    def __init__(self, model, render, options):
        super().__init__(model, render)
        self.k = options.k
    def __call__(self, batch):
        return self.k * super().__call__(batch)

@RUNGS.register("S")
class S(Rung):
    """Scaled patches."""
    title, layout, source = "scaled", "image", {"name": "scaled", "k": 0.0}

@RUNGS.register("wrong-option")
class W(Rung):
    """A source with a wrong option."""
    title, layout, source = "wrong", "image", {"name": "scaled", "q": 1}

@RUNGS.register("wrong-layout")
class L(Rung):
    """No such layout."""
    title, layout = "wrong", "imagee"

@CONTROLS.register("in-place")
def in_place(labels, generator):
    """Spoils what it is given."""
    labels[:] = 0
    return labels
'''


def test_a_source_that_extends_the_patches_is_itself(place, lm_run, mm_run, capsys):
    import_text(place, OWN_SOURCE)
    measured = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 8}
    ladder = write_yaml(place / "l.yaml", {**measured, "model": str(mm_run), "rungs": ["R0", "S"]})
    run("ablate", "tokens", ladder, "--out", "l")
    mm = write_yaml(
        place / "mm.yaml",
        {**TINY_MM, "lm": str(lm_run), "vision_tokens": {"name": "scaled", "k": 0.0}},
    )
    run("mm", "train", mm, "--out", "m", "--train.log_every", "1")
    run("mm", "train", mm, "--out", "n", "--train.log_every", "1", "--vision_tokens", "patches")

    def losses(out):
        lines = Path(out, "metrics.jsonl").read_text().splitlines()
        return [json.loads(line).get("loss") for line in lines[:3]]

    assert losses("m") != losses("n")
    for rungs, says in (
        ("[wrong-option]", "q: unknown key; the keys here are k"),
        ("[wrong-layout]", "rungs: wrong-layout: no such layout: 'imagee'; choose from"),
        ("[R0, R0]", "rungs: must name each once"),
    ):
        said = refusal(capsys, "ablate", "tokens", ladder, "--out", "x", "--rungs", rungs)
        assert says in said
        assert not Path("x").exists()


def test_a_control_cannot_spoil_another(place, mm_run):
    import_text(place, OWN_SOURCE)
    probe = {"tiles": TINY_TILES, "model": str(mm_run), "grid": {"rows": 1, "cols": 2}}
    probe = write_yaml(place / "probe.yaml", {**probe, **QUICK_PROBE})
    run("probe", probe, "--out", "one")
    run("probe", probe, "--out", "two", "--controls", "[in-place, shuffled-labels]")

    def accuracy(out, control):
        rows = json.loads(Path(out, "results.json").read_text())["results"]
        rows = [r for r in rows if r["cell"] == "all" and r["site"] == "pre-projector"]
        return [r["accuracy"] for r in rows if r["control"] == control]

    for control in ("none", "shuffled-labels"):
        assert accuracy("one", control) == accuracy("two", control)
        assert len(accuracy("one", control)) == 1


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("{'accuracy': 1.0}", "metrics: mine: the row has 'accuracy' already"),
        ("{'chance': 1.0}", "metrics: mine: the row has 'chance' already"),
        ("None", "metrics: mine: must return a mapping"),
        ("{'x': object}", "metrics: mine: x: must be a number, text, or a list"),
        ("{'x_ci95': 'wide'}", "metrics: mine: x_ci95: must be two numbers"),
    ],
)
def test_what_a_metric_may_not_return(place, mm_run, capsys, returned, says):
    import_text(
        place,
        "from gpt2v.registry import METRICS\n@METRICS.register('mine')\n"
        f"def mine(records):\n    return {returned}\n",
    )
    suite = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4}
    argv = ("eval", mm_run, "--suite", write_yaml(place / "s.yaml", suite), "--out", "e")
    assert says in refusal(capsys, *argv, "--metrics", "[accuracy, mine]")
    assert not Path("e").exists()
    assert "metrics: must include accuracy" in refusal(capsys, *argv, "--metrics", "[mine]")


def test_numbers_of_numpy_are_written(place, mm_run):
    import_text(
        place,
        "import numpy as np\nfrom gpt2v.registry import METRICS\n@METRICS.register('mine')\n"
        "def mine(records):\n    return {'x': np.float32(0.5), 'y': np.arange(2)}\n",
    )
    suite = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4}
    suite = write_yaml(place / "s.yaml", {**suite, "metrics": ["accuracy", "mine"]})
    run("eval", mm_run, "--suite", suite, "--out", "e")
    row = json.loads(Path("e/results.json").read_text())["results"][0]
    assert (row["x"], row["y"]) == (0.5, [0, 1])


HEAD = "from gpt2v.registry import *\nfrom gpt2v import registry as r\n"
BASE = HEAD + "from gpt2v.config.base import Config\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@r.METRICS.register\ndef m(x): ...", 'give the metric a name: register("NAME")'),
        ("@r.METRICS.register(3)\ndef m(x): ...", "give the metric a name"),
        ("@r.METRICS.register('m', options=dict)\ndef m(x): ...", "must be a class of options"),
        ("class O(Config):\n    name: str = 'x'\n@r.METRICS.register('m', options=O)\n"
         "def m(x): ...", "no option may be called 'name'"),
        ("class O(Config):\n    weight: int = 1\n@r.INSTRUCTIONS.register('m', options=O)\n"
         "class I: ...", "no option may be called 'weight'"),
        ("class O(Config):\n    k: int = 1\n@r.FORMATS.register('m', options=O)\nclass F: ...",
         "export formats have no options"),
        ("@r.CONTROLS.register('none')\ndef m(x): ...", "the control 'none' exists already"),
        ("@r.RUNGS.register('m')\nclass R:\n    title = 'x'", "needs an attribute 'layout'"),
        ("from gpt2v.report.section import Section\n@r.SECTIONS.register('m')\n"
         "class S(Section):\n    nav, kinds = 'x', 'mm'", "S.kinds: must be a tuple of kinds"),
        ("from gpt2v.model.families import Family\n@r.ENCODER_FAMILIES.register('m')\n"
         "class F(Family):\n    name, model_types, model, config = 'F', ('clip',), 'a', 'b'",
         "F.model_types: 'clip' belongs to CLIP already"),
        ("from gpt2v.errors import UserError\nraise UserError('two\\nlines')", "own.py: two"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_one_line(place, capsys, text, says):
    (place / "own.py").write_text(BASE + text)
    assert says in refusal(capsys, "data", "suites", "--import", "own.py")


def test_a_failed_import_leaves_nothing(place):
    good = HEAD + "@r.METRICS.register('mine')\ndef mine(records):\n    return {}\n"
    with pytest.raises(UserError, match=r"own\.py: line 6: ZeroDivisionError"):
        import_text(place, good + "1 / 0\n")
    assert "mine" not in registry.METRICS
    import_text(place, good)
    assert "mine" in registry.METRICS


def test_a_file_in_another_encoding_is_kept_as_it_is(place, lm_run):
    content = "# -*- coding: latin-1 -*-\n# caf\xe9\n".encode("latin-1")
    (place / "own.py").write_bytes(content)
    mm = write_yaml(place / "mm.yaml", {**TINY_MM, "lm": str(lm_run)})
    run("mm", "train", mm, "--out", "m", "--import", "own.py")
    (copy,) = Path("m/imports").glob("*.py")
    assert copy.read_bytes() == content


OWN_FORMAT = """
from gpt2v.data.export.base import Format, Written
from gpt2v.registry import EXECUTORS, FORMATS

@FORMATS.register("mine")
class Mine(Format):
    def shard(self, part, shard, items):
        return Written({NAME: b"one"})
    def finish(self, gathered):
        yield "whole.txt", [b"x"]

@EXECUTORS.register("half")
def half(job, pieces, workers):
    for piece in pieces if WHOLE else pieces[:1]:
        job.do(piece)
        yield piece
"""


def test_an_export_goes_on_with_the_same_file_only(place, capsys):
    data = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4, "shard_size": 2}
    config = write_yaml(place / "c.yaml", data)
    export = ("data", "export", config, "--to", "x", "--format", "mine", "--executor", "half")
    text = OWN_FORMAT.replace("NAME", 'f"{shard.name}.txt"')
    (place / "own.py").write_text(text.replace("WHOLE", "False"))
    said = refusal(capsys, *export, "--import", "own.py")
    assert "--executor: 000-00001 was not done; rerun to continue" in said
    (place / "other.py").write_text(text.replace("WHOLE", "True"))
    for one in REGISTRIES:
        one.forget(extensions.imported()[0][1])
    extensions._imported = {}
    assert "holds an export of something else: imports" in refusal(
        capsys, *export, "--import", "other.py"
    )
    escaping = OWN_FORMAT.replace("NAME", '"../x.txt"').replace("WHOLE", "True")
    (place / "escaping.py").write_text(escaping)
    for one in REGISTRIES:
        one.forget(extensions.imported()[0][1])
    extensions._imported = {}
    said = refusal(capsys, *export, "--overwrite", "--import", "escaping.py")
    assert "../x.txt: must be a file below the export's folder" in said
    assert not (place / "x.txt").exists()


def test_sections_are_chosen_and_have_options(place, mm_run, capsys):
    import_text(
        place,
        BASE + "from gpt2v.report.section import Section\n"
        "class O(Config):\n    word: str = 'plain'\n"
        "@r.SECTIONS.register('told', options=O)\nclass Told(Section):\n"
        "    nav, kinds = 'Told', ('*',)\n"
        "    def __init__(self, options):\n        self.word = options.word\n"
        "    def body(self, run):\n        return self.word\n",
    )
    suite = {"tiles": TINY_TILES, "grid": {"rows": 1, "cols": 2}, "n_images": 4}
    run("eval", mm_run, "--suite", write_yaml(place / "s.yaml", suite), "--out", "e")
    for more, sections, word in (
        ((), {"told", "again", "cells"}, "plain"),
        (("--sections", "[again, {name: told, word: loud}]"), {"told", "again"}, "loud"),
    ):
        run("report", "e", *more)
        page = Path("e/report/index.html").read_text()
        assert sections <= set(re.findall(r'<section id="([^"]+)"', page))
        assert ("cells" in sections) == ('id="cells"' in page)
        assert f'<section id="told">\n{word}</section>' in page
    assert "--sections: no such report section: 'nope'" in refusal(
        capsys, "report", "e", "--sections", "nope"
    )
    assert "--sections: loud: unknown key" in refusal(
        capsys, "report", "e", "--sections", "[{name: told, loud: 1}]"
    )


OWN_FAMILY = """
from gpt2v.config.base import Config
from gpt2v.model.families import CLIP
from gpt2v.registry import ENCODER_FAMILIES

class Options(Config):
    grey: float = 0.5

@ENCODER_FAMILIES.register("grey-clip", options=Options)
class GreyCLIP(CLIP):
    \"\"\"A CLIP that was trained on grey pictures.\"\"\"
    name, model_types = "grey CLIP", ()
    def __init__(self, options):
        self.mean = (options.grey,) * 3
"""


def test_an_encoder_family_is_chosen_with_options(place, lm_run, capsys):
    import_text(place, OWN_FAMILY)
    clip = tower_checkpoint("clip", place / "clip", processor=False)
    config = {**TINY_MM, "lm": str(lm_run), "encoder": clip, "vision": {}}
    mm = write_yaml(place / "mm.yaml", config)
    for number, (family, mean) in enumerate(
        {"grey-clip": 0.5, "{name: grey-clip, grey: 0.25}": 0.25}.items()
    ):
        run("mm", "train", mm, "--out", number, "--encoder_family", family)
        written = json.loads(Path(f"{number}/checkpoints/step-000003/config.json").read_text())
        assert written["image_mean"] == [mean] * 3
        assert written["vision_config"]["encoder_family"] == {"name": "grey-clip", "grey": mean}
        run("eval", number, "--tiles", json.dumps(TINY_TILES), "--n_images", "2", "--grid",
            "{rows: 1, cols: 2}", "--out", f"e{number}")  # fmt: skip
    out = help_of(capsys, "mm", "train")
    assert "--encoder_family.grey grey-clip: " in out
    argv = ("mm", "train", mm, "--out", "x", "--encoder_family")
    assert "encoder_family: no such encoder family: 'vgg'" in refusal(capsys, *argv, "vgg")
    assert "encoder_family: needs an encoder" in refusal(
        capsys, *argv, "grey-clip", "--encoder", "null"
    )
    assert not Path("x").exists()
