"""Exports: every format holds the samples, their pictures and the right answers."""

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exports import GRIDS, config_of
from gpt2v.cli.main import main
from gpt2v.config.grids import GridConfig
from gpt2v.config.load import load
from gpt2v.config.measuring import ExportConfig, SuiteExportConfig
from gpt2v.config.pictures import TilesConfig
from gpt2v.data.export.folder import markdown_document
from gpt2v.data.export.formats import FORMATS
from gpt2v.data.export.run import export
from gpt2v.data.grids.instructions import ALL
from gpt2v.data.grids.samples import Samples, draw_samples
from gpt2v.data.render.examples import Example, examples_of
from gpt2v.data.render.pictures import natural_pictures
from gpt2v.data.render.text import documents
from gpt2v.data.render.views import TextView
from gpt2v.data.suites.load import load_suite, suite_names
from gpt2v.data.suites.samples import suite_hash
from gpt2v.data.text_pieces import Strings
from gpt2v.data.tiles.load import load_bank
from gpt2v.packaged import CONFIGS


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


def the_example(bank) -> Example:
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
    return examples_of(samples, GridConfig(), bank)[0]


def test_the_two_examples_of_the_design(bank):
    item = the_example(bank)
    assert item.text == TABLE + REST
    assert markdown_document(item, ["example.png"]) == "![example](example.png)\n" + REST


def assert_same(one: Example, other: Example) -> None:
    assert dataclasses.replace(one, pictures=()) == dataclasses.replace(other, pictures=())
    assert len(one.pictures) == len(other.pictures)
    for a, b in zip(one.pictures, other.pictures, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=15)
@given(name=st.sampled_from(list(GRIDS)), seed=st.integers(0, 50), start=st.integers(0, 1000))
def test_items_are_the_samples(bank, name, seed, start):
    grid = config_of(name).grid
    samples = draw_samples(grid, bank, seed, "val", np.arange(start, start + 5))
    items = examples_of(samples, grid, bank)
    view = TextView(grid.form, grid.patches, grid.noise)
    assert [i.text for i in items] == documents(samples, view, bank.class_names, Strings())
    for item, own in zip(items, natural_pictures(samples, bank, grid.picture), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(item.pictures, own, strict=True))
        assert all(np.array_equal(decoded(a), b) for a, b in zip(item.pngs, own, strict=True))
    for b, item in enumerate(items):
        alone = draw_samples(grid, bank, seed, "val", np.array([start + b]))
        assert_same(examples_of(alone, grid, bank)[0], item)  # whatever else is drawn
        assert item.questions == [q.question for q in item.asked]
        assert item.answers == [q.answer for q in item.asked]
        for q in item.asked:
            if q.choices:
                assert q.choices.count(q.answer) == 1
            if q.instruction == "lookup":
                assert item.classes[q.row][q.col] == q.answer
                assert q.choices == item.palette
            if q.instruction == "count":
                counted = [c for c in item.palette if f" {c}" in q.question]
                cells = [c for row in item.classes for c in row]
                assert str(cells.count(counted[0])) == q.answer


def test_a_question_gives_only_the_row_and_column_it_names(bank):
    grid = config_of("mixed").grid
    items = examples_of(draw_samples(grid, bank, 0, "val", np.arange(60)), grid, bank)
    given = {(q.instruction, q.row is None, q.col is None) for i in items for q in i.asked}
    assert ("row", False, True) in given
    assert ("column", True, False) in given
    assert {(row, col) for name, row, col in given if name == "count"} == {(True, True)}
    assert len(given) == len(ALL)


def test_pictures_have_no_metadata(bank):
    pixels = np.zeros((3, 4, 3), np.uint8)
    (png,) = dataclasses.replace(the_example(bank), pictures=(pixels,)).pngs
    image = Image.open(io.BytesIO(png))
    assert image.size == (4, 3)
    assert image.info == {}


# ---- each format ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GRIDS))
def test_parquet_loads_with_plain_datasets(tmp_path, monkeypatch, name):
    import datasets

    config = config_of(name)
    export(config, tmp_path / "x", "parquet")
    monkeypatch.chdir(tmp_path)
    loaded = datasets.load_dataset("./x", cache_dir=str(tmp_path / "cache"))["test"]
    samples, pictures, names = drawn(config)
    assert len(loaded) == config.n_images
    several = name == "multi"
    for row, own, text, b in zip(loaded, pictures, texts(config), range(len(loaded)), strict=True):
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
        index, _, slot = entry["id"].partition("-")
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
        if int(slot or 0):  # a later question: the prompt was already compared
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
    loaded = datasets.load_dataset("./x", cache_dir=str(tmp_path / "cache"))["test"]
    assert loaded["index"] == list(range(config.n_images))
    first = loaded[0]["images"][0] if name == "multi" else loaded[0]["image"]
    assert np.array_equal(np.asarray(first), pictures[0][0])


def test_lm_eval_rows_of_an_incomplete_copy_are_refused(tmp_path, monkeypatch):
    from gpt2v.data.export.lm_eval_rows import image

    export(config_of("composite"), tmp_path / "x", "lm-eval")
    monkeypatch.setattr("gpt2v.data.export.lm_eval_rows.__file__", str(tmp_path / "x" / "rows.py"))
    (tmp_path / "x" / "data" / "test-00001-of-00003.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="data: 2 of 3 files of the test split are here"):
        image("data", "fewshot", "lookup")


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
            assert row["instruction"] in ("locate", "row", "column", "transcribe", "matrix")
        assert row["prompt_mm"].split("\n")[-2:] == row["prompt"].split("\n")[-2:]
        assert row["prompt_mm"].startswith("<image>")
    assert list(said.values()) == texts(config)
    _, pictures, _ = drawn(config)
    images = {row["image_id"]: row["images"] if name == "multi" else [row["image"]] for row in rows}
    for stored, own in zip(images.values(), pictures, strict=True):
        for one, pixels in zip(stored, own, strict=True):
            assert np.array_equal(decoded(one["bytes"]), pixels)
    written = {path.stem: path.read_text() for path in tmp_path.glob("*.yaml")}
    tasks = [text for text in written.values() if "output_type: generate_until" in text]
    assert tasks
    for text in tasks:  # no token is shorter than a byte
        asked = re.search(r"asked: (\w+)", text)[1]
        answers = [row["answer"] for row in rows if row["instruction"] == asked]
        assert int(re.search(r"max_gen_toks: (\d+)", text)[1]) > max(map(len, answers))


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


def test_the_given_configurations_run(tmp_path):
    for file in sorted((CONFIGS.root / "data").glob("*.yaml")):
        small = {"tiles.per_class": 20, "n_images": 5, "shard_size": 2}
        config = load(ExportConfig, file, small)
        for format in FORMATS:
            export(config, tmp_path / file.stem / format, format)
    config = SuiteExportConfig(suite="grid-3x3-v1", tiles=TilesConfig(per_class=100, size=8))
    assert export(config, tmp_path / "suite", "parquet").name == "manifest.json"
