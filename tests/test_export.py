"""Exports: the same bytes whoever writes them and however often they are stopped; right answers."""

import importlib.util
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import gpt2v.data.export.executors as executors
from gpt2v.cli import main
from gpt2v.config import TilesConfig
from gpt2v.configfile import load
from gpt2v.data.export.content import Item, items_of, png
from gpt2v.data.export.folder import markdown_document
from gpt2v.data.export.formats import FORMATS
from gpt2v.data.export.run import export
from gpt2v.data.instructions import ALL, NAMES
from gpt2v.data.pictures import natural_pictures
from gpt2v.data.pieces import Strings
from gpt2v.data.samples import Samples, draw_samples
from gpt2v.data.suites import load_suite, suite_hash, suite_names
from gpt2v.data.text import TextView, documents
from gpt2v.data.tiles import load_bank
from gpt2v.experiments import ExportConfig, SuiteExportConfig
from gpt2v.specs import GridConfig
from helpers import refusal, write_yaml

TILES = {"source": "sprites", "per_class": 20, "size": 8}
GRIDS = {
    "composite": {},
    "multi": {"rows": 2, "cols": 2, "picture": {"layout": "multi"}},
    "ragged": {"rows": [1, 3], "cols": [1, 4], "palette": [2, 5], "form": "csv"},
    "mixed": {
        "rows": [2, 3],
        "instructions": dict.fromkeys(NAMES, 1.0),
        "questions": 6,
        "augment": {"paraphrase": True, "index_bases": [0, 1]},
    },
    "chained": {"rows": 2, "mode": "chained", "picture": {"gap": 2, "border": 1}},
}


def config_of(name: str, n: int = 11, **more) -> ExportConfig:
    data = {"tiles": TILES, "grid": GRIDS[name], "n_images": n, "shard_size": 4, **more}
    return ExportConfig.model_validate(data)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def drawn(config: ExportConfig) -> tuple[Samples, list[list[np.ndarray]], tuple[str, ...]]:
    bank = load_bank(config.tiles)
    index = np.arange(config.n_images)
    samples = draw_samples(config.grid, bank, config.seed, config.split, index)
    return samples, natural_pictures(samples, bank, config.grid.picture), bank.class_names


def texts(config: ExportConfig) -> list[str]:
    samples, _, names = drawn(config)
    grid = config.grid
    view = TextView(grid.form, grid.patches, grid.noise)
    return documents(samples, view, names, Strings())


def decoded(content: bytes | Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content) if isinstance(content, bytes) else content))


# ---- a sample in words ------------------------------------------------------------------------

TABLE = "| bird | frog | frog |\n| cat | bird | bird |\n| horse | bird | bird |\n"
REST = """\
The grid above is size 3 by 3. Each cell contains an object from ['horse', 'bird', 'cat', 'frog'].
What object is in row 2, column 2? A: bird
What object is in row 0, column 1? A: frog
"""


def the_example(bank) -> Item:
    """The sample of the design, made by hand."""
    number = {name: i for i, name in enumerate(bank.class_names)}
    rows = [line.strip("| \n").split(" | ") for line in TABLE.splitlines()]
    classes = np.array([[[number[word] for word in row] for row in rows]])
    samples = Samples(
        index=np.zeros(1, np.int64),
        split=np.full(1, 2),
        key=np.zeros(1, np.uint64),
        classes=classes,
        tiles=np.zeros_like(classes),
        palette=np.array([[number[word] for word in ("horse", "bird", "cat", "frog")]]),
        row=np.array([[2, 0]]),
        col=np.array([[2, 1]]),
    )
    return items_of(samples, GridConfig(), bank)[0]


def test_the_two_examples_of_the_design(bank):
    item = the_example(bank)
    assert item.text == TABLE + REST
    assert markdown_document(item, "example", False) == "![example](example.png)\n" + REST


@settings(max_examples=15)
@given(name=st.sampled_from(list(GRIDS)), seed=st.integers(0, 50), start=st.integers(0, 1000))
def test_items_are_the_samples(bank, name, seed, start):
    grid = config_of(name).grid
    samples = draw_samples(grid, bank, seed, "val", np.arange(start, start + 5))
    items = items_of(samples, grid, bank)
    view = TextView(grid.form, grid.patches, grid.noise)
    assert [i.text for i in items] == documents(samples, view, bank.class_names, Strings())
    for item, own in zip(items, natural_pictures(samples, bank, grid.picture), strict=True):
        assert all(np.array_equal(decoded(a), b) for a, b in zip(item.pictures, own, strict=True))
    for b, item in enumerate(items):
        alone = draw_samples(grid, bank, seed, "val", np.array([start + b]))
        assert items_of(alone, grid, bank)[0] == item  # whatever is drawn beside it
        for q in item.questions:
            if q.choices:
                assert q.choices.count(q.answer) == 1
            if q.instruction == "lookup":
                assert item.classes[q.row][q.col] == q.answer
                assert q.choices == item.palette
            if q.instruction == "count":
                counted = [c for c in item.palette if f" {c}" in q.question]
                cells = [c for row in item.classes for c in row]
                assert str(cells.count(counted[0])) == q.answer


def test_only_what_a_question_names_is_given(bank):
    grid = config_of("mixed").grid
    items = items_of(draw_samples(grid, bank, 0, "val", np.arange(60)), grid, bank)
    given = {(q.instruction, q.row is None, q.col is None) for i in items for q in i.questions}
    assert ("row", False, True) in given
    assert ("column", True, False) in given
    assert {(row, col) for name, row, col in given if name == "count"} == {(True, True)}
    assert len(given) == len(ALL)


def test_pictures_have_no_metadata():
    image = Image.open(io.BytesIO(png(np.zeros((3, 4, 3), np.uint8))))
    assert image.size == (4, 3)
    assert image.info == {}


# ---- each format ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GRIDS))
def test_parquet_loads_with_plain_datasets(tmp_path, monkeypatch, name):
    import datasets

    config = config_of(name)
    export(config, tmp_path / "x", "parquet")
    monkeypatch.chdir(tmp_path)
    found = datasets.load_dataset("./x", cache_dir=str(tmp_path / "cache"))["test"]
    samples, pictures, names = drawn(config)
    assert len(found) == config.n_images
    several = name == "multi"
    for row, own, text, b in zip(found, pictures, texts(config), range(len(found)), strict=True):
        images = row["images"] if several else [row["image"]]
        assert all(np.array_equal(np.asarray(a), p) for a, p in zip(images, own, strict=True))
        assert (row["index"], row["split"], row["text"]) == (b, "test", text)
        chat = "".join(f"{q['question']} {q['answer']}\n" for q in row["questions"])
        assert row["table"] + row["prompt"] + chat == text
        cells = [[names[c] for c in line if c >= 0] for line in samples.classes[b]]
        assert row["classes"] == [line for line in cells if line]
        assert row["palette"] == [names[c] for c in samples.palette[b] if c >= 0]
    card = (tmp_path / "x" / "README.md").read_text()
    assert json.loads((tmp_path / "x" / "manifest.json").read_text())["data_hash"] in card


@pytest.mark.parametrize("name", list(GRIDS))
def test_llava_conversations(tmp_path, name):
    config = config_of(name)
    export(config, tmp_path, "llava")
    entries = json.loads((tmp_path / "test.json").read_text())
    assert len({entry["id"] for entry in entries}) == len(entries)
    said: dict[int, str] = {}
    samples, pictures, _ = drawn(config)
    for entry in entries:
        index, _, place = entry["id"].partition("-")
        number, turns = int(index), entry["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        images = entry["image"] if name == "multi" else [entry["image"]]
        for path, pixels in zip(images, pictures[number], strict=True):
            assert np.array_equal(decoded(tmp_path / path), pixels)
        shown = "<image>\n"
        if name == "multi":
            shown = "".join("<image>" * samples.cols[number] + "\n" for _ in range(2))
        assert turns[0]["value"].startswith(shown)
        assert "<image>" not in "".join(turn["value"] for turn in turns[1:])
        words = turns[0]["value"].removeprefix(shown)
        if int(place or 0):  # of a later question: the prompt has been seen
            words = words.split("\n")[-1]
        rest = [
            f"{a['value']} {b['value']}\n" for a, b in zip(turns[2::2], turns[3::2], strict=True)
        ]
        said[number] = said.get(number, "") + f"{words} {turns[1]['value']}\n" + "".join(rest)
        assert len(turns) == (2 if name != "chained" else 2 * samples.row.shape[1])
    for number, text in enumerate(texts(config)):
        assert text.endswith(said[number])
        assert "\n" not in text.removesuffix(said[number])[:-1].split("\n")[-1]


@pytest.mark.parametrize("name", list(GRIDS))
def test_folder_documents(tmp_path, monkeypatch, name):
    import datasets

    config = config_of(name)
    export(config, tmp_path / "x", "folder")
    rows = (tmp_path / "x" / "test" / "metadata.jsonl").read_text().splitlines()
    samples, pictures, _ = drawn(config)
    for b, (line, text) in enumerate(zip(rows, texts(config), strict=True)):
        row = json.loads(line)
        here = tmp_path / "x" / "test"
        assert (here / row["text_document"]).read_text() == text
        document = here / row["image_document"]
        files = row["file_names"] if name == "multi" else [row["file_name"]]
        marks = [f"![example]({Path(file).name})" for file in files]
        cols = int(samples.cols[b]) if name == "multi" else 1
        lines = [" ".join(marks[i : i + cols]) for i in range(0, len(marks), cols)]
        shown = "".join(f"{line}\n" for line in lines)
        assert document.read_text() == text.replace(row["table"], shown, 1)
        for file, pixels in zip(files, pictures[b], strict=True):
            assert np.array_equal(decoded(here / file), pixels)
            assert (document.parent / Path(file).name).is_file()
            assert Path(file).name.startswith(document.stem)
    monkeypatch.chdir(tmp_path)
    found = datasets.load_dataset("./x", cache_dir=str(tmp_path / "cache"))["test"]
    assert found["index"] == list(range(config.n_images))
    first = found[0]["images"][0] if name == "multi" else found[0]["image"]
    assert np.array_equal(np.asarray(first), pictures[0][0])


@pytest.mark.parametrize("name", [name for name in GRIDS if name != "chained"])
def test_lm_eval_rows(tmp_path, name):
    import pyarrow.parquet as pq

    config = config_of(name)
    export(config, tmp_path, "lm-eval")
    files = sorted((tmp_path / "data").glob("*.parquet"))
    assert [file.name for file in files] == [f"test-{i:05d}-of-00003.parquet" for i in range(3)]
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    said: dict[str, str] = {}
    for row in rows:
        said.setdefault(row["image_id"], "")
        before, line = row["prompt"].rsplit("\n", 1)
        said[row["image_id"]] = (
            said[row["image_id"]] or before + "\n"
        ) + f"{line} {row['answer']}\n"
        if row["choices"]:
            assert row["choices"][row["label"]] == row["answer"]
        else:
            assert row["label"] == -1
            assert row["instruction"] in ("locate", "row", "column", "transcribe")
        assert row["prompt_mm"].split("\n")[-2:] == row["prompt"].split("\n")[-2:]
        assert row["prompt_mm"].startswith("<image>")
    assert list(said.values()) == texts(config)
    _, pictures, _ = drawn(config)
    images = {row["image_id"]: row["images"] if name == "multi" else [row["image"]] for row in rows}
    for stored, own in zip(images.values(), pictures, strict=True):
        for one, pixels in zip(stored, own, strict=True):
            assert np.array_equal(decoded(one["bytes"]), pixels)


# ---- the same bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", list(FORMATS))
def test_executors_write_the_same_bytes(tmp_path, format):
    config = config_of("ragged", shard_size=2)
    found = []
    for name in ("serial", "processes", "ray"):
        if name == "ray" and importlib.util.find_spec("ray") is None:
            continue
        if name != "serial" and format not in ("parquet", "folder"):
            continue  # both start processes, which takes seconds
        workers = None if name == "serial" else 2
        export(config, tmp_path / name, format, name, workers)
        found.append(tree(tmp_path / name))
    assert all(other == found[0] for other in found)
    again = tmp_path / "again"
    export(config, again, format)
    assert tree(again) == found[0]
    manifest = json.loads(found[0]["manifest.json"])
    assert set(manifest["files"]) == set(found[0]) - {"manifest.json"}
    assert manifest["files"]["README.md"]["bytes"] == len(found[0]["README.md"])


def start(config: Path, to: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gpt2v", "data", "export", str(config), "--to", str(to)]
    return subprocess.Popen(
        [*command, "--format", "folder", *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_killed_export_goes_on_to_the_same_bytes(tmp_path, executor):
    data = {"tiles": TILES, "grid": {"rows": 2}, "n_images": 300, "shard_size": 10}
    config = write_yaml(tmp_path / "c.yaml", data)
    export(load(ExportConfig, config, {}), tmp_path / "whole", "folder")
    to = tmp_path / "killed"
    dice = random.Random(executor)
    more = ["--executor", executor] + (["--workers", "2"] if executor == "processes" else [])
    stopped = 0
    for _ in range(5):
        process = start(config, to, *more)
        # Not by the clock alone: a slow machine would never get far enough to be interrupted.
        before = len(list(to.glob(".export/shards/*.json")))
        while process.poll() is None and len(list(to.glob(".export/shards/*.json"))) == before:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.03)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        stopped += 1
    assert stopped >= 2
    process = start(config, to, *more)
    process.wait()
    if executor == "processes":
        time.sleep(0.5)  # workers of the killed ones are on their way out
    assert tree(to) == tree(tmp_path / "whole")
    assert not (to / ".export").exists()


@pytest.mark.parametrize("format", list(FORMATS))
def test_stopped_at_any_write_it_goes_on(tmp_path, monkeypatch, format):
    config = config_of("composite", n=6, shard_size=3)
    export(config, tmp_path / "whole", format)
    whole, real, at = tree(tmp_path / "whole"), os.replace, 0
    while True:
        to, left = tmp_path / f"at{at}", [at]

        def replace(one, other, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(one, other)

        monkeypatch.setattr(os, "replace", replace)
        try:
            export(config, to, format)
        except KeyboardInterrupt:
            assert not (to / "manifest.json").exists()
            monkeypatch.setattr(os, "replace", real)
            export(config, to, format)
            assert tree(to) == whole
            shutil.rmtree(to)
            at += 1
        else:
            break
    assert at == len(whole) + 2 + 2 * 2  # files, two notes, lines and receipts of two shards


def test_only_missing_shards_are_written(tmp_path, monkeypatch):
    config = config_of("composite")
    written = []
    real = executors.Work.write

    def write(self, number):
        if number == 2 and not written[2:]:
            written.append("stopped")
            raise KeyboardInterrupt
        written.append(number)
        return real(self, number)

    monkeypatch.setattr(executors.Work, "write", write)
    with pytest.raises(KeyboardInterrupt):
        export(config, tmp_path / "x", "llava")
    export(config, tmp_path / "x", "llava")
    assert written == [0, 1, "stopped", 2]


def test_stopped_while_it_tidies_up(tmp_path, capsys):
    config = config_of("composite")
    export(config, tmp_path / "x", "parquet")
    whole = tree(tmp_path / "x")
    (tmp_path / "x" / ".export" / "lines").mkdir(parents=True)
    export(config, tmp_path / "x", "parquet")
    assert tree(tmp_path / "x") == whole
    assert not (tmp_path / "x" / ".export").exists()


def test_a_shard_whose_files_are_gone_is_written_again(tmp_path, monkeypatch):
    config = config_of("composite")
    monkeypatch.setattr("gpt2v.data.export.run._finish", lambda *_: None)
    export(config, tmp_path / "x", "llava")
    next((tmp_path / "x" / "images" / "00001").iterdir()).unlink()
    monkeypatch.undo()
    export(config, tmp_path / "x", "llava")
    export(config, tmp_path / "whole", "llava")
    assert tree(tmp_path / "x") == tree(tmp_path / "whole")


# ---- suites -----------------------------------------------------------------------------------


def test_a_suite_is_exported_part_by_part(tmp_path, monkeypatch, capsys):
    import datasets

    monkeypatch.chdir(tmp_path)
    argv = ["data", "export", "multi-image-v1", "--tiles.per_class", "100", "--tiles.size", "8"]
    for format in FORMATS:
        assert main([*argv, "--to", format, "--format", format]) == 0
    suite = load_suite("multi-image-v1")
    for part in suite.parts:
        rows = datasets.load_dataset("./parquet", part.name, cache_dir=str(tmp_path / "cache"))
        assert list(rows) == ["test"]
        assert len(rows["test"]) == part.n_images
        assert (tmp_path / "lm-eval" / part.name / "data").is_dir()
        assert (tmp_path / "llava" / part.name / "test.json").is_file()
        assert (tmp_path / "folder" / part.name / "test" / "metadata.jsonl").is_file()
    manifest = json.loads((tmp_path / "parquet" / "manifest.json").read_text())
    assert [part["name"] for part in manifest["parts"]] == [part.name for part in suite.parts]
    command = "gpt2v data export multi-image-v1 --tiles.size 8 --tiles.per_class 100"
    assert command in (tmp_path / "parquet" / "README.md").read_text()


def test_suites_are_listed(capsys):
    assert main(["data", "suites"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == suite_names()
    assert all(load_suite(line.split()[0]).description in line for line in lines)


def test_a_suite_is_described(capsys):
    tiles = ["--tiles.per_class", "100", "--tiles.size", "8"]
    assert main(["data", "suites", "multi-image-v1", *tiles]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["part", "instruction", "grids", "questions", "chance", "blind", "bag"]
    assert rows[2].split()[:6] == ["3x3", "lookup", "200", "1800", "0.2500", "0.2500"]
    bank = load_bank(TilesConfig(per_class=100, size=8))
    assert last.endswith(suite_hash(load_suite("multi-image-v1"), bank))
    assert len({len(line) for line in (head, *rows)}) == 1


# ---- mistakes ---------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A command of an export, but for its options."""
    data = {"tiles": TILES, "n_images": 3, "shard_size": 2}
    return ["data", "export", write_yaml(tmp_path / "c.yaml", data)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--format", "tfrecord"], "--format: tfrecord: no such format; there are parquet"),
        (["--format", "llava", "--executor", "slurm"], "--executor: slurm: no such executor"),
        (["--format", "llava", "--workers", "2"], "--workers: needs --executor processes or ray"),
        (["--format", "llava", "--grid.size", "2"], "grid.size: unknown key"),
        (["--format", "llava", "--grid.modality", "image"], "grid.modality has no meaning"),
        (["--format", "llava", "--n_images", "0"], "n_images: "),
        (["--format", "llava", "--grid.palette", "11"], "palette: 11 objects"),
        (["--format", "lm-eval", "--grid.mode", "chained"], "grid.mode: lm-eval asks"),
        (["--format", "llava", "--grid.instructions.sum", "1"], "sum: no such instruction"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys, small, more, said):
    to = tmp_path / "x"
    assert said in refusal(capsys, *small, "--to", to, *more)
    assert not to.exists()


def test_unknown_suites(tmp_path, capsys):
    line = refusal(capsys, "data", "export", "grid-9", "--to", tmp_path / "x", "--format", "llava")
    assert "grid-9: no such file or suite; the suites are corruptions-v1, grid-3x3-v1" in line
    assert "no such suite" in refusal(capsys, "data", "suites", "grid-9")
    suite = ["data", "export", "grid-3x3-v1", "--to", tmp_path / "x", "--format", "llava"]
    assert "n_images: unknown key" in refusal(capsys, *suite, "--n_images", "3")
    assert "asks for 10 test tiles" in refusal(capsys, *suite, "--tiles.per_class", "20")
    assert "needs the name of a suite" in refusal(capsys, "data", "suites", "--tiles.size", "8")
    assert list(tmp_path.iterdir()) == []


def test_ray_may_be_missing(tmp_path, capsys, small, monkeypatch):
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    line = refusal(capsys, *small, "--to", tmp_path / "x", "--format", "llava", "--executor", "ray")
    assert "ray is not installed; pip install 'gpt2v[ray]'" in line


def test_what_is_there_is_not_overwritten(tmp_path, capsys, small):
    (tmp_path / "file").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    how = ["--format", "parquet"]
    for more in ([], ["--overwrite"]):
        assert "is a file" in refusal(capsys, *small, "--to", tmp_path / "file", *how, *more)
        line = refusal(capsys, *small, "--to", tmp_path / "home", *how, *more)
        assert "is not empty and is no export" in line
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]
    assert "cannot be written" in refusal(capsys, *small, "--to", tmp_path / "file" / "x", *how)


def test_a_finished_export_is_replaced_only_when_told(tmp_path, capsys, small):
    to = tmp_path / "x"
    words = [str(word) for word in [*small, "--to", to, "--format", "parquet"]]
    assert main(words) == 0
    before = tree(to)
    capsys.readouterr()
    assert "already holds a finished export" in refusal(capsys, *words)
    assert "already holds a finished export" in refusal(capsys, *words, "--seed", "2")
    assert tree(to) == before
    assert main([*words, "--seed", "2", "--overwrite"]) == 0
    assert tree(to).keys() == before.keys()
    assert tree(to) != before
    assert main([*words, "--overwrite"]) == 0
    assert tree(to) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "x"]


def test_another_configuration_does_not_go_on(tmp_path, capsys, small, monkeypatch):
    to = tmp_path / "x"
    words = [str(word) for word in [*small, "--to", to]]
    monkeypatch.setattr("gpt2v.data.export.run._finish", lambda *_: None)
    assert main([*words, "--format", "parquet"]) == 0  # begun, but not finished
    monkeypatch.undo()
    capsys.readouterr()
    line = refusal(capsys, *words, "--format", "parquet", "--n_images", "4")
    assert "n_images: 3 there, 4 now" in line
    line = refusal(capsys, *words, "--format", "folder")
    assert "format: 'parquet' there, 'folder' now" in line
    assert main([*words, "--format", "folder", "--overwrite"]) == 0
    assert not (to / "data").exists()


def test_a_broken_disk_is_one_line(tmp_path, capsys, small, monkeypatch):
    def broken(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("gpt2v.data.export.files.os.fsync", broken)
    line = refusal(capsys, *small, "--to", tmp_path / "x", "--format", "llava")
    assert "cannot be written: Input/output error" in line


def test_a_worker_with_other_versions_is_refused(tmp_path):
    from gpt2v.data.export.plan import plan_of
    from gpt2v.data.export.shards import Work
    from gpt2v.errors import UserError

    work = Work(plan_of(config_of("composite")), "llava", str(tmp_path), {"pillow": "1.0"})
    with pytest.raises(UserError, match=r"a worker has pillow .*, but the export 1.0"):
        work.write(0)


def test_the_given_configurations_run(tmp_path):
    for file in sorted((Path(__file__).parents[1] / "configs" / "data").glob("*.yaml")):
        small = {"tiles.per_class": 20, "n_images": 5, "shard_size": 2}
        config = load(ExportConfig, file, small)
        for format in FORMATS:
            export(config, tmp_path / file.stem / format, format)
    config = SuiteExportConfig(suite="grid-3x3-v1", tiles=TilesConfig(per_class=100, size=8))
    assert export(config, tmp_path / "suite", "parquet").name == "manifest.json"
